"""The mixer is Mamba-1: official names, shapes, initialisation and arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F

from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.mixers.mamba.mixer import MambaMixer
from tests.model.models import EXACT, config, exact, fresh, moved, sequence
from tests.tasks.counts import assert_drawn_from

SIZES = {
    "usual": ({"expand": 2, "d_state": 16, "d_conv": 4}, 48, (24 * 2, 16, 4, 2)),
    "rank": ({"expand": 2, "d_state": 5, "d_conv": 3, "dt_rank": 7}, 48, (48, 5, 3, 7)),
    "fractional": ({"expand": 1.3, "d_state": 4, "d_conv": 1}, 31, (31, 4, 1, 2)),
}


def mixer(d_model: int = 24, seed: int = 0, n_layer: int = 1, **sizes) -> MambaMixer:
    torch.manual_seed(seed)
    return MambaMixer(config(sizes, d_model=d_model, n_layer=n_layer, scan_backend="reference"), layer=0)


def official_shapes(d_model: int, d_inner: int, d_state: int, d_conv: int, dt_rank: int) -> dict[str, tuple[int, ...]]:
    """What `mamba_ssm.Mamba(d_model, d_state, d_conv, expand).state_dict()` holds."""
    return {
        "A_log": (d_inner, d_state),
        "D": (d_inner,),
        "in_proj.weight": (2 * d_inner, d_model),
        "conv1d.weight": (d_inner, 1, d_conv),
        "conv1d.bias": (d_inner,),
        "x_proj.weight": (dt_rank + 2 * d_state, d_inner),
        "dt_proj.weight": (d_inner, dt_rank),
        "dt_proj.bias": (d_inner,),
        "out_proj.weight": (d_model, d_inner),
    }


@pytest.mark.parametrize(("sizes", "d_inner", "rest"), SIZES.values(), ids=SIZES)
def test_parameter_names_and_shapes_are_the_official_ones(sizes, d_inner, rest):
    made = mixer(24, **sizes)
    d_inner, d_state, d_conv, dt_rank = (d_inner, *rest[1:])
    assert {k: tuple(v.shape) for k, v in made.state_dict().items()} == official_shapes(
        24, d_inner, d_state, d_conv, dt_rank
    )
    assert dict(made.named_parameters()).keys() == made.state_dict().keys()
    assert made(torch.rand(2, 3, 24))[0].shape == (2, 3, 24)


def test_the_model_holds_no_other_parameters():
    model = fresh()
    mixers = {f"blocks.{i}.mixer.{k}" for i in range(2) for k in official_shapes(1, 1, 1, 1, 1)}
    rest = {"embed_patch.weight", "embed_patch.bias", "embed_cell.weight", "norm_out.weight"}
    rest |= {f"blocks.{i}.norm.weight" for i in range(2)} | {
        f"decoder.net.{i}.{k}" for i in (0, 2) for k in ("weight", "bias")
    }
    assert set(model.state_dict()) == mixers | rest


def test_A_and_D_at_initialisation():
    made = mixer(d_state=5)
    want = torch.tensor([1.0, 2, 3, 4, 5]).log().expand(48, 5)
    assert torch.equal(made.A_log, want)
    assert torch.equal(made.D, torch.ones(48))


def test_step_sizes_are_log_uniform_at_initialisation():
    made = mixer(d_model=512, expand=8, dt_min=1e-3, dt_max=1e-1)
    dt = F.softplus(made.dt_proj.bias.double())
    # float32 holds the bias, a logarithm of size 7, to 5e-7
    assert dt.min() > 1e-3 * (1 - 1e-5) and dt.max() < 1e-1 * (1 + 1e-5)
    bins = ((dt.log10() + 3) * 10).long().clamp(0, 19)  # ten bins a decade
    assert_drawn_from(bins, torch.full((20,), 1 / 20))


def test_step_sizes_never_start_below_the_floor():
    dt = F.softplus(mixer(d_model=64, dt_min=1e-7, dt_max=1e-3).dt_proj.bias.double())
    assert dt.min().item() == pytest.approx(1e-4, rel=1e-4)  # float32 holds the bias, a logarithm of size 9
    assert dt.max() > 3e-4


@pytest.mark.parametrize("n_layer", [1, 4])
def test_projections_at_initialisation(n_layer):
    model = fresh(mixer={"dt_rank": 9}, d_model=64, n_layer=n_layer)
    for block in model.blocks:
        weight = block.mixer.dt_proj.weight.abs().max().item()
        assert 0.98 / 3 < weight <= 1 / 3  # uniform in +-1/sqrt(R), 1,152 of them
        weight = block.mixer.out_proj.weight.abs().max().item()  # uniform in +-1/sqrt(D), shrunk by the depth
        assert 0.99 < weight * math.sqrt(128 * n_layer) <= 1 + 1e-6


def textbook(m: MambaMixer, u: torch.Tensor) -> torch.Tensor:
    """Mamba-1 written down once more, (B, L, d) -> (B, L, d), channels first and one step after the other as in the paper."""
    L, N, R = u.shape[1], m.A_log.shape[1], m.dt_proj.in_features
    xz = m.in_proj(u).transpose(1, 2)  # (B, 2 D, L)
    x, z = xz[:, : xz.shape[1] // 2], xz[:, xz.shape[1] // 2 :]
    x = F.silu(m.conv1d(x)[..., :L])
    projected = m.x_proj(x.transpose(1, 2))
    dt = F.softplus(m.dt_proj(projected[..., :R]))
    h, ys = torch.zeros(len(u), x.shape[1], N, dtype=u.dtype), []
    for t in range(L):
        step, Bvec, Cvec = dt[:, t, :, None], projected[:, t, None, R : R + N], projected[:, t, None, R + N :]
        h = torch.exp(step * -torch.exp(m.A_log)) * h + step * Bvec * x[:, :, t, None]
        ys.append((h * Cvec).sum(-1) + m.D * x[:, :, t])
    return m.out_proj(torch.stack(ys, dim=1) * F.silu(z.transpose(1, 2)))


@pytest.mark.parametrize("sizes", [s for s, _, _ in SIZES.values()], ids=SIZES)
def test_outputs_are_those_of_the_textbook(sizes):
    made = moved(mixer(**sizes)).double()
    u = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(made(u)[0], textbook(made, u), **EXACT)


def test_the_stack_is_a_pre_norm_residual_stack():
    model = exact()
    patches, cells = sequence(model)
    x = model.embed_patch(2 * patches - 1) + model.embed_cell(cells)
    for block in model.blocks:
        u = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.weight
        x = x + textbook(block.mixer, u)
    want = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * model.norm_out.weight
    torch.testing.assert_close(model.encode(model.embed(patches, cells))[0], want, **EXACT)


def test_an_offset_of_the_step_size_is_added_before_softplus():
    made = moved(mixer()).double()
    u, offset = torch.rand(2, 5, 24).double(), torch.randn(48).double()
    with_offset, _, _ = made(u, dt_offset=offset.expand(2, 1, 48))
    made.dt_proj.bias.data += offset
    torch.testing.assert_close(with_offset, made(u)[0], **EXACT)


@pytest.mark.parametrize("W", [1, 2, 4, 7])
@pytest.mark.parametrize("L", [1, 2, 9])
def test_the_convolution_reads_its_carry_as_the_inputs_before(W, L):
    generator = torch.Generator().manual_seed(W)
    x, carry = (torch.randn(2, n, 5, generator=generator).double() for n in (L, W - 1))
    weight, bias = torch.randn(5, W, generator=generator).double(), torch.randn(5, generator=generator).double()
    y, after = causal_conv1d_silu(x, weight, bias, carry)
    both = torch.cat([carry, x], dim=1)
    want = F.silu(F.conv1d(both.transpose(1, 2), weight[:, None], bias, groups=5)).transpose(1, 2)
    torch.testing.assert_close(y, want, **EXACT)
    assert torch.equal(after, both[:, L:])
    start, _ = causal_conv1d_silu(x, weight, bias, None)
    torch.testing.assert_close(start, causal_conv1d_silu(x, weight, bias, torch.zeros_like(carry))[0], **EXACT)
