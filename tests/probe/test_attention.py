"""Hidden attention reproduces the scan; distances against brute force."""

import pytest
import torch

from lgmamba.model import ScanCall
from lgmamba.probe.attention import attention_rows, mean_distance, mode_distances
from lgmamba.scan import selective_scan
from tests.model.models import exact, sequence
from tests.model.passes import seen

ROWS = [0, 1, 5, 12]
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
"""float64 sums of a dozen terms."""


def layer_call(layer: int) -> ScanCall:
    model = exact()
    return seen(model, *sequence(model))[layer]


@pytest.mark.parametrize("layer", [0, 1])
def test_attention_times_input_is_the_output_of_the_scan(layer):
    call = layer_call(layer)
    alpha = attention_rows(call, ROWS)
    y = selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, torch.zeros_like(call.A[:, 0]))
    torch.testing.assert_close(torch.einsum("brdj,bjd->brd", alpha, call.x), y[:, ROWS], **TIGHT)
    for r, i in enumerate(ROWS):
        assert (alpha[:, r, :, i + 1 :] == 0).all()
        assert (alpha[:, r, :, : i + 1] != 0).all()


def test_attention_to_everything_alike_lies_half_way_back():
    uniform = torch.ones(1, 2, 1, 9).tril(diagonal=4)
    uniform[:, 0] = (torch.arange(9) <= 4).float()
    uniform[:, 1] = 1.0
    assert mean_distance(uniform, [4, 8]).flatten().tolist() == [2.0, 4.0]


def test_distances_of_modes_equal_brute_force():
    call = layer_call(0)
    got = mode_distances(call)
    total = call.dt.cumsum(1)
    for i in ROWS:
        since = (total[:, i : i + 1] - total[:, : i + 1])[..., None]
        weight = torch.exp(since * call.A) * call.dt[:, : i + 1, :, None] * call.Bmat[:, : i + 1, None].abs()
        back = torch.arange(i, -1, -1)[:, None, None]
        torch.testing.assert_close(got[:, i], (weight * back).sum(1) / weight.sum(1), **TIGHT)


def test_a_piece_is_no_whole_sequence():
    model = exact()
    patches, cells = sequence(model)
    _, state = model.encode(patches[:, :4], cells[:, :4])
    call = seen(model, patches[:, 4:], cells[:, 4:], state=state)[0]
    with pytest.raises(ValueError, match="starts after step 4"):
        attention_rows(call, [0])
