"""Transforms of torch work, or are refused by name: none gives a silent zero."""

from contextlib import suppress

import pytest
import torch
from torch.autograd import forward_ad

from lgmamba.scan import available_backends, selective_scan
from tests.scan.cases import RUNNABLE, Case, make_inputs

# torch's own forward-mode formulas are scripts
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),  # func.linearize's own graph
]

CASE = Case(B=2, L=9, D=6, N=3, G=2, h0=False, last=False)
INPUTS = make_inputs(CASE, torch.float32)
X = INPUTS["x"]
TANGENT = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
COMPILED = [name for name, device in RUNNABLE if device == "cpu"]


def loss(backend):
    return lambda x: selective_scan(**INPUTS | {"x": x}, dt_softplus=True, backend=backend).square().sum()


def dual(f):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(X, TANGENT))).tangent


TRANSFORMS = {
    "jvp": lambda f: torch.func.jvp(f, (X,), (TANGENT,))[1],
    "jacfwd": lambda f: torch.func.jacfwd(f)(X),
    "linearize": lambda f: torch.func.linearize(f, X)[1](TANGENT),
    "grad": lambda f: torch.func.grad(f)(X),
    "vjp": lambda f: torch.func.vjp(f, X)[1](torch.ones(()))[0],
    "jacrev": lambda f: torch.func.jacrev(f)(X),
    "hessian": lambda f: torch.func.hessian(f)(X),
    "per-sample gradients": lambda f: torch.func.vmap(torch.func.grad(f))(torch.stack([X, 2 * X])),
    "dual numbers": dual,
    "jacobian, forward mode": lambda f: torch.autograd.functional.jacobian(
        f, X, vectorize=True, strategy="forward-mode"
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_auto_serves_a_transform_that_differentiates(name):
    got = TRANSFORMS[name](loss("auto"))
    torch.testing.assert_close(got, TRANSFORMS[name](loss("reference")))
    assert got.abs().max() > 0


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_compiled_backend_refuses_it_by_name(name, backend):
    with pytest.raises(RuntimeError, match=f"backend='{backend}' is compiled and has no .*; use backend='reference'"):
        TRANSFORMS[name](loss(backend))


@pytest.mark.parametrize("backend", ["auto", *COMPILED])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_call_of_a_process_may_be_under_a_transform(name, backend, fresh_choice):
    with suppress(RuntimeError):
        TRANSFORMS[name](loss(backend))
    found = available_backends("cpu")
    assert [found[other] for other in COMPILED] == [None] * len(COMPILED)
    with torch.inference_mode():
        assert available_backends("cpu") == found


@pytest.mark.parametrize("name", ["jvp", "grad", "dual numbers"])
@pytest.mark.filterwarnings("ignore")  # torch.compile's own imports warn
def test_under_torch_compile_too_there_is_no_silent_zero(name):
    if "cpu" not in COMPILED:
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="backend='cpu' is compiled and has no"):
        TRANSFORMS[name](torch.compile(loss("cpu"), backend="eager"))


@pytest.mark.parametrize("backend", COMPILED)
def test_vmap_over_samples(backend):
    many = torch.stack([X, 2 * X, -X])
    got = torch.func.vmap(loss(backend))(many)
    torch.testing.assert_close(got, torch.stack([loss("reference")(x) for x in many]))


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's word on its own loop
def test_batched_gradients(backend):
    def f(x):
        return selective_scan(**INPUTS | {"x": x}, dt_softplus=True, backend=backend).sum(dim=(1, 2))

    got = torch.autograd.functional.jacobian(f, X, vectorize=True)
    torch.testing.assert_close(got, torch.autograd.functional.jacobian(f, X))


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("train", [False, True], ids=["no grad", "grad"])
@pytest.mark.filterwarnings("ignore")
def test_export_with_any_length(backend, train):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(CASE.D))

        def forward(self, x, dt, A, Bmat, Cmat):
            return selective_scan(self.scale * x, dt, A, Bmat, Cmat, dt_softplus=True, backend=backend)

    model = Model()
    L = torch.export.Dim("L", min=2, max=4096)
    shapes = {name: None if name == "A" else {1: L} for name in ("x", "dt", "A", "Bmat", "Cmat")}
    with torch.set_grad_enabled(train):
        program = torch.export.export(model, tuple(INPUTS[k] for k in shapes), dynamic_shapes=shapes)
        longer = make_inputs(Case(B=2, L=150, D=6, N=3, G=2), torch.float32)
        args = tuple(longer[k] for k in shapes)
        torch.testing.assert_close(program.module()(*args), model(*args))
