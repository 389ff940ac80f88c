"""The official functions' names, arguments and layouts on this package's kernels, and a switch that puts them into models.

    from lgmamba import compat
    y = compat.selective_scan_fn(u, delta, A, B, C, D, z=z, delta_bias=bias, delta_softplus=True)

    with compat.patch():  # or compat.patch() for good
        model(**batch)  # a Mamba of transformers or mamba_ssm

Glossary, official name: meaning, shape (name in `lgmamba.scan`)

    u             scan input                      (B, D, L)                               x
    delta         step size                       (B, D, L)                               dt
    A             state matrix, real              (D, N)                                  A
    B, C          projections                     (B, N, L), (B, G, N, L) or (D, N)       Bmat, Cmat
    D             skip weight, or None            (D,)                                    Dskip
    z             gate, or None                   (B, D, L)                               z
    delta_bias    added to delta, or None         (D,)                                    dt_bias
"""

import importlib
import importlib.util
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.scan import selective_scan


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `mamba_ssm.ops.selective_scan_interface.selective_scan_fn`, on any device.

    B and C of shape (D, N) do not change over time; they are served as one group for each channel, which is correct and
    not fast. Gradients flow through the last state too. Shapes: see the module.

    Returns:
        out: (B, D, L) in u's dtype, a transposed view; followed, if asked for, by the last state (B, D, N), float32.
    Raises:
        TypeError, ValueError: an argument that does not fit, named as in the glossary's first or last column.
    Reference: Gu & Dao 2023 (arXiv:2312.00752), section 3; mirrors mamba_ssm `selective_scan_fn`.
    """
    for name, v in dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias).items():
        if v is not None and not isinstance(v, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(v).__name__}")
        if v is None and name in ("u", "delta", "A", "B", "C"):
            raise TypeError(f"{name} must be a torch.Tensor; got None")
        if v is not None and v.is_complex():
            raise ValueError(f"{name} is {v.dtype}; complex state matrices are not supported here")
    for name, v in dict(u=u, delta=delta, z=z).items():
        if v is not None and v.ndim != 3:
            raise ValueError(f"{name} must be (B, D, L); got {tuple(v.shape)}")
    projections = [_by_group(name, v, u) for name, v in (("B", B), ("C", C))]
    G = max(v.shape[2] for v in projections)
    Bmat, Cmat = (v if v.shape[2] in (1, G) else v.repeat_interleave(G // v.shape[2], dim=2) for v in projections)
    x, dt, gate = (v if v is None else v.mT for v in (u, delta, z))
    options = dict(dt_softplus=delta_softplus, return_last_state=return_last_state)
    found = selective_scan(x, dt, A, Bmat, Cmat, D, gate, delta_bias, **options)
    return (found[0].mT, found[1]) if return_last_state else found.mT


def _by_group(name: str, v: Tensor, u: Tensor) -> Tensor:
    """A projection as (B, L, G, N)."""
    batch, channels, L = u.shape
    if v.ndim == 2:
        if len(v) != channels:
            raise ValueError(f"{name} of two axes must be (D, N) with D = {channels} as in u; got {tuple(v.shape)}")
        return v.expand(batch, L, *v.shape)
    if v.ndim == 3:
        return v.mT[:, :, None]
    if v.ndim == 4:
        return v.movedim(-1, 1)
    raise ValueError(f"{name} must be (B, N, L), (B, G, N, L) or (D, N); got {tuple(v.shape)}")


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """As `causal_conv1d.causal_conv1d_fn`: a depthwise causal convolution, on any device.

    Args:
        x: (B, D, L).
        weight: (D, W), tap W - 1 on the current step.
        bias: (D,).
        seq_idx: not supported.
        initial_states: (B, D, W - 1), the inputs before the first.
        return_final_states: also return the last W - 1 inputs.
        final_states_out: (B, D, W - 1), written with them.
        activation: None, "silu" or "swish" (the same).
    Returns:
        (B, D, L) in x's dtype, a transposed view or not; followed, if asked for, by the final states (B, D, W - 1).
    Raises:
        NotImplementedError: several sequences in one row.
        ValueError: another activation, or shapes that do not fit.
    """
    if seq_idx is not None:
        raise NotImplementedError("seq_idx (several sequences in one row) is not supported; give each its own row")
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"activation must be None, 'silu' or 'swish'; got {activation!r}")
    if x.ndim != 3 or weight.ndim != 2 or len(weight) != x.shape[1]:
        raise ValueError(f"x must be (B, D, L) and weight (D, W); got {tuple(x.shape)} and {tuple(weight.shape)}")
    before = weight.shape[1] - 1
    if initial_states is None:
        initial_states = x.new_zeros(*x.shape[:2], before)
    if activation is None:
        padded = torch.cat([initial_states.to(x.dtype), x], dim=-1)
        taps, offset = weight.to(x.dtype)[:, None], None if bias is None else bias.to(x.dtype)
        y, final = F.conv1d(padded, taps, offset, groups=len(weight)), padded[..., x.shape[2] :]
    else:
        offset = weight.new_zeros(len(weight)) if bias is None else bias
        y, final = (v.mT for v in causal_conv1d_silu(x.mT, weight, offset, initial_states.mT))
    if final_states_out is not None:
        final = final_states_out.copy_(final)
    return (y, final) if return_final_states else y


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """As `mamba_ssm.ops.selective_scan_interface.mamba_inner_fn`: a block between its first and after its last projection.

    Args:
        xz: (B, 2 D, L), the first projection's output: scan input and gate.
        conv1d_weight: (D, 1, W).
        conv1d_bias: (D,).
        x_proj_weight: (R + N + N, D), or without the rows of a B or C that is given.
        delta_proj_weight: (D, R).
        out_proj_weight: (d, D).
        out_proj_bias: (d,).
        A, B, C, D, delta_bias, delta_softplus: as in `selective_scan_fn`; B and C are projected from the input where None.
        B_proj_bias, C_proj_bias: (N,), added to the projected ones.
        checkpoint_lvl: has no meaning here.
        b_rms_weight, c_rms_weight, dt_rms_weight: (N,), (N,), (R,) scales of a root-mean-square norm, or None for no norm.
        b_c_dt_rms_eps: added to the mean square.
    Returns:
        (B, L, d).
    """
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d_fn(x, conv1d_weight[:, 0], conv1d_bias, activation="silu")
    projected = F.linear(x.mT, x_proj_weight)  # (B, L, R + ...)
    rank, N = delta_proj_weight.shape[1], A.shape[1]
    low = _norm(projected[..., :rank], dt_rms_weight, b_c_dt_rms_eps)
    delta = F.linear(low, delta_proj_weight).mT
    if B is None:
        B = projected[..., rank : rank + N]
        B = _norm(B if B_proj_bias is None else B + B_proj_bias, b_rms_weight, b_c_dt_rms_eps).mT
    if C is None:
        C = projected[..., -N:]
        C = _norm(C if C_proj_bias is None else C + C_proj_bias, c_rms_weight, b_c_dt_rms_eps).mT
    y = selective_scan_fn(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return F.linear(y.mT.to(out_proj_weight.dtype), out_proj_weight, out_proj_bias)


def _norm(v: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return v if weight is None else F.rms_norm(v, v.shape[-1:], weight, eps)


# ---- models of other packages ---------------------------------------------------------------------------------------


def _transformers_scan(hidden_states, dt, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, **options):
    """`mamba_selective_scan` of transformers: with options that choose between its own implementations."""
    last = options.get("return_last_state", False)
    return selective_scan_fn(hidden_states, dt, A, B, C, D, z, delta_bias, delta_softplus, last)


def _transformers_conv(hidden_states, weight, bias=None, activation=None, seq_idx=None, **_):
    """`causal_conv1d_fn` of transformers, which hands on whatever its model was called with."""
    return causal_conv1d_fn(hidden_states, weight, bias, seq_idx, activation=activation)


def _transformers_inner(*_, **__) -> None:
    """`mamba_inner_fn` of transformers: None sends it on to the other two, which mask padding after the convolution too."""


_TRANSFORMERS = {
    "mamba_selective_scan": _transformers_scan,
    "causal_conv1d_fn": _transformers_conv,
    "mamba_inner_fn": _transformers_inner,
}
_OFFICIAL = {
    "selective_scan_fn": selective_scan_fn,
    "mamba_inner_fn": mamba_inner_fn,
    "causal_conv1d_fn": causal_conv1d_fn,
}
REPLACED = {
    "transformers.models.mamba.modeling_mamba": _TRANSFORMERS,
    "transformers.models.falcon_mamba.modeling_falcon_mamba": _TRANSFORMERS,
    "mamba_ssm.ops.selective_scan_interface": _OFFICIAL,
    "mamba_ssm.modules.mamba_simple": _OFFICIAL,
}
"""Module -> the functions that its models look up there at each call, and what takes their places."""


class Patch:
    """Functions of other packages that are replaced by this package's until `restore`, or the end of a `with`."""

    def __init__(self):
        self._before: list[tuple[ModuleType, str, object]] = []

    @property
    def replaced(self) -> list[str]:
        """Names of the functions, with their modules'."""
        return [f"{module.__name__}.{name}" for module, name, _ in self._before]

    def replace(self, module: ModuleType, functions: dict) -> None:
        """Put these functions where the module has functions of these names."""
        for name, function in functions.items():
            if hasattr(module, name):
                self._before.append((module, name, getattr(module, name)))
                setattr(module, name, function)

    def restore(self) -> None:
        """Put back what was there."""
        while self._before:
            module, name, function = self._before.pop()
            setattr(module, name, function)

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *_) -> None:
        self.restore()


def patch() -> Patch:
    """Make the Mamba-1 models of transformers and mamba_ssm use this package's scan and convolution.

    Models that exist already are served too: they look the functions up at each call. Covers training, and prompts while
    text is generated; single steps after the prompt stay as they are.

    Returns:
        The patch: a context manager that restores at its end; `replaced` names what it replaced, `restore()` undoes it.
    Raises:
        RuntimeError: there is nothing to replace: neither package is installed, or in a version that has other names.
    """
    made = Patch()
    for name, functions in REPLACED.items():
        if importlib.util.find_spec(name.split(".")[0]) is None:
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:  # an older version, or one without its own kernels
            continue
        made.replace(module, functions)
    scans = [name for name in made.replaced if "selective_scan" in name.rsplit(".", 1)[1]]
    if not scans:
        made.restore()
        raise RuntimeError(
            "no model to patch: neither mamba_ssm nor a transformers whose Mamba looks up `mamba_selective_scan` "
            "(5.24 does) can be imported here"
        )
    return made
