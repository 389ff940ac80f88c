"""What is particular to the CPU backends: the operators, determinism, memory, and the build of the kernel."""

import pytest
import torch

from lgmamba.scan import cpu_backend, selective_scan
from tests.scan.cases import (
    RUNNABLE,
    TOLERANCE,
    Case,
    assert_close,
    make_inputs,
    options,
    run,
)

BACKENDS = [name for name, device in RUNNABLE if device == "cpu"]

needs_compiler = pytest.mark.skipif("cpu" not in BACKENDS, reason="no C++ compiler")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [Case(5, 70, 40, 16, every=30), Case(1, 40, 100, 3), Case(150, 3, 17, 4)], ids=str)
def test_equal_bits_between_runs_and_for_any_number_of_threads(backend, case):
    inputs = make_inputs(case, torch.float32)
    results = []
    for n in (1, 1, 2, 3):
        torch.set_num_threads(n)
        results.append(run(inputs, case, backend))
    for other in results[1:]:
        assert [k for k, v in results[0].items() if not torch.equal(v, other[k])] == []


@needs_compiler
@pytest.mark.parametrize(
    ("case", "stretches"), [(Case(3, 150, 64, 16), (8, 64)), (Case(2, 150, 20, 24, every=7), (7, 21))], ids=str
)
def test_where_states_are_kept_changes_no_bit(monkeypatch, case, stretches):
    inputs = make_inputs(case, torch.float32)
    want = run(inputs, case, "cpu")
    for stretch in stretches:
        monkeypatch.setattr(cpu_backend, "STRETCH", stretch)
        got = run(inputs, case, "cpu")
        assert [k for k, v in want.items() if not torch.equal(v, got[k])] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_keeps_no_state_per_step(backend):
    case = Case(B=2, L=400, D=16, N=16, last=False, h0=False)
    leaves = {k: None if v is None else v.requires_grad_() for k, v in make_inputs(case, torch.float32).items()}
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda v: sizes.append(v.numel()) or v, lambda v: v):
        selective_scan(**leaves, **options(case), backend=backend)
    assert sizes
    assert max(sizes) <= case.B * case.L * case.D * case.N / 14  # one state in 16 steps, the last chunk not full


def operator_inputs(requires_grad: bool = True, softplus: bool = True):
    case = Case(2, 9, 6, 3, softplus=softplus, G=2)
    inputs = make_inputs(case, torch.float32)
    inputs["h0"] = inputs["h0"].transpose(1, 2).contiguous()
    return [v.requires_grad_(requires_grad) for v in inputs.values()]


# aot_dispatch runs the operator under torch.compile's tracing, so this covers fake tensors and autograd under it.
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("tail", [(True, 4, True, True), (False, 0, False, True)], ids=["all", "plain"])
def test_compiled_operator_passes_opcheck(tail):
    tensors = operator_inputs(softplus=tail[0])
    if not tail[0]:
        tensors[5:] = [None] * 4
    torch.library.opcheck(torch.ops.lgmamba.scan_cpu.default, (*tensors, *tail))


@pytest.mark.skipif("cpu_numba" not in BACKENDS, reason="no numba")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_numba_operator_passes_opcheck():
    x, dt, A, Bmat, Cmat, *_ = operator_inputs(softplus=False)
    h0 = torch.zeros(2, 6, 3, requires_grad=True)
    torch.library.opcheck(torch.ops.lgmamba.scan_numba.default, (dt, x, A, Bmat, Cmat, h0, 4))


def test_operators_have_no_arguments_with_defaults():
    """Which torch would leave out of a call, and what saves the arguments for the backward pass does not look for."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("lgmamba::scan_")]
    assert {"lgmamba::scan_cpu", "lgmamba::scan_cpu_backward"} <= set(names)
    for name in names:
        schema = getattr(torch.ops.lgmamba, name.split("::")[1]).default._schema
        assert not [argument.name for argument in schema.arguments if argument.has_default_value()], name


@needs_compiler
def test_operator_refuses_other_dtypes():
    tensors = operator_inputs(requires_grad=False)
    tensors[0] = tensors[0].double()
    with pytest.raises(ValueError, match=r"take float32 only, got torch.float64"):
        torch.ops.lgmamba.scan_cpu(*tensors, False, 0, False, False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore")  # torch.compile's own imports warn
def test_works_in_one_graph_under_torch_compile(backend):
    case = Case(2, 9, 5, 3, every=4)
    inputs = make_inputs(case, torch.float32)

    def model(inputs):
        y, last, states = selective_scan(**inputs | {"x": 2 * inputs["x"]}, **options(case), backend=backend)
        return (y.square().sum() + last.sum() + states.sum()) / 3

    def gradients(f):
        leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
        grads = torch.autograd.grad(f(leaves), list(leaves.values()))
        return dict(zip(leaves, grads, strict=True))

    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_close(gradients(compiled), gradients(model), TOLERANCE[torch.float32])


@needs_compiler
@pytest.mark.skipif(
    " " in torch.__file__, reason="torch's own compiler does not find its headers in a folder with a space"
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_works_under_the_inductor():
    import torch._inductor.config  # here, since it takes seconds

    case = Case(2, 9, 5, 3, last=False)
    inputs = make_inputs(case, torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(lambda v: selective_scan(**v, **options(case), backend="cpu").exp(), fullgraph=True)
    # Headers compiled beforehand are for many kernels; here there is one, and a quarter of the time goes into them.
    with torch._inductor.config.patch(cpp_cache_precompile_headers=False):
        result = compiled(inputs)
    torch.testing.assert_close(result, selective_scan(**inputs, **options(case), backend="cpu").exp())
