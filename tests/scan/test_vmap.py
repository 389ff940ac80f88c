"""`torch.vmap` over calls of the scan, as trainings side by side make them: each run gets what a call of its own gives."""

from dataclasses import replace

import pytest
import torch

from lgmamba.scan import selective_scan
from tests.scan.cases import RUNNABLE, TOLERANCE, Case, assert_close, make_inputs, options
from tests.scan.conftest import poisoned_memory  # noqa: F401  (a fixture that acts by being here)

SERVED = [
    *(pair for pair in RUNNABLE if pair[0] != "mamba_ssm"),  # a function of its own that vmap cannot look into
    ("reference", "cpu"),
]
R = 3
CASES = [
    Case(B=4, L=20, D=32, N=8, h0=False, last=False),
    Case(B=2, L=37, D=18, N=5, every=6),
    Case(B=2, L=20, D=12, N=4, G=3),
    Case(B=1, L=300, D=16, N=16, h0=False),
    Case(B=3, L=9, D=10, N=4).plain(),
]
PARAMETERS = ("A", "Dskip", "dt_bias")


def call(case: Case, backend: str):
    names = tuple(make_inputs(case))

    def scan(*tensors):
        found = selective_scan(**dict(zip(names, tensors, strict=True)), **options(case), backend=backend)
        return found if isinstance(found, tuple) else (found,)

    return scan


def with_gradients(f, leaves, cotangents):
    outputs = f(*leaves)
    used = [v for v in leaves if v is not None]
    return [v.detach() for v in outputs], torch.autograd.grad(outputs, used, cotangents)


def stacked_inputs(case: Case, device: str) -> dict[str, torch.Tensor | None]:
    each = [make_inputs(replace(case, seed=seed), torch.float32, device) for seed in range(R)]
    return {k: None if each[0][k] is None else torch.stack([one[k] for one in each]) for k in each[0]}


@pytest.mark.parametrize(("backend", "device"), SERVED, ids=lambda v: v)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shared", [(), PARAMETERS, ("x", "Bmat")], ids=["all", "one model", "one input"])
def test_each_run_gets_what_its_own_call_gives(backend, device, case, shared):
    """`shared` are the inputs that all runs have in common, whose gradients are then summed over runs."""
    inputs = stacked_inputs(case, device)
    inputs = {k: v if v is None or k not in shared else v[0] for k, v in inputs.items()}
    leaves = [None if v is None else v.requires_grad_() for v in inputs.values()]
    in_dims = tuple(None if v is None or k in shared else 0 for k, v in inputs.items())
    f = call(case, backend)

    def one_by_one(*tensors):
        runs = [f(*(v if dim is None else v[r] for v, dim in zip(tensors, in_dims, strict=True))) for r in range(R)]
        return [torch.stack(each) for each in zip(*runs, strict=True)]

    cotangents = [torch.randn_like(v) for v in one_by_one(*leaves)]
    got, want = (with_gradients(g, leaves, cotangents) for g in (torch.vmap(f, in_dims), one_by_one))
    names = [k for k, v in inputs.items() if v is not None]
    for found, expected, label in ((got[0], want[0], range(len(want[0]))), (got[1], want[1], names)):
        named = [dict(zip(map(str, label), values, strict=True)) for values in (found, expected)]
        assert_close(*named, TOLERANCE[torch.float32])


@pytest.mark.parametrize(("backend", "device"), SERVED, ids=lambda v: v)
def test_a_run_that_is_nan_changes_no_bit_of_the_others(backend, device):
    case = CASES[0]
    inputs = stacked_inputs(case, device)
    poisoned = {k: v if v is None else v.clone() for k, v in inputs.items()}
    for name in ("A", "x", "dt_bias"):
        poisoned[name][1] = float("nan")
    results = []
    for given in (inputs, poisoned):
        leaves = [None if v is None else v.requires_grad_() for v in given.values()]
        in_dims = tuple(None if v is None else 0 for v in leaves)
        f = torch.vmap(call(case, backend), in_dims)
        cotangents = [torch.ones(R, case.B, case.L, case.D, device=device)]
        outputs, gradients = with_gradients(f, leaves, cotangents)
        results.append([*outputs, *gradients])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean[[0, 2]], dirty[[0, 2]])
    assert results[1][0][1].isnan().all()


@pytest.mark.parametrize(("backend", "device"), SERVED, ids=lambda v: v)
def test_nothing_is_kept_for_a_backward_that_will_not_come(backend, device):
    case = CASES[0]
    inputs = stacked_inputs(case, device)
    in_dims = tuple(None if v is None else 0 for v in inputs.values())
    (y,) = torch.vmap(call(case, backend), in_dims)(*inputs.values())
    assert not y.requires_grad
