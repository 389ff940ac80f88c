"""Inputs, cotangents and the error measure for tests of the selective scan, on any backend and device."""

from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lgmamba.scan import api, selective_scan


def backends(device: str = "cpu") -> list[str]:
    """Those that run on this kind of device. Of numba it is enough to be installed: every process of the tests asks this while it
    collects them, and to prove that backend is to compile it, 15 seconds of a processor in a new checkout."""
    names = [name for name in api.BACKENDS if name != "cpu_numba" and api.unavailable(name, device) is None]
    return [*names, "cpu_numba"] if device == "cpu" and find_spec("numba") else names


DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
RUNNABLE = [(backend, device) for device in DEVICES for backend in backends(device) if backend != "reference"]
"""Every (backend, device) to be compared with the reference here."""

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 5e-3, torch.float16: 1e-3}
"""Relative RMS error: some 40 roundings of float32; one or two roundings of the output for the half types."""


@dataclass(frozen=True)
class Case:
    """Sizes and options of one call; `every` is `states_every`, `G` None means B and C without an axis of groups."""

    B: int
    L: int
    D: int
    N: int
    z: bool = True
    bias: bool = True
    softplus: bool = True
    h0: bool = True
    every: int | None = None
    last: bool = True
    seed: int = 0
    G: int | None = None
    skip: bool = True

    def __str__(self) -> str:
        """Readable test id."""
        groups, every = f"-G{self.G}" if self.G else "", f"-every{self.every}" if self.every else ""
        return f"B{self.B}-L{self.L}-D{self.D}{groups}-N{self.N}{every}"

    def plain(self) -> "Case":
        """The same sizes with nothing optional."""
        return replace(self, skip=False, z=False, bias=False, softplus=False, h0=False, every=None, last=False)


def make_inputs(case: Case, dtype=torch.float64, device="cpu") -> dict[str, Tensor | None]:
    """Tensors by the argument names of `selective_scan`, drawn in float64 and then cast: equal up to rounding per dtype.

    Step sizes lie around 0.1 and A in [-16, -0.1], so that fast and slow states are both there.
    """
    g = torch.Generator().manual_seed(case.seed)
    B, L, D, N = case.B, case.L, case.D, case.N
    BLGN = (B, L, N) if case.G is None else (B, L, case.G, N)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    raw, bias = normal(B, L, D) - 2, 0.3 * normal(D)
    if not case.softplus:
        bias = bias.abs()  # a step size stays positive
    inputs = {
        "x": normal(B, L, D),
        "dt": raw if case.softplus else torch.nn.functional.softplus(raw),
        "A": -torch.exp(torch.empty(D, N, dtype=torch.float64).uniform_(-2.3, 2.77, generator=g)),
        "Bmat": normal(*BLGN),
        "Cmat": normal(*BLGN),
        "Dskip": normal(D) if case.skip else None,
        "z": normal(B, L, D) if case.z else None,
        "dt_bias": bias if case.bias else None,
        "h0": normal(B, D, N) if case.h0 else None,
    }
    return {k: None if v is None else v.to(device, dtype) for k, v in inputs.items()}


def options(case: Case) -> dict:
    """The arguments of `selective_scan` that are not tensors."""
    return {"dt_softplus": case.softplus, "states_every": case.every, "return_last_state": case.last}


def run(
    inputs: dict[str, Tensor | None], case: Case, backend: str, gradients: bool = True, loss_seed: int | None = None
) -> dict[str, Tensor]:
    """Outputs by name ("y", "last", "states") and, under "d <argument>", the gradients of all tensors in `inputs`.

    The loss is a fixed random weighting of all outputs.
    """
    leaves = {k: None if v is None else v.detach().requires_grad_(gradients) for k, v in inputs.items()}
    with torch.set_grad_enabled(gradients):
        result = selective_scan(**leaves, **options(case), backend=backend)
    names = ["y"] + ["last"] * case.last + ["states"] * (case.every is not None)
    outputs = dict(zip(names, result if isinstance(result, tuple) else (result,), strict=True))
    got = {k: v.detach() for k, v in outputs.items()}
    if gradients:
        used = {k: v for k, v in leaves.items() if v is not None}
        through = {k: v for k, v in outputs.items() if v.numel()}
        weights = [cotangent(k, v, case.seed if loss_seed is None else loss_seed) for k, v in through.items()]
        grads = torch.autograd.grad(list(through.values()), list(used.values()), weights)
        got |= {f"d {k}": g for k, g in zip(used, grads, strict=True)}
    return got


def cotangent(name: str, like: Tensor, seed: int) -> Tensor:
    """The loss weights of one output: the same numbers for every dtype and device, rounded to bfloat16."""
    g = torch.Generator().manual_seed(seed + sum(map(ord, name)))
    return torch.randn(like.shape, generator=g, dtype=torch.float64).bfloat16().to(like.device, like.dtype)


def relative_rms(got: Tensor, want: Tensor, scale: float | None = None) -> float:
    """RMS of the difference over `scale`, by default the RMS of `want` (1 where that is zero); NaN if `got` has one."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    if want.numel() == 0:
        return 0.0
    if scale is None:
        scale = want.square().mean().sqrt().item() or 1.0
    return (got - want).square().mean().sqrt().item() / scale


def assert_close(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float, scales=None) -> None:
    """All entries within the relative RMS tolerance; reports every one that is not."""
    assert got.keys() == want.keys()
    errors = {k: relative_rms(got[k], want[k], (scales or {}).get(k)) for k in want}
    wrong = {k: f"{e:.1e}" for k, e in errors.items() if not e <= tolerance}
    assert not wrong, f"relative RMS error above {tolerance:.0e}: {wrong}"


def assert_matches_reference(case: Case, backend: str, device: str, dtypes=None, gradients: bool = True) -> None:
    """Values and gradients against the float64 reference on the same (rounded) inputs.

    Args:
        case: sizes and options.
        backend: name of the backend under test.
        device: where it runs.
        dtypes: one dtype, or argument name -> dtype with "x" present (others float32); float32 by default.
        gradients: whether to compare them too.
    """
    dtypes = dtypes or torch.float32
    per_name = dtypes if isinstance(dtypes, dict) else {"default": dtypes}
    inputs = _rounded(make_inputs(case, device=device), per_name)
    coarsest = max((TOLERANCE[v.dtype] for v in inputs.values() if v is not None), default=0.0)
    got = run(inputs, case, backend, gradients)
    assert got["y"].dtype == inputs["x"].dtype
    want, scales = _reference(case, tuple(per_name.items()), gradients)
    assert_close(got, want, coarsest, scales)


def _rounded(inputs: dict[str, Tensor | None], per_name: dict[str, torch.dtype]) -> dict[str, Tensor | None]:
    other = per_name.get("default", torch.float32)
    return {k: None if v is None else v.to(per_name.get(k, other)) for k, v in inputs.items()}


@cache
def _reference(case: Case, per_name: tuple[tuple[str, torch.dtype], ...], gradients: bool):
    """What the reference gives on rounded inputs, and its scales: the same for every backend and device."""
    rounded = _rounded(make_inputs(case), dict(per_name))
    exact = {k: None if v is None else v.double() for k, v in rounded.items()}
    want = run(exact, case, "reference", gradients)
    return want, _scales_of_few_numbers(exact, case, want)


def _scales_of_few_numbers(exact: dict[str, Tensor | None], case: Case, want: dict[str, Tensor]) -> dict[str, float]:
    """RMS over six draws of the loss weights, for gradients of so few numbers that one draw may cancel to almost zero.

    Such a sum over batch and steps has the rounding error of its terms, however small it comes out itself.
    """
    few = [k for k, v in want.items() if k.startswith("d ") and v.numel() < 8]
    if not few:
        return {}
    draws = [want] + [run(exact, case, "reference", loss_seed=seed) for seed in range(2001, 2006)]
    return {k: torch.stack([d[k] for d in draws]).square().mean().sqrt().item() or 1.0 for k in few}
