"""Options of mixers: what they change, and that files without them stay what they are."""

import pytest
import torch

from lgmamba.mixers.attention.mixer import AttentionMixer
from lgmamba.mixers.mamba.config import MambaConfig
from lgmamba.mixers.mamba.mixer import MambaMixer
from lgmamba.mixers.rglru.config import HYBRID
from lgmamba.mixers.rglru.mixer import RglruMixer
from tests.mixers.contract import ROWS, Row, build, inputs
from tests.model.models import BASE, EXACT, config, exact


def mamba(**options) -> Row:
    return Row(BASE["mixer"] | options, ROWS["mamba"].oracle, 0)


def test_options_stand_in_files_only_where_they_are_set():
    plain = MambaConfig(**BASE["mixer"]).model_dump(mode="json")
    assert set(plain) == set(BASE["mixer"])
    options = {"conv": "none", "dropout": 0.1, "biases": "all", "out_init": "plain"}
    assert MambaConfig(**BASE["mixer"], **options).model_dump(mode="json") == plain | options


def test_dropout_acts_in_training_only_on_what_the_in_projection_gives():
    u, mixer = inputs(), build(mamba(dropout=0.5))
    mixer.eval()
    assert torch.equal(mixer(u)[0], build(mamba()).eval()(u)[0])
    mixer.train()
    torch.manual_seed(0)
    first, second = mixer(u)[0], mixer(u)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(mixer(u)[0], first)


@pytest.mark.parametrize(
    ("biases", "there"), [("conv", (0, 1)), ("none", (0, 0)), ("projections", (1, 0)), ("all", (1, 1))]
)
def test_biases_are_there_where_they_are_asked_for_and_projections_start_without(biases, there):
    made = MambaMixer(config({"biases": biases}), 0)
    projections, conv = there
    assert (made.in_proj.bias is not None, made.out_proj.bias is not None) == (projections, projections)
    assert (made.conv1d.bias is not None) == conv
    if projections:
        assert not made.in_proj.bias.any() and not made.out_proj.bias.any()


def test_the_out_projection_starts_divided_by_the_root_of_the_depth_or_plain():
    def made(**options) -> torch.Tensor:
        torch.manual_seed(0)
        return MambaMixer(config(options, n_layer=4), 0).out_proj.weight

    torch.testing.assert_close(made(out_init="plain"), 2 * made())


def test_every_third_layer_of_griffin_is_local_attention():
    """And the stack reads in pieces, and masked steps are dropped ones, across both kinds of layer."""
    model = exact(mixer=ROWS["griffin"].mixer, d_model=6, n_layer=3)
    assert [type(block.mixer) for block in model.blocks] == [RglruMixer, RglruMixer, AttentionMixer]
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want, end = model.encode(x)
    state, outputs = None, []
    for chunk in x.split((4, 1, 4), dim=1):
        out, state = model.encode(chunk, state, hook=lambda call: call)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), want, **EXACT)
    torch.testing.assert_close(state.tensors(), end.tensors(), **EXACT)
    assert state.layers[2].tensors[0].shape == (2, 2, 6)  # no more than the window's
    changed = x.clone()
    changed[:, 0] += 1
    seen = (model.blocks[2].mixer(changed)[0] - model.blocks[2].mixer(x)[0]).abs().amax((0, 2))
    assert (seen[:3] > 1e-6).all() and not seen[3:].any()
    assert model.config.mixer.refusal(["state"]) == f"no state: {HYBRID}"
