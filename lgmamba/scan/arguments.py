"""What `selective_scan` accepts: every error names the argument, what was found and what was expected. Glossary: `lgmamba.scan`."""

import torch
from torch import Tensor

MAX_STATE = 256
"""Largest state size N that every backend must serve."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
REQUIRED = ("x", "dt", "A", "Bmat", "Cmat")


def check_arguments(tensors: dict[str, Tensor | None], states_every: int | None) -> None:
    """Raise unless the arguments fit together.

    Args:
        tensors: all tensor arguments of `selective_scan` by name; None where absent.
        states_every: as in `selective_scan`.
    Raises:
        TypeError: an argument is not a tensor (or an integer), or a required one is None.
        ValueError: a shape, dtype, layout, device or size that does not fit.
    """
    for name, v in tensors.items():
        if v is None and name not in REQUIRED:
            continue
        if not isinstance(v, Tensor):
            optional = "" if name in REQUIRED else " or None"
            raise TypeError(f"{name} must be a torch.Tensor{optional}; got {type(v).__name__}")
        _check_kind(name, v, tensors["x"])
    _check_shapes(tensors)
    if states_every is None:
        return
    if isinstance(states_every, bool) or not isinstance(states_every, int | torch.SymInt):
        raise TypeError(f"states_every must be an integer or None; got {states_every!r}")
    if states_every < 1:
        raise ValueError(f"states_every must be >= 1; got {states_every}")


def _check_kind(name: str, v: Tensor, x: Tensor) -> None:
    if v.is_complex():
        raise ValueError(f"{name} must be real; got {v.dtype} (complex state matrices are not supported)")
    if not v.is_floating_point():
        raise ValueError(f"{name} must be floating point; got {v.dtype}")
    if v.dtype not in DTYPES:
        raise ValueError(f"{name} must be one of {', '.join(map(str, DTYPES))}; got {v.dtype}")
    if v.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor; got {v.layout} (call .to_dense())")
    if v.device != x.device:
        raise ValueError(f"{name} is on {v.device}, x on {x.device}; all arguments must share one device")


def _check_shapes(tensors: dict[str, Tensor | None]) -> None:
    x, A = tensors["x"], tensors["A"]
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"x must be (B, L, D) with no empty axis; got {tuple(x.shape)}")
    if A.ndim != 2:
        raise ValueError(f"A must be (D, N); got {tuple(A.shape)}")
    (B, L, D), N = x.shape, A.shape[1]
    groups = {name: tensors[name].shape[2] for name in ("Bmat", "Cmat") if tensors[name].ndim == 4}
    for name, G in groups.items():
        if G < 1 or D % G:
            raise ValueError(f"{name} is (B, L, G, N) with G = {G} groups, which does not divide D = {D} of x")
    if len(groups) == 2 and 1 not in groups.values() and groups["Bmat"] != groups["Cmat"]:
        raise ValueError(f"Bmat has {groups['Bmat']} groups, Cmat {groups['Cmat']}; they must be the same, or 1")
    projection = {name: (B, L, groups[name], N) if name in groups else (B, L, N) for name in ("Bmat", "Cmat")}
    expected = {
        "dt": (B, L, D),
        "A": (D, N),
        **projection,
        "Dskip": (D,),
        "z": (B, L, D),
        "dt_bias": (D,),
        "h0": (B, D, N),
    }
    for name, shape in expected.items():
        v = tensors[name]
        if v is not None and tuple(v.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} to fit x {(B, L, D)} and A {(D, N)}; got {tuple(v.shape)}"
            )
    if not 1 <= N <= MAX_STATE:
        raise ValueError(f"the state size N must be in 1..{MAX_STATE}; got {N}")
