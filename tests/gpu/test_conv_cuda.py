"""The fused convolution against the same sum in plain torch in float64: values and all gradients."""

import threading

import pytest
import torch
import torch.nn.functional as F

from lgmamba.scan import cuda_conv
from tests.scan.cases import relative_rms
from tests.scan.conftest import poisoned_memory  # noqa: F401  (a fixture that acts by being here)

REASON = cuda_conv.unavailable("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA convolution: {REASON}")]

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
TOLERANCE = {FP32: 5e-6, BF16: 5e-3, FP16: 1e-3}
"""Relative RMS error, as for the scan."""


def plain(x, weight, bias, carry):
    L, W = x.shape[1], weight.shape[1]
    carry = x.new_zeros(x.shape[0], W - 1, x.shape[2]) if carry is None else carry
    padded = torch.cat([carry, x], dim=1)  # (B, W - 1 + L, D)
    return F.silu(bias + sum(padded[:, k : k + L] * weight[:, k] for k in range(W)))


def make_inputs(B, L, D, W=4, carry=True, dtype=FP32, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"x": (B, L, D), "weight": (D, W), "bias": (D,)} | ({"carry": (B, W - 1, D)} if carry else {})
    inputs = {k: torch.randn(*s, generator=g).to("cuda", dtype) for k, s in shapes.items()}
    return inputs | ({} if carry else {"carry": None})


def values_and_gradients(f, inputs, dy):
    leaves = {k: None if v is None else v.detach().requires_grad_() for k, v in inputs.items()}
    y = f(**leaves)
    used = {k: v for k, v in leaves.items() if v is not None}
    grads = torch.autograd.grad(y, list(used.values()), dy.to(y.dtype))
    return {"y": y.detach()} | {f"d {k}": g for k, g in zip(used, grads, strict=True)}


def assert_matches_plain(inputs):
    dy = torch.randn(inputs["x"].shape, device="cuda").to(inputs["x"].dtype)
    got = values_and_gradients(cuda_conv.causal_conv1d_silu, inputs, dy)
    exact = {k: None if v is None else v.double() for k, v in inputs.items()}
    want = values_and_gradients(plain, exact, dy)
    tolerance = TOLERANCE[inputs["x"].dtype]
    errors = {k: relative_rms(got[k], want[k]) for k in want}
    assert all(e < tolerance for e in errors.values()), errors
    assert got["y"].dtype == inputs["x"].dtype


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=str)
@pytest.mark.parametrize("carry", [True, False], ids=["carry", "start"])
@pytest.mark.parametrize("L", [1, 2, 3, 4, 15, 16, 17, 64, 100], ids="L{}".format)
def test_lengths_around_segments(L, carry, dtype):
    assert_matches_plain(make_inputs(3, L, 72, carry=carry, dtype=dtype))


@pytest.mark.parametrize("D", [1, 2, 3, 5, 6, 128, 130, 512], ids="D{}".format)
def test_channels(D):
    assert_matches_plain(make_inputs(2, 20, D))


@pytest.mark.parametrize("W", range(2, 9), ids="W{}".format)
def test_taps(W):
    assert_matches_plain(make_inputs(2, 37, 12, W=W))


def test_more_segments_than_threads_take_at_once():
    assert_matches_plain(make_inputs(2000, 33, 512, dtype=BF16))


def test_slices_of_wider_tensors_and_expanded_cotangents():
    inputs = make_inputs(2, 20, 12, dtype=BF16)
    wide = torch.randn(2, 20, 29, device="cuda").bfloat16()
    for part in (wide[..., :12], wide[..., 5:17], wide.transpose(1, 2)[:, :20, :12]):
        assert_matches_plain(inputs | {"x": part})
    x = inputs["x"].requires_grad_()
    y = cuda_conv.causal_conv1d_silu(**inputs)
    (got,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (want,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(got, want)


@pytest.mark.parametrize("cut", [1, 2, 5, 16, 40])
def test_pieces_with_a_carry_equal_the_whole(cut):
    inputs = make_inputs(2, 50, 20)
    whole = cuda_conv.causal_conv1d_silu(**inputs)
    x, rest = inputs["x"], {k: inputs[k] for k in ("weight", "bias")}
    carry = torch.cat([inputs["carry"], x[:, :cut]], dim=1)[:, -3:]
    first = cuda_conv.causal_conv1d_silu(x[:, :cut], carry=inputs["carry"], **rest)
    second = cuda_conv.causal_conv1d_silu(x[:, cut:], carry=carry, **rest)
    assert torch.equal(torch.cat([first, second], dim=1), whole)


def test_two_runs_give_equal_bits():
    inputs, dy = make_inputs(300, 70, 96, dtype=BF16), torch.randn(300, 70, 96, device="cuda")
    first, second = (values_and_gradients(cuda_conv.causal_conv1d_silu, inputs, dy) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_operators_pass_opcheck():
    for carry in (True, False):
        inputs = make_inputs(2, 21, 10, carry=carry)
        leaves = [None if v is None else v.requires_grad_() for v in inputs.values()]
        torch.library.opcheck(torch.ops.lgmamba.conv_silu_cuda, leaves)
        saved = [None if v is None else v.detach() for v in leaves]
        dy = torch.randn_like(saved[0])
        torch.library.opcheck(torch.ops.lgmamba.conv_silu_cuda_backward, (dy, *saved))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised while torch imports its own compiler
def test_compiled_in_one_graph_equals_eager():
    inputs, dy = make_inputs(2, 40, 32, dtype=BF16), torch.randn(2, 40, 32, device="cuda")
    eager = values_and_gradients(cuda_conv.causal_conv1d_silu, inputs, dy)
    compiled = values_and_gradients(torch.compile(cuda_conv.causal_conv1d_silu, fullgraph=True), inputs, dy)
    assert all(torch.equal(eager[k], compiled[k]) for k in eager)


def test_a_cuda_graph_replays_the_step():
    inputs, dy = make_inputs(4, 48, 64, dtype=BF16), torch.randn(4, 48, 64, device="cuda").bfloat16()

    def step():
        return values_and_gradients(cuda_conv.causal_conv1d_silu, inputs, dy)

    step()  # compiles the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for k, v in make_inputs(4, 48, 64, dtype=BF16, seed=1).items():
        inputs[k].copy_(v)
    graph.replay()
    want = step()
    assert all(torch.equal(captured[k], want[k]) for k in want)


def test_more_than_two_to_the_31_elements():
    B, L, D = 33_100, 128, 512
    assert B * L * D > 2**31
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < 20e9:
        pytest.skip("needs 20 GB of free GPU memory")
    one = make_inputs(1, L, D, dtype=BF16, carry=False)
    x = one["x"].expand(B, L, D).requires_grad_()
    y = cuda_conv.causal_conv1d_silu(x, one["weight"], one["bias"])
    (dx,) = torch.autograd.grad(y, x, one["x"].expand(B, L, D))
    assert torch.equal(y[-1], y[0]) and y[0].isfinite().all()
    assert torch.equal(dx[-1], dx[0]) and dx[0].isfinite().all()


def test_double_backward_is_a_clear_error():
    inputs = {k: v.requires_grad_() for k, v in make_inputs(1, 5, 4).items()}
    y = cuda_conv.causal_conv1d_silu(**inputs)
    (dx,) = torch.autograd.grad(y.square().sum(), inputs["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        dx.sum().backward()


@pytest.mark.parametrize(("name", "shape"), [("x", (2, 0, 8)), ("weight", (7, 4)), ("weight", (8, 9)), ("bias", (4,))])
def test_shapes_that_do_not_fit_are_clear_errors(name, shape):
    inputs = make_inputs(2, 6, 8, carry=False) | {name: torch.zeros(shape, device="cuda")}
    with pytest.raises(ValueError, match=f"^{name} must"):
        cuda_conv.causal_conv1d_silu(**inputs)


def test_a_thread_without_a_context_of_the_gpu_computes_too():
    """As one of torch's backward pass that has launched nothing yet: the driver asks for a context, torch's own calls make one."""
    from cuda.bindings import driver

    inputs = make_inputs(3, 40, 64)
    wanted, found = cuda_conv.causal_conv1d_silu(**inputs), []

    def compute():
        driver.cuCtxSetCurrent(driver.CUcontext(0))
        found.append(cuda_conv.causal_conv1d_silu(**inputs))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert torch.equal(found[0], wanted)
