"""Hidden attention reproduces the scan and the mixer; distances against brute force."""

import pytest
import torch

from lgmamba.mixers.mamba.attention import attention_rows, attention_tiles, mixer_rows
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.probe.attention import aggregate, mean_distance, reach
from lgmamba.scan import selective_scan
from tests.model.models import exact, sequence
from tests.model.passes import seen

ROWS = [0, 1, 5, 12]
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
"""float64 sums of a dozen terms."""


def layer_call(layer: int) -> MambaCall:
    model = exact()
    return seen(model, *sequence(model))[layer]


@pytest.mark.parametrize("span", [0, 1, 4, 100])
@pytest.mark.parametrize("layer", [0, 1])
def test_attention_times_input_is_the_output_of_the_scan(layer, span):
    call = layer_call(layer)
    y = selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, torch.zeros_like(call.A[:, 0]))
    for rows in (ROWS, list(range(13))):
        alpha = attention_rows(call, rows, span)
        torch.testing.assert_close(torch.einsum("brdj,bjd->brd", alpha, call.x), y[:, rows], **TIGHT)
        for r, i in enumerate(rows):
            assert (alpha[:, r, :, i + 1 :] == 0).all()
            assert (alpha[:, r, :, : i + 1] != 0).all()


def test_tiles_hold_no_more_than_their_span():
    call = layer_call(0)
    tiles = list(attention_tiles(call, [0, 3, 4, 7, 12], span=4))
    assert [rows for rows, _ in tiles] == [[0, 3, 4], [7], [12]]
    assert [block.shape[3] for _, block in tiles] == [5, 8, 13]


def test_decays_that_would_overflow_do_not():
    """exp(+S) alone would be infinite: over 400 steps of 10 with A = -16, S A = -64,000."""
    L, D, N = 400, 2, 3
    A = -torch.tensor([[1.0, 4.0, 16.0], [1e-4, 1e-3, 1e-2]], dtype=torch.float64)
    call = MambaCall(
        layer=0,
        t0=0,
        target_length=None,
        x=torch.ones(1, L, D).double(),
        z=torch.ones(1, L, D).double(),
        dt=torch.full((1, L, D), 10.0).double(),
        A=A,
        Bmat=torch.ones(1, L, N).double(),
        Cmat=torch.ones(1, L, N).double(),
        h0=None,
    )
    rows = [5, 200, 260, 399]
    alpha = attention_rows(call, rows, span=100)
    for r, i in enumerate(rows):
        back = torch.arange(i, -1, -1).double()[:, None, None]
        want = (torch.exp(A * 10.0 * back) * 10.0).sum(2).T
        torch.testing.assert_close(alpha[0, r, :, : i + 1], want, **TIGHT)


@pytest.mark.parametrize(
    "mixer", [{}, {"d_conv": 1}, {"d_conv": 7}, *({"conv": form} for form in ("none", "ones", "bypass", "product"))]
)
def test_the_extended_form_is_the_mixer(mixer):
    model = exact(mixer)
    for block in model.blocks:
        u = torch.randn(3, 13, model.config.d_model, generator=torch.Generator().manual_seed(3)).double()
        calls = []
        out, _, _ = block.mixer(u, hook=lambda call, calls=calls: calls.append(call) or call)
        M, offset = mixer_rows(block.mixer, u, calls[0], ROWS, span=3)
        x_in = block.mixer.in_proj(u).chunk(2, dim=-1)[0]
        inner = torch.einsum("brdj,bjd->brd", M, x_in) + offset
        torch.testing.assert_close(block.mixer.out_proj(inner), out[:, ROWS], **TIGHT)


def test_aggregations_by_hand():
    alpha = torch.tensor([[[[1.0, -3.0]], [[2.0, 0.0]]]]).transpose(1, 2)  # (1, 1, 2 channels, 2)
    assert alpha.shape == (1, 1, 2, 2)
    assert aggregate(alpha, "abs").flatten().tolist() == [1.5, 1.5]
    assert aggregate(alpha, "rownorm").flatten().tolist() == [0.625, 0.375]
    assert aggregate(alpha, "signed").flatten().tolist() == [1.5, 1.5]
    assert aggregate(alpha * torch.tensor([1.0, -1.0])[:, None], "signed").flatten().tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match="expected one of abs, rownorm, signed"):
        aggregate(alpha, "mean")


def test_attention_to_everything_alike_lies_half_way_back():
    uniform = torch.zeros(1, 2, 9)
    uniform[:, 0, :5] = uniform[:, 1] = 1.0
    assert mean_distance(uniform, [4, 8]).flatten().tolist() == [2.0, 4.0]
    assert reach(uniform, [4, 8], 0.9).flatten().tolist() == [5, 9]  # 90 % of 5 needs all 5, of 9 all 9
    assert reach(uniform, [4, 8], 0.5).flatten().tolist() == [3, 5]
    assert reach(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), [2], 0.9).tolist() == [1]


def test_the_mean_over_channels_is_that_of_normalised_rows():
    alpha = attention_rows(layer_call(1), ROWS)
    per_channel = mean_distance(alpha.transpose(1, 2), ROWS).mean(1)
    torch.testing.assert_close(mean_distance(aggregate(alpha, "rownorm"), ROWS), per_channel, **TIGHT)
    for i, found in zip(ROWS, per_channel.T, strict=True):
        assert ((found >= 0) & (found <= i)).all()


def test_a_piece_is_no_whole_sequence():
    model = exact()
    patches, cells = sequence(model)
    _, state = model.encode(model.embed(patches[:, :4], cells[:, :4]))
    call = seen(model, patches[:, 4:], cells[:, 4:], state=state)[0]
    with pytest.raises(ValueError, match="starts after step 4"):
        attention_rows(call, [0])
