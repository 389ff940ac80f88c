"""What a latent uses. Glossary: `lgmamba.tradeoff`."""

import torch
from torch import Tensor


def dimensions_used(z: Tensor, labels: Tensor, n_classes: int) -> dict[str, Tensor]:
    """Participation ratios and spread by class of the latents of R runs.

    The participation ratio of a covariance with eigenvalues l is (sum l)^2 / sum l^2: the number of dimensions that would
    give it if all were used alike.

    Args:
        z: (R, N, m) latents.
        labels: (N,) classes, each of which occurs.
    Returns:
        each (R,): `used` of z; `used_classes` of the class means, each as often as its class; `eta2` the share of the
        variance of z that lies between classes. nan where z does not vary.
    """
    z = z.double()
    z = z - z.mean(1, keepdim=True)
    one_hot = torch.nn.functional.one_hot(labels, n_classes).to(z)  # (N, K)
    means = one_hot.T @ z / one_hot.sum(0)[:, None]  # (R, K, m)
    between = (means.mT * (one_hot.sum(0) / len(labels))) @ means  # (R, m, m)
    within_all = z.mT @ z / z.shape[1]
    return {
        "used": participation(within_all),
        "used_classes": participation(between),
        "eta2": _trace(between) / _trace(within_all),
    }


def participation(covariance: Tensor) -> Tensor:
    """(R, m, m) -> (R,); nan of a covariance that is zero."""
    return _trace(covariance) ** 2 / (covariance**2).sum((-2, -1))


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two gradients of each run: (R, ...) twice -> (R,)."""
    return torch.nn.functional.cosine_similarity(a.flatten(1).double(), b.flatten(1).double(), dim=1)
