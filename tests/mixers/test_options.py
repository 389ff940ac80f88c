"""Options of mixers: what they change, and that files without them stay what they are."""

import pytest
import torch

from lgmamba.mixers.mamba.config import MambaConfig
from lgmamba.mixers.mamba.mixer import MambaMixer
from tests.mixers.contract import ROWS, Row, build, inputs
from tests.model.models import BASE, config


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
