"""The whole model on a GPU: backends against each other, the official module with the same weights, recorded steps."""

import pytest
import torch

from lgmamba.config.study import load_params
from lgmamba.config.training import TrainConfig
from lgmamba.data.dataset import in_memory
from lgmamba.devices import matrix_products
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.model.runner import run_sequence
from lgmamba.scan import available_backends
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.passing import passed_state
from lgmamba.train.step import TrainStep

REASONS = available_backends("cuda")
pytestmark = pytest.mark.gpu
SHAPE = (3, 32, 32)

needs = {
    name: pytest.mark.skipif(REASONS[name] is not None, reason=f"{name}: {REASONS[name]}")
    for name in ("cuda", "mamba_ssm", "reference")
}
BACKENDS = [pytest.param(name, marks=needs[name]) for name in ("cuda", "mamba_ssm")]
if not torch.cuda.is_available():
    pytestmark = [pytest.mark.gpu, pytest.mark.skip(reason="no GPU")]


def cifar_run(backend: str, batch_size: int = 16):
    params = load_params("params.yaml", preset="cifar10")
    run = params.runs_by_name()["adaptive_64"]
    model = run.model.model_copy(update={"scan_backend": backend})
    return run.model_copy(update={"model": model, "train": run.train.model_copy(update={"batch_size": batch_size})})


def random_images(n: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, *SHAPE), dtype=torch.uint8, generator=generator).cuda()


def task_of(run):
    """The run's task on random images."""
    return build_task(run, in_memory(random_images()))


def sampler_of(task, run):
    """Its batches of full length, as a recorded step needs them."""
    return task.sampler(task.dataset.split("train"), run.train, 0, True)


def moved(model):
    """The same weights a little off their initialisation, so that no zero-initialised layer hides an error."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator).to(p.device)
    return model


def loss_and_gradients(backend: str, bf16: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    run = cifar_run(backend)
    model = moved(build_model(run, SHAPE)).cuda()
    task = task_of(run)
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        loss = task.loss(model, sampler_of(task, run).draw(0))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def relative_rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).double().square().mean().sqrt() / b.double().square().mean().sqrt().clamp(min=1e-30)).item()


# fp32: four layers of float32 arithmetic in another order. bf16: the products around the scan round to 8 bits, and both
# sides round differently once their inputs differ in the last bit.
@pytest.mark.parametrize(("bf16", "value_tolerance", "gradient_tolerance"), [(False, 1e-5, 1e-3), (True, 1e-2, 5e-2)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients_equal_those_of_the_reference(backend, bf16, value_tolerance, gradient_tolerance, capsys):
    loss, grads = loss_and_gradients(backend, bf16)
    loss_ref, grads_ref = loss_and_gradients("reference", bf16)
    errors = {name: relative_rms(grads[name], grads_ref[name]) for name in grads}
    worst = max(errors, key=errors.get)
    with capsys.disabled():
        print(
            f"\n{backend} against reference, {'bf16' if bf16 else 'fp32'}: loss {loss.item():.7f} and {loss_ref.item():.7f}; "
            f"worst gradient {worst}, relative RMS {errors[worst]:.2e}"
        )
    assert abs(loss - loss_ref) <= value_tolerance * abs(loss_ref)
    assert errors[worst] < gradient_tolerance


@torch.no_grad()
def test_reading_with_rounded_products_differs_by_what_rounding_does():
    params = load_params("params.yaml", preset="cifar10")
    for name in ("fixed_64", "adaptive_64"):
        run = params.run_configs()[name, 0]
        torch.manual_seed(0)
        model, task = moved(build_model(run, SHAPE).cuda()).eval(), task_of(run)
        sequences = task.held_out(task.dataset.split("train")[:32], "permutation", 0, 256)
        found = {}
        for precision in ("fp32", "tf32"):
            with matrix_products(precision):
                found[precision] = run_sequence(model, sequences, [64, 256], "prefix")
        assert 1e-6 < relative_rms(found["tf32"], found["fp32"]) < 5e-3, name  # a factor loses 2^-11 of itself


@needs["mamba_ssm"]
def test_same_weights_through_the_official_module():
    from mamba_ssm import Mamba

    run = cifar_run("auto")
    torch.manual_seed(0)
    ours = MambaMixer(run.model, layer=0).cuda()
    m = run.model.mixer
    official = Mamba(run.model.d_model, m.d_state, m.d_conv, m.expand, use_fast_path=False).cuda()
    official.load_state_dict(ours.state_dict())
    u = torch.randn(3, 65, run.model.d_model, device="cuda")
    gradients = []
    for module in (ours, official):
        out = module(u)[0] if module is ours else module(u)
        module.zero_grad()
        out.square().mean().backward()
        gradients.append((out.detach(), {name: p.grad for name, p in module.named_parameters()}))
    (out, grads), (out_official, grads_official) = gradients
    assert relative_rms(out, out_official) < 1e-5  # float32 sums in another order
    for name, grad in grads.items():
        assert relative_rms(grad, grads_official[name]) < 1e-4, name  # the same, through one backward pass


@pytest.mark.parametrize("backend", BACKENDS)
def test_recorded_steps_equal_launched_ones(backend):
    states = []
    for graph in (False, True):
        run = cifar_run(backend)
        task, model = task_of(run), build_model(run, SHAPE).cuda()
        step = TrainStep(model, build_optimizer(model, run.train), task, 1.0, True, graph)
        sampler = sampler_of(task, run)
        losses = [step(sampler.draw(i))[0].item() for i in range(8)]
        states.append((losses, model.state_dict()))
    (losses, state), (losses_graph, state_graph) = states
    if backend == "cuda":
        assert losses_graph == losses
        assert all(torch.equal(state_graph[name], state[name]) for name in state)
        return
    # The official backward adds with atomics, in an order that changes from run to run, and AdamW makes whole steps of
    # gradients that are nothing but rounding: 14 weights of one tensor were seen 1e-3 and more apart, as many as an error
    # leaves (a step left out: one weight of six million). Whole tensors tell them apart: with gradients 1e-6 of their RMS
    # off, the worst differs by 0.007; with one of the eight steps left out, by 0.19.
    torch.testing.assert_close(losses_graph, losses, rtol=1e-3, atol=1e-3)
    for name in state:
        assert relative_rms(state_graph[name], state[name]) < 0.03, name


def passing_run(backend: str, kind: str):
    """A plain model; most batches are 64 steps after up to 256 others."""
    run = cifar_run(backend)
    passing = {"kind": kind, "max_factor": 4, "share": 0.5}
    train = TrainConfig.model_validate(run.train.model_dump() | {"state_passing": passing})
    return run.model_copy(update={"model": run.model.model_copy(update={"adaptive": None}), "train": train})


@pytest.mark.parametrize("kind", ["same_image", "other_image", "noise"])
def test_recorded_steps_from_passed_states_equal_launched_ones(kind):
    """Each recorded step starts from its own state, whatever the number of steps behind it; n = 0 is among them."""
    run, results, steps = passing_run("auto", kind), [], []
    for graph in (False, True):
        task, model = task_of(run), build_model(run, SHAPE).cuda()
        step = TrainStep(model, build_optimizer(model, run.train), task, 1.0, True, graph)
        sampler = sampler_of(task, run)
        batches = [sampler.draw(i) for i in range(24)]
        steps = {batch.passed.cells.shape[1] for batch in batches[3:]}
        results.append(([step(batch)[0].item() for batch in batches], model.state_dict()))
    assert 0 in steps and max(steps) > 64
    (losses, state), (losses_graph, state_graph) = results
    assert losses_graph == losses
    assert all(torch.equal(v, state_graph[name]) for name, v in state.items())


@torch.no_grad()
@pytest.mark.parametrize("backend", BACKENDS)
def test_passed_states_and_the_loss_from_them_equal_those_of_the_reference(backend):
    found = []
    for name in (backend, "reference"):
        run = passing_run(name, "same_image")
        task, model = task_of(run), moved(build_model(run, SHAPE)).cuda()
        batch = next(b for b in map(sampler_of(task, run).draw, range(50)) if b.passed.cells.shape[1] > 64)
        state = passed_state(model, task, batch)
        found.append((state.tensors(), task.loss(model, batch, state)))
    (state, loss), (state_ref, loss_ref) = found
    for mine, reference in zip(state, state_ref, strict=True):
        assert relative_rms(mine, reference) < 1e-4  # float32 in another order, over some hundred steps and four layers
    assert abs(loss - loss_ref) <= 1e-5 * loss_ref


@needs["cuda"]
def test_pieces_and_steps_equal_the_whole():
    run = cifar_run("cuda")
    model = moved(build_model(run, SHAPE)).cuda().eval()
    generator = torch.Generator("cuda").manual_seed(0)
    patches = torch.rand(2, 150, 48, device="cuda", generator=generator)
    cells = torch.randint(64, (2, 150), device="cuda", generator=generator)
    told = torch.tensor([64, 150], device="cuda")
    with torch.no_grad():
        whole, end = model.encode(model.embed(patches, cells), target_length=told)
        for cuts in ((1, 2, 5, 64, 150), tuple(range(1, 151))):
            state, outputs, start = None, [], 0
            for cut in cuts:
                out, state = model.encode(model.embed(patches[:, start:cut], cells[:, start:cut]), state, told)
                outputs.append(out)
                start = cut
            # float32 arithmetic in another order, over 150 steps and four layers
            assert relative_rms(torch.cat(outputs, 1), whole) < 1e-5
            for a, b in zip(state.layers, end.layers, strict=True):
                assert relative_rms(a.memory, b.memory) < 1e-5
