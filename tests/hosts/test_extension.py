"""A remedy on a model of transformers: what it computes, in one pass, token by token, in batches with padding; and what it leaves."""

import copy

import pytest
import torch
import torch.nn.functional as F

import lgmamba
from lgmamba.config.base import ConfigError
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.extension import weights_digest
from lgmamba.hosts.host import Host
from tests.hosts.models import CONFIGS, HYBRIDS, L0, PURE, make, tokens

POWER = {"kind": "step_size", "form": "power", "mode": "stream"}
STREAM = {
    "power": POWER,
    "retain_insert": {"kind": "retain_insert", "mode": "stream", "horizon": 2, "insertion": 0.8},
    "spectrum": {"kind": "spectrum", "form": "mult", "mode": "stream", "factor": 3},
    "clip": {"kind": "spectrum", "form": "clip", "mode": "stream", "band": [0.3, 0.7]},
    "window": {"kind": "window", "mode": "stream"},
    "overlap": {"kind": "window", "form": "overlap", "mode": "stream"},
    "normalise": {"kind": "normalise_state", "mode": "stream", "quantile": 0.5},
    "longmamba": {"kind": "longmamba", "mode": "stream", "channels": "all"},
    "schedule": {"kind": "schedule", "mode": "stream"},
    "taper": {"kind": "taper", "mode": "stream"},
}
"""Every kind that can be read token by token."""
TEXT = tokens(6, 4 * L0 + 1, seed=5)
T = 3 * L0


def extended(model, remedy, **more):
    from lgmamba.hosts.extension import wanted

    (entry,) = wanted([remedy])
    given = {"calibrate": TEXT, "windows": 6, "steps": 2, "lengths": (2.0, 3.0)} if entry.calibrated else {}
    return lgmamba.extend(model, remedy, L0, **given | more)


@torch.no_grad()
def logits(model, ids, **more):
    return model(ids, **more).logits


@torch.no_grad()
def token_by_token(model, ids, prompt, mask=None):
    """Logits of all positions: the prompt in one pass, then one token at a time."""
    out = model(ids[:, :prompt], attention_mask=None if mask is None else mask[:, :prompt], use_cache=True)
    found, name = [out.logits], "cache" if getattr(out, "cache", None) is not None else "past_key_values"
    for t in range(prompt, ids.shape[1]):
        here = torch.full_like(ids[:, :1], t) if mask is None else mask[:, : t + 1].sum(1, keepdim=True) - 1
        more = {name: getattr(out, name), "position_ids": here}
        if mask is not None:
            more["attention_mask"] = mask[:, : t + 1]
        out = model(ids[:, t : t + 1], use_cache=True, **more)
        found.append(out.logits)
    return torch.cat(found, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_factor_of_1_changes_no_bit_and_agrees_with_the_models_own_pass(name):
    """Their own pass sums in another order, so that it agrees to rounding; the host's own pass without a remedy to the bit."""
    model, ids = make(name), tokens(2, T)
    own = logits(model, ids)
    host = Host(model, L0)
    with torch.no_grad():
        plain = host.predict(host.encode(ids)[0])
    with extended(model, {"kind": "step_size", "form": "layer", "factor": 1, "mode": "prefix"}):
        with_1 = logits(model, ids)
    torch.testing.assert_close(with_1, plain, rtol=0, atol=0)
    torch.testing.assert_close(with_1, own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_afterwards_the_model_is_what_it_was_to_the_bit(name):
    model, ids = make(name), tokens(2, T)
    before, names = logits(model, ids), set(model.state_dict())
    ext = extended(model, POWER)
    changed = logits(model, ids)
    assert (changed[:, L0:] - before[:, L0:]).abs().max() > 1e-4
    torch.testing.assert_close(changed[:, :L0], before[:, :L0], rtol=0, atol=1e-5)
    ext.remove()
    ext.remove()
    assert torch.equal(logits(model, ids), before)
    assert set(model.state_dict()) == names
    assert all("forward" not in m.__dict__ for m in model.modules())


def test_uniform_step_sizes_are_what_a_forward_pass_written_by_hand_gives():
    model, ids = make("Mamba", torch.float64), tokens(2, T)
    with extended(model, {"kind": "step_size", "form": "uniform", "mode": "prefix"}):
        found = logits(model, ids)
    x = model.backbone.embeddings(ids)
    with torch.no_grad():
        for block in model.backbone.layers:
            mixer = block.mixer
            inner, gate = mixer.in_proj(block.norm(x)).chunk(2, -1)
            inner = F.silu(mixer.conv1d(inner.mT)[..., :T]).mT
            low, B, C = mixer.x_proj(inner).split([2, 4, 4], -1)
            dt = F.softplus(mixer.dt_proj(low)) * (L0 / T)
            A, h, ys = -mixer.A_log.exp(), 0, []
            for t in range(T):
                h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * inner[:, t])[..., None] * B[:, t, None]
                ys.append((h * C[:, t, None]).sum(-1) + mixer.D * inner[:, t])
            x = x + mixer.out_proj(torch.stack(ys, 1) * F.silu(gate))
        expected = model.lm_head(model.backbone.norm_f(x))
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


def test_of_mamba_2_every_head_and_group_is_scaled_as_by_hand():
    """With half the step size everywhere: the bias of softplus cannot do that, but a forward pass with other inputs can."""
    model, ids = make("Mamba2", torch.float64), tokens(2, T)
    with extended(model, {"kind": "step_size", "form": "layer", "factor": 0.5, "mode": "prefix"}, lengths=(3.0,)):
        found = logits(model, ids)
    x = model.backbone.embeddings(ids)
    with torch.no_grad():
        for block in model.backbone.layers:
            mixer = block.mixer
            gate, xBC, raw = mixer.in_proj(block.norm(x)).split([32, 32 + 16, 4], -1)
            xBC = F.silu(mixer.conv1d(xBC.mT)[..., :T]).mT
            inner, B, C = xBC.split([32, 8, 8], -1)
            inner, B, C = inner.unflatten(-1, (4, 8)), B.unflatten(-1, (2, 4)), C.unflatten(-1, (2, 4))
            dt, A, h, ys = 0.5 * F.softplus(raw + mixer.dt_bias), -mixer.A_log.exp(), 0, []
            for t in range(T):
                of_head = [B[:, t, head // 2] for head in range(4)]
                write = (dt[:, t, :, None] * inner[:, t])[..., None] * torch.stack(of_head, 1)[:, :, None]
                h = torch.exp(dt[:, t] * A)[..., None, None] * h + write
                read = torch.stack([C[:, t, head // 2] for head in range(4)], 1)[:, :, None]
                ys.append(((h * read).sum(-1) + mixer.D[:, None] * inner[:, t]).flatten(1))
            x = x + mixer.out_proj(mixer.norm(torch.stack(ys, 1), gate).to(x.dtype))
        expected = model.lm_head(model.backbone.norm_f(x))
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("remedy", STREAM)
@pytest.mark.parametrize("name", ["Mamba", "Mamba2"])
def test_a_text_read_token_by_token_is_what_it_is_in_one_pass(name, remedy):
    model, ids = make(name), tokens(2, T, seed=1)
    plain = logits(model, ids)
    with extended(model, STREAM[remedy]):
        whole = logits(model, ids)
        torch.testing.assert_close(token_by_token(model, ids, L0 // 2), whole, rtol=0, atol=2e-5)
        torch.testing.assert_close(token_by_token(model, ids, 2 * L0), whole, rtol=0, atol=2e-5)
    torch.testing.assert_close(whole[:, :L0], plain[:, :L0], rtol=0, atol=1e-5)
    if remedy != "schedule":  # of random weights a search may keep the factor 1
        assert (whole[:, L0:] - plain[:, L0:]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["FalconMamba", *HYBRIDS])
def test_other_classes_read_token_by_token_alike(name):
    model, ids = make(name), tokens(2, T, seed=1)
    with extended(model, POWER):
        torch.testing.assert_close(token_by_token(model, ids, L0 + 3), logits(model, ids), rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "Jamba"])
def test_a_text_is_gone_on_with_by_several_tokens_at_a_time(name):
    model, ids = make(name), tokens(2, T, seed=1)
    with extended(model, STREAM["window"]):
        first = model(ids[:, : L0 + 4], use_cache=True)
        held = {"cache": first.cache} if hasattr(first, "cache") else {"past_key_values": first.past_key_values}
        rest = model(ids[:, L0 + 4 :], use_cache=True, **held).logits
        torch.testing.assert_close(torch.cat([first.logits, rest], 1), logits(model, ids), rtol=0, atol=2e-5)


@pytest.mark.parametrize("remedy", ["power", "window", "longmamba"])
@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "FalconMamba"])
def test_padding_on_the_left_changes_nothing(name, remedy):
    model, pads = make(name), [0, 5, 5, 9]
    ids, mask = tokens(4, T, seed=2), torch.ones(4, T, dtype=torch.long)
    for row, n in enumerate(pads):
        ids[row, :n], mask[row, :n] = 0, 0
    with extended(model, STREAM[remedy]):
        together = token_by_token(model, ids, 2 * L0, mask)
        for row, n in enumerate(pads):
            alone = token_by_token(model, ids[row : row + 1, n:], 2 * L0 - n)
            torch.testing.assert_close(together[row : row + 1, n:], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [*PURE, *HYBRIDS])
def test_generation_in_a_padded_batch_is_that_of_each_prompt_alone(name):
    model, ids = make(name), tokens(3, 2 * L0, seed=3)
    mask = torch.ones_like(ids)
    ids[1, :4], mask[1, :4] = 0, 0
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    with extended(model, POWER) as ext:
        together = ext.generate(ids, attention_mask=mask, **options)
        for row, n in enumerate([0, 4, 0]):
            alone = ext.generate(ids[row : row + 1, n:], attention_mask=mask[row : row + 1, n:], **options)
            assert torch.equal(together[row, n:], alone[0])
        assert torch.equal(together[2:, :-1].clone(), _greedy(model, ids[2:], 5))


def _greedy(model, ids, n):
    """By whole passes, without a cache."""
    for _ in range(n):
        ids = torch.cat([ids, logits(model, ids, use_cache=False)[:, -1].argmax(-1, keepdim=True)], 1)
    return ids


def test_beams_are_those_of_whole_passes_and_refused_where_the_cache_cannot_follow():
    model, ids = make("Mamba"), tokens(1, 2 * L0, seed=4)
    options = {
        "max_new_tokens": 4,
        "num_beams": 3,
        "do_sample": False,
        "eos_token_id": None,
        "attention_mask": torch.ones_like(ids),
    }
    with extended(model, POWER) as ext:
        cached, whole = (ext.generate(ids, use_cache=cache, **options) for cache in (True, False))
        assert torch.equal(cached, whole)
    with extended(model, STREAM["window"]), pytest.raises(HostError, match="num_beams=1"):
        model.generate(ids, **options)


def test_in_prefix_mode_the_length_is_that_of_the_prompt_or_what_is_told():
    model, ids = make("Mamba"), tokens(2, T, seed=6)
    uniform = {"kind": "step_size", "form": "uniform", "mode": "prefix"}
    by_hand = {"kind": "step_size", "form": "layer", "mode": "prefix", "factor": 0.5}
    with extended(model, by_hand, lengths=(2.0,)):
        half = logits(model, ids[:, : 2 * L0]), token_by_token(model, ids, 2 * L0)
    with extended(model, uniform):
        assert torch.equal(logits(model, ids[:, : 2 * L0]), half[0])
        torch.testing.assert_close(token_by_token(model, ids, 2 * L0), half[1], rtol=0, atol=2e-5)
    with extended(model, uniform, target_length=2 * L0):
        torch.testing.assert_close(logits(model, ids), half[1], rtol=0, atol=2e-5)


def test_up_to_L0_a_prefix_remedy_is_the_models_own_pass_to_the_bit():
    model, ids = make("Mamba2"), tokens(2, L0)
    own = logits(model, ids)
    with extended(model, {"kind": "spectrum", "form": "clip", "mode": "prefix", "band": [0.2, 0.8]}):
        assert torch.equal(logits(model, ids), own)


@pytest.mark.parametrize("name", PURE)
def test_decimation_answers_at_the_end_and_says_of_dropped_tokens_that_there_is_nothing(name):
    """Steps kept by the last layer give the same answer however many tokens of padding stand before."""
    model, ids = make(name), tokens(2, T, seed=7)
    mask = torch.ones_like(ids)
    ids[1, :5], mask[1, :5] = 0, 0
    deci = {"kind": "decimamba", "mode": "prefix", "layers": [0]}
    with extended(model, deci):
        both = logits(model, ids, attention_mask=mask)
        alone = logits(model, ids[1:, 5:])
        steps = token_by_token(model, ids, 2 * L0, mask)
    assert both[:, -1].isfinite().all()
    assert both[0].isnan().any(-1).sum() == T - L0 and alone[0].isnan().any(-1).sum() == T - 5 - L0
    torch.testing.assert_close(both[1:, -1], alone[:, -1], rtol=0, atol=2e-5)
    assert steps[:, 2 * L0 - 1 :].isfinite().all()  # after the prompt nothing is left out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Mamba", "Mamba2"])
def test_narrow_types_stay_near_and_the_memory_is_wide(name, dtype):
    ids = tokens(2, T)
    wide, narrow = make(name), make(name, dtype)
    with extended(wide, POWER), extended(narrow, POWER):
        expected, found = logits(wide, ids), narrow(ids, use_cache=True)
        assert found.cache.get_recurrent_state(0).dtype == torch.float32
        error = (found.logits.float() - expected).square().mean().sqrt() / expected.std()
    assert error < 0.1


def test_what_was_read_before_is_not_gone_on_with():
    model, ids = make("Mamba"), tokens(1, L0)
    with torch.no_grad():
        held = model(ids, use_cache=True).cache
        with extended(model, POWER):
            with pytest.raises(HostError, match="filled without the remedy"):
                model(ids[:, :1], cache=held, use_cache=True)
            mine = model(ids, use_cache=True).cache
            fork = copy.deepcopy(mine)
            first, second = (model(ids[:, :1], cache=c, use_cache=True).logits for c in (mine, fork))
            assert torch.equal(first, second)
            with pytest.raises(HostError, match="1 rows; got 2"):
                model(tokens(2, 1), cache=mine, use_cache=True)


def test_several_remedies_act_one_after_the_other():
    model, ids = make("Mamba"), tokens(2, T)
    alone = [POWER, STREAM["retain_insert"]]
    outputs = []
    for remedies in (alone, alone[:1], alone[1:]):
        with lgmamba.extend(model, remedies, L0):
            outputs.append(logits(model, ids))
            torch.testing.assert_close(token_by_token(model, ids, L0 + 1), outputs[-1], rtol=0, atol=2e-5)
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


# ---- calibrated values ------------------------------------------------------------------------------------------------

LAYER = {"kind": "step_size", "form": "layer", "mode": "prefix"}


@pytest.mark.parametrize("how", ["gradient", "zeroth_order", "closed_form"])
@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "Bamba"])
def test_factors_are_found_on_text_saved_and_read_again(name, how, tmp_path):
    model, ids = make(name), tokens(2, T)
    wanted = [p.requires_grad for p in model.parameters()]
    ext = extended(model, LAYER | {"calibrate": how})
    found = ext.values["step_size"]["T"]
    assert set(found) == {str(2 * L0), str(3 * L0)} and all(
        len(v["factors"]) == ext.host.config.n_layer for v in found.values()
    )
    if how != "closed_form":
        assert all(v["after"] <= v["before"] for v in found.values())
    assert [p.requires_grad for p in model.parameters()] == wanted and all(p.grad is None for p in model.parameters())
    ext.save(tmp_path)
    out = logits(model, ids)
    ext.remove()
    with lgmamba.extend(model, LAYER | {"calibrate": how}, L0, values=tmp_path):
        assert torch.equal(logits(model, ids), out)


def test_values_of_other_weights_are_refused(tmp_path):
    model = make("Mamba")
    remedy = LAYER | {"calibrate": "closed_form"}
    with extended(model, remedy) as ext:
        ext.save(tmp_path)
    with pytest.raises(ConfigError, match="another L0"):
        lgmamba.extend(model, remedy, L0 + 1, values=tmp_path)
    with pytest.raises(ConfigError, match="another entry"):
        lgmamba.extend(model, LAYER | {"calibrate": "gradient"}, L0, values=tmp_path)
    before = weights_digest(model)
    with torch.no_grad():
        model.backbone.layers[1].mixer.D[3] += 1e-6
    assert weights_digest(model) != before
    with pytest.raises(ConfigError, match="another weights"):
        lgmamba.extend(model, remedy, L0, values=tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        lgmamba.extend(model, remedy, L0, values=tmp_path / "nowhere")
