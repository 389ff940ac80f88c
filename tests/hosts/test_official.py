"""Models laid out as mamba_ssm's: read whole and token by token with its own cache, with and without a remedy."""

import pytest
import torch

import lgmamba
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from tests.hosts.models import L0, tokens
from tests.hosts.official import InferenceParams, Mamba, Mamba2, MambaLMHeadModel

KINDS = {
    "Mamba": (Mamba, {}),
    "Mamba2": (Mamba2, {}),
    "Mamba2 without norm": (Mamba2, {"rmsnorm": False, "ngroups": 1, "D_has_hdim": True}),
    "Mamba2 beside an MLP": (Mamba2, {"d_ssm": 16}),
}
POWER = {"kind": "step_size", "form": "power", "mode": "stream"}
WINDOW = {"kind": "window", "mode": "stream"}
T = 3 * L0


@torch.no_grad()
def step_by_step(model, ids, prompt):
    params = InferenceParams(ids.shape[1], len(ids))
    found = [model(ids[:, :prompt], inference_params=params).logits]
    params.seqlen_offset = prompt
    for t in range(prompt, ids.shape[1]):
        found.append(model(ids[:, t : t + 1], inference_params=params).logits)
        params.seqlen_offset += 1
    return torch.cat(found, 1), params


@pytest.mark.parametrize("name", KINDS)
def test_without_a_remedy_it_agrees_with_the_models_own_pass(name):
    kind, more = KINDS[name]
    model, ids = MambaLMHeadModel(kind, **more), tokens(2, T)
    host = Host(model, L0)
    with torch.no_grad():
        own = model(ids).logits
        outputs, _ = host.encode(ids)
        torch.testing.assert_close(host.predict(outputs), own, rtol=0, atol=1e-5)
        first, state = host.encode(ids[:, :7])
        rest, _ = host.encode(ids[:, 7:], state)
        torch.testing.assert_close(torch.cat([first, rest], 1), outputs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("remedy", [POWER, WINDOW], ids=["power", "window"])
@pytest.mark.parametrize("name", KINDS)
def test_token_by_token_is_the_whole_pass_and_remove_leaves_nothing(name, remedy):
    kind, more = KINDS[name]
    model, ids = MambaLMHeadModel(kind, **more), tokens(2, T)
    with torch.no_grad():
        own = model(ids).logits
        with lgmamba.extend(model, remedy, L0):
            whole = model(ids).logits
            stepped, params = step_by_step(model, ids, L0 + 2)
        assert torch.equal(model(ids).logits, own)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=2e-5)
    assert (whole[:, L0:] - own[:, L0:]).abs().max() > 1e-4
    assert set(params.key_value_memory_dict) == {0, 1}  # states lie where the package looks for them


def test_what_the_packages_cache_holds_goes_on_after_remove():
    """Up to L0 the states are the model's own, in its own layout."""
    model, ids = MambaLMHeadModel(Mamba2), tokens(2, L0 + 1)
    with torch.no_grad():
        own, _ = step_by_step(model, ids, L0)
        with lgmamba.extend(model, POWER, L0):
            _, params = step_by_step(model, ids[:, :L0], L0 - 1)
        after = model(ids[:, L0:], inference_params=params).logits
    torch.testing.assert_close(after, own[:, L0:], rtol=0, atol=1e-5)


def test_several_sequences_in_one_row_are_refused():
    model = MambaLMHeadModel(Mamba2)
    with lgmamba.extend(model, POWER, L0), pytest.raises(HostError, match="seq_idx"):
        model(tokens(1, 5), seq_idx=torch.zeros(1, 5, dtype=torch.int32))


def test_watch_and_calibration_read_it_too():
    model = MambaLMHeadModel(Mamba)
    seen = lgmamba.watch(model, tokens(2, 2 * L0 + 1), L0)
    assert max(seen.frames["states"]["tokens"]) == 2 * L0
    remedy = {"kind": "spectrum", "form": "mult", "mode": "prefix", "calibrate": "gradient"}
    with lgmamba.extend(model, remedy, L0, calibrate=tokens(4, 2 * L0 + 1), windows=4, steps=1, lengths=(2.0,)) as ext:
        assert len(ext.values["spectrum"]["T"][str(2 * L0)]["factors"]) == 2
