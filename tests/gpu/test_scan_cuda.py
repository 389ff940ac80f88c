"""What is particular to the CUDA scan; `tests/scan/test_scan.py` runs on it too and holds what all backends share."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from lgmamba.scan import available_backends, cuda_loader, cuda_mapping, selective_scan
from tests.scan.cases import Case, assert_close, assert_matches_reference, make_inputs, options, relative_rms, run
from tests.scan.conftest import poisoned_memory  # noqa: F401  (a fixture that acts by being here)
from tests.waiting import HANGS

REASON = available_backends("cuda")["cuda"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA scan: {REASON}")]

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
matches = partial(assert_matches_reference, backend="cuda", device="cuda")


@pytest.mark.parametrize("D", [6, 67], ids="D{}".format)
@pytest.mark.parametrize("N", [1, 3, 4, 5, 8, 16, 24, 32, 64, 100, 128, 200, 256], ids="N{}".format)
def test_every_layout_of_states_over_lanes(N, D):
    matches(Case(B=2, L=37, D=D, N=N, every=6))


@pytest.mark.parametrize("L", [1, 3, 4, 7, 8, 15, 16, 17, 32, 33, 63, 64, 1000], ids="L{}".format)
def test_lengths_around_tiles_and_chunks(L):
    matches(Case(B=3, L=L, D=20, N=16))


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 16, 17, 50], ids="every{}".format)
def test_reported_states_and_their_gradients(every):
    matches(Case(B=2, L=50, D=20, N=16, every=every))


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=str)
@pytest.mark.parametrize(("B", "L"), [(16, 64), (64, 16), (4, 256), (2, 1024)], ids=lambda v: str(v))
def test_the_shapes_of_the_benchmark_with_fewer_samples(B, L, dtype):
    matches(Case(B=B, L=L, D=512, N=16, h0=False, last=False), dtypes=dtype)


@pytest.mark.parametrize("x", [FP32, BF16, FP16], ids=str)
@pytest.mark.parametrize("dt", [FP32, BF16], ids=str)
@pytest.mark.parametrize("projected", [FP32, BF16], ids=str)
def test_every_mixture_of_dtypes(x, dt, projected):
    z = BF16 if x is FP32 else FP32
    matches(Case(B=2, L=20, D=18, N=16), dtypes={"x": x, "dt": dt, "z": z, "Bmat": projected, "Cmat": FP32})


def test_several_samples_in_one_block():
    case = Case(B=3000, L=3, D=130, N=16)
    plan = cuda_mapping.choose_plan(True, [torch.empty(case.B, case.L, case.D)], case.N, 1, 0)
    assert plan.items_per_block(case.B, plan.walk.blocks(case.D), 0) > 1
    matches(case)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_inputs_off_every_boundary_give_the_same_bits(dtype):
    case = Case(B=2, L=21, D=18, N=16, every=4)
    inputs = make_inputs(case, dtype, "cuda")

    def shifted(v):
        wide = torch.randn(*v.shape[:-1], v.shape[-1] + 3, device="cuda").to(v.dtype)
        wide[..., 1:-2] = v
        return wide[..., 1:-2]

    moved = {k: shifted(v) for k, v in inputs.items()}
    got, want = run(moved, case, "cuda"), run(inputs, case, "cuda")
    assert_close(got, want, 5e-7 if dtype is FP32 else 1e-3)  # sums over channels are grouped in another way


def test_two_runs_give_equal_bits():
    case = Case(B=40, L=70, D=130, N=16, every=10)
    inputs = make_inputs(case, BF16, "cuda")
    first, second = run(inputs, case, "cuda"), run(inputs, case, "cuda")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_dt_zero_leaves_the_state_bit_for_bit():
    case = Case(B=2, L=30, D=20, N=16, softplus=False, bias=False)
    inputs = make_inputs(case, FP32, "cuda")
    inputs["dt"][:, 10:] = 0
    _, last = selective_scan(**inputs, return_last_state=True, backend="cuda")
    short = {k: v[:, :10] if v is not None and v.shape[:2] == (2, 30) else v for k, v in inputs.items()}
    _, at_ten = selective_scan(**short, return_last_state=True, backend="cuda")
    assert torch.equal(last, at_ten)


@pytest.mark.parametrize("size", ["dt", "A"])
def test_extremes_give_no_nan(size):
    case = Case(B=1, L=25_600, D=32, N=16, softplus=False, bias=False)
    inputs = make_inputs(case, FP32, "cuda")
    if size == "dt":
        inputs["dt"] = torch.logspace(-6, 4, 32, device="cuda").expand(1, 25_600, 32).contiguous()
    else:
        inputs["A"] = -torch.logspace(-3, 3, 32 * 16, device="cuda").view(32, 16)
    got = run(inputs, case, "cuda")
    assert all(v.isfinite().all() for v in got.values())


def test_operators_pass_opcheck():
    for case in (Case(B=2, L=21, D=10, N=16, G=1, every=4), Case(B=2, L=21, D=12, N=16, G=3).plain()):
        inputs = {k: None if v is None else v.requires_grad_() for k, v in make_inputs(case, FP32, "cuda").items()}
        args = (*inputs.values(), case.softplus, case.every or 0, case.last, True)
        order = ("x", "dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0")
        assert tuple(inputs) == order
        torch.library.opcheck(torch.ops.lgmamba.scan_cuda, args)
        y, last, states, checkpoints = torch.ops.lgmamba.scan_cuda(*args)
        cotangents = [torch.randn_like(v) if v.numel() else None for v in (y, last, states)]
        saved = [None if v is None else v.detach() for v in inputs.values()]
        torch.library.opcheck(
            torch.ops.lgmamba.scan_cuda_backward,
            (*cotangents, *saved, checkpoints.detach(), case.softplus, case.every or 0),
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised while torch imports its own compiler
def test_compiled_in_one_graph_equals_eager():
    case = Case(B=2, L=40, D=32, N=16, every=8)
    inputs = make_inputs(case, BF16, "cuda")

    def loss(inputs):
        y, last, states = selective_scan(**inputs, **options(case), backend="cuda")
        return (y.float().square().mean() + last.mean() + states.square().mean(),)

    grads = []
    for f in (loss, torch.compile(loss, fullgraph=True)):
        leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
        grads.append(torch.autograd.grad(f(leaves), list(leaves.values())))
    for name, eager, compiled in zip(inputs, *grads, strict=True):
        assert relative_rms(compiled, eager) < 5e-3, name


def test_a_cuda_graph_replays_the_step():
    case = Case(B=4, L=48, D=64, N=16)
    inputs = make_inputs(case, BF16, "cuda")

    def step():
        leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
        y, last = selective_scan(**leaves, **options(case), backend="cuda")
        return y, *torch.autograd.grad(y.float().square().sum() + last.sum(), list(leaves.values()))

    step()  # compiles the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    fresh = make_inputs(Case(B=4, L=48, D=64, N=16, seed=1), BF16, "cuda")
    for k, v in inputs.items():
        v.copy_(fresh[k])
    graph.replay()
    for got, want in zip(captured, step(), strict=True):
        assert torch.equal(got, want)


def test_it_runs_on_the_current_stream():
    case = Case(B=8, L=200, D=256, N=16)
    inputs = make_inputs(case, BF16, "cuda")
    want = run(inputs, case, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = {k: v * 1 for k, v in inputs.items()}  # ready only after the sleep
        got = run(late, case, "cuda")
    torch.cuda.synchronize()
    assert all(torch.equal(got[k], want[k]) for k in want)


def test_more_than_two_to_the_31_elements():
    """The last sample of a batch whose offsets need 64 bits gives the bits of the first."""
    B, L, D, N = 33_100, 128, 512, 16
    assert B * L * D > 2**31
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < 45e9:
        pytest.skip("needs 45 GB of free GPU memory")
    one = make_inputs(Case(B=1, L=L, D=D, N=N, z=False, h0=False), BF16, "cuda")
    many = {k: v.expand(B, *v.shape[1:]) if k in ("x", "dt", "Bmat", "Cmat") else v for k, v in one.items()}
    leaf = many["x"].detach().requires_grad_()
    y = selective_scan(**{**many, "x": leaf}, dt_softplus=True, backend="cuda")
    (dx,) = torch.autograd.grad(y, leaf, one["x"].expand(B, L, D))
    assert torch.equal(y[-1], y[0]) and y[0].isfinite().all()
    assert torch.equal(dx[-1], dx[0]) and dx[0].isfinite().all()
    alone = one["x"].detach().requires_grad_()
    y0 = selective_scan(**{**one, "x": alone}, dt_softplus=True, backend="cuda")
    dx0 = torch.autograd.grad(y0, alone, one["x"])[0]  # alone it is mapped in another way: equal to rounding
    assert_close({"y": y[0], "dx": dx[0]}, {"y": y0[0].detach(), "dx": dx0[0]}, 2e-3)


def test_differentiating_a_call_without_checkpoints_is_a_clear_error():
    case = Case(B=1, L=20, D=4, N=16, G=1)
    inputs = {k: v.requires_grad_() for k, v in make_inputs(case, FP32, "cuda").items()}
    y, *_ = torch.ops.lgmamba.scan_cuda(*inputs.values(), True, 0, False, False)
    with pytest.raises(RuntimeError, match="train=False"):
        y.sum().backward()


def test_a_source_that_does_not_compile_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("LGMAMBA_CACHE", str(tmp_path))
    with pytest.raises(cuda_loader.CompileError, match="nonsense"):
        cuda_loader.compiled("nonsense;", "sm_90")
    assert not list(tmp_path.iterdir())


def test_processes_that_race_at_first_use_agree(tmp_path):
    program = """
import torch
from lgmamba.scan import selective_scan
g = torch.Generator("cuda").manual_seed(0)
r = lambda *s: torch.randn(*s, device="cuda", generator=g)
x = r(2, 20, 8).requires_grad_()
y = selective_scan(x, r(2, 20, 8).abs(), -r(8, 16).abs(), r(2, 20, 16), r(2, 20, 16), r(8), backend="cuda")
y.square().sum().backward()
print(y.double().sum().item(), x.grad.double().sum().item())
"""
    env = os.environ | {"LGMAMBA_CACHE": str(tmp_path)}
    start = partial(subprocess.Popen, [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
    racing = [start() for _ in range(3)]
    printed = [p.communicate(timeout=HANGS)[0] for p in racing]
    assert all(p.returncode == 0 for p in racing) and len(set(printed)) == 1
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("cuda_*.cubin"))) == 3  # forward, backward, sums
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert start().communicate(timeout=HANGS)[0] == printed[0]
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}  # the second use compiles nothing


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("L", [1, 3, 63, 64, 1000], ids="L{}".format)
def test_the_official_kernel_gives_the_same(L, dtype):
    if (reason := available_backends("cuda")["mamba_ssm"]) is not None:
        pytest.skip(f"mamba_ssm: {reason}")
    case = Case(B=4, L=L, D=64, N=16, h0=False, last=False)
    inputs = make_inputs(case, dtype, "cuda")
    inputs |= {k: inputs[k].float() for k in ("A", "Dskip", "dt_bias")}
    ours, official = run(inputs, case, "cuda"), run(inputs, case, "mamba_ssm")
    exact = run({k: None if v is None else v.double() for k, v in inputs.items()}, case, "reference")
    for k, want in exact.items():
        bound = max(relative_rms(official[k], want), 5e-6 if dtype is FP32 else 5e-3)
        assert relative_rms(ours[k], want) <= bound, k  # at least as near the exact result as the official kernel
        if not want.any():
            continue  # dA of a single step; the official kernel leaves some rounding there
        assert relative_rms(ours[k], official[k]) < (2e-5 if dtype is FP32 else 2e-2), k
