"""The whole model on a GPU: backends against each other, the official module with the same weights, recorded steps."""

import pytest
import torch

from lgmamba.config.study import load_params
from lgmamba.model import MambaMixer
from lgmamba.scan import available_backends
from lgmamba.train.batch import BatchSampler
from lgmamba.train.loop import build_model
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep, loss_of

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
    images = random_images()
    sampler = BatchSampler(run.task, torch.arange(len(images)).cuda(), model.grid, run.train.batch_size, 0, 10, True)
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        loss = loss_of(model, images, sampler.draw(0))
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
        images = random_images()
        model = build_model(run, SHAPE).cuda()
        step = TrainStep(model, build_optimizer(model, run.train), images, 1.0, True, graph)
        sampler = BatchSampler(run.task, torch.arange(len(images)).cuda(), model.grid, 16, 0, 10, True)
        losses = [step(sampler.draw(i))[0].item() for i in range(8)]
        states.append((losses, model.state_dict()))
    (losses, state), (losses_graph, state_graph) = states
    # The official backward adds with atomics, in an order that changes from run to run.
    tolerance = 0.0 if backend == "cuda" else 1e-3
    torch.testing.assert_close(losses_graph, losses, rtol=tolerance, atol=tolerance)
    for name in state:
        torch.testing.assert_close(state_graph[name], state[name], rtol=tolerance, atol=tolerance)


@needs["cuda"]
def test_pieces_and_steps_equal_the_whole():
    run = cifar_run("cuda")
    model = moved(build_model(run, SHAPE)).cuda().eval()
    generator = torch.Generator("cuda").manual_seed(0)
    patches = torch.rand(2, 150, 48, device="cuda", generator=generator)
    cells = torch.randint(64, (2, 150), device="cuda", generator=generator)
    told = torch.tensor([64, 150], device="cuda")
    with torch.no_grad():
        whole, end = model.encode(patches, cells, told=told)
        for cuts in ((1, 2, 5, 64, 150), tuple(range(1, 151))):
            state, outputs, start = None, [], 0
            for cut in cuts:
                out, state = model.encode(patches[:, start:cut], cells[:, start:cut], state, told)
                outputs.append(out)
                start = cut
            # float32 arithmetic in another order, over 150 steps and four layers
            assert relative_rms(torch.cat(outputs, 1), whole) < 1e-5
            for a, b in zip(state.layers, end.layers, strict=True):
                assert relative_rms(a.h, b.h) < 1e-5
