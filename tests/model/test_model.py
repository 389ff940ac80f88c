"""The model as training and callers use it."""

import subprocess
import sys

import pytest
import torch

from lgmamba.tasks.draw.model import PatchMamba
from tests.model.models import SHAPE, SINGLE, VARIANTS, as_read, config, fresh, lengths_told, moved, sequence, told
from tests.scan.cases import backends

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
STEPS = torch.tensor([[1, 13], [7, 2], [13, 5]])


def loss(model: PatchMamba) -> torch.Tensor:
    patches, cells = sequence(model)
    return model(as_read(patches, cells), STEPS, lengths_told(model, 5, 13, 20)).square().mean()


@variants
def test_gradients_reach_every_parameter(variant):
    model = moved(fresh(**variant))
    loss(model).backward()
    visited = set(sequence(model)[1].flatten().tolist())
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        reached = p.grad.flatten(1).abs().sum(1) > 0 if p.ndim > 1 else p.grad != 0
        if name == "embed_cell.weight":
            assert set(torch.where(reached)[0].tolist()) == visited
        elif name == "embed_move.weight":
            assert (p.grad.abs().sum(1) > 0).all()
        else:
            assert reached.all(), name


@variants
def test_bf16_autocast_runs_and_keeps_the_residual_stream_in_float32(variant):
    model = moved(fresh(**variant))
    streams = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, inputs, outputs: streams.extend([inputs[0].dtype, outputs[0].dtype]))
    patches, cells = sequence(model)
    lengths = lengths_told(model, 5, 13, 20)
    with torch.autocast("cpu", torch.bfloat16):
        images = model(as_read(patches, cells), STEPS, lengths)
        _, state = model.encode(model.embed(patches[:, :4], cells[:, :4]), target_length=lengths)
        outputs, _ = model.encode(model.embed(patches[:, 4:], cells[:, 4:]), state, lengths)
    assert set(streams) == {torch.float32}
    assert images.dtype == torch.float32
    want = model(as_read(patches, cells), STEPS, lengths)
    # bfloat16 rounds to 4e-3, some ten times in a row
    assert (images - want).square().mean().sqrt() < 0.04 * want.square().mean().sqrt()
    assert outputs.isfinite().all()
    images.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("backend", backends())
def test_every_backend_gives_the_same_outputs_and_gradients(backend):
    found = []
    for name in (backend, "reference"):
        model = moved(fresh(scan_backend=name, adaptive=told()))
        patches, cells = sequence(model)
        outputs, _ = model.encode(model.embed(patches, cells), target_length=torch.tensor([5, 13, 20]))
        found.append([outputs, *torch.autograd.grad(outputs.square().mean(), list(model.blocks.parameters()))])
    for mine, reference in zip(*found, strict=True):
        torch.testing.assert_close(mine, reference, **SINGLE)


def test_a_backend_that_cannot_run_here_is_an_error_that_names_it():
    model = fresh(scan_backend="mamba_ssm")
    with pytest.raises(RuntimeError, match=r"backend='mamba_ssm' cannot run on device 'cpu': .*CUDA only"):
        loss(model)
    unknown = PatchMamba(config().model_copy(update={"scan_backend": "nonsense"}), SHAPE, 2, 8)
    with pytest.raises(
        ValueError, match=r"backend='nonsense' is unknown; expected 'auto' or one of \['cpu', .*'reference'\]"
    ):
        loss(unknown)


def test_a_patch_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="patch_size=3 does not divide the image of 4 x 6 pixels"):
        PatchMamba(config(), SHAPE, 3, 8)


@pytest.mark.parametrize(("expand", "d_inner"), [(1.3, 15), (0.3, 3), (0.09, 1)])
def test_a_fractional_inner_width_is_rounded_down_as_officially(expand, d_inner):
    model = fresh(mixer={"expand": expand}, adaptive=told())
    assert model.blocks[0].mixer.D.shape == (d_inner,)
    loss(model).backward()


def test_equal_seeds_make_equal_models():
    a, b, c = (fresh(seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_state_survives_saving_and_loading(tmp_path):
    model = moved(fresh(adaptive=told()))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = fresh(seed=1, adaptive=told())
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(loss(other.eval()), loss(model))


def test_one_batch_is_learnt_by_heart():
    model = fresh(mixer={"d_state": 8}, d_model=24, decoder={"kind": "mlp", "hidden": 32})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    patches, cells = sequence(model, B=4, L=6)
    images, steps = torch.rand(4, 1, *SHAPE, generator=torch.Generator().manual_seed(5)), torch.full((4, 1), 6)
    for _ in range(120):
        mse = (model(as_read(patches, cells), steps) - images).square().mean()
        optimizer.zero_grad()
        mse.backward()
        optimizer.step()
    assert images.var() > 0.07
    assert mse < 1e-3  # 192 numbers, seven thousand weights


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_public_names_are_those_of_their_modules():
    from lgmamba import LengthDistribution, PatchMamba, State, load_params, selective_scan
    from lgmamba.config import study
    from lgmamba.mixers import contract
    from lgmamba.scan import api
    from lgmamba.tasks import lengths
    from lgmamba.tasks.draw import model as draw

    assert PatchMamba is draw.PatchMamba
    assert State is contract.State
    assert selective_scan is api.selective_scan
    assert LengthDistribution is lengths.LengthDistribution
    assert load_params is study.load_params


def test_the_bare_package_imports_nothing_heavy():
    run_python("import sys, lgmamba; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), sorted(sys.modules)")
    run_python("import sys; from lgmamba import load_params; assert 'torch' not in sys.modules")
    with pytest.raises(ImportError, match="cannot import name 'PatchMumba'"):
        from lgmamba import PatchMumba  # noqa: F401
