"""Language models on a GPU: the real mamba_ssm, types, generation, and the memory that looking at a model takes."""

from importlib.util import find_spec

import pytest
import torch

import lgmamba
from lgmamba.hosts.host import Host
from tests.hosts.models import CONFIGS, L0, make, tokens

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
POWER = {"kind": "step_size", "form": "power", "mode": "stream"}
WINDOW = {"kind": "window", "mode": "stream"}
T = 3 * L0


def official(layer: str, **more):
    """A small model of the package itself."""
    pytest.importorskip("mamba_ssm", reason="mamba_ssm cannot be imported here", exc_type=ImportError)
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel

    if layer == "Mamba2" and find_spec("causal_conv1d") is None:  # its shorter way needs that package
        more["use_mem_eff_path"] = False
    torch.manual_seed(0)
    config = MambaConfig(d_model=128, n_layer=2, vocab_size=32, ssm_cfg={"layer": layer} | more)
    return MambaLMHeadModel(config, device="cuda").eval()


OFFICIAL = {"Mamba1": {}, "Mamba2": {"headdim": 32, "d_state": 16, "ngroups": 2}}


@torch.no_grad()
def test_no_remedy_agrees_with_mamba_ssm_itself():
    for layer, more in OFFICIAL.items():
        model, ids = official(layer, **more), tokens(2, T).cuda()
        own = model(ids).logits
        host = Host(model, L0)
        found = host.predict(host.encode(ids)[0])
        torch.testing.assert_close(
            found, own.float(), rtol=0, atol=2e-3
        )  # its matrix products are of TF32 where they may be


@torch.no_grad()
@pytest.mark.parametrize("remedy", [POWER, WINDOW], ids=["power", "window"])
@pytest.mark.parametrize("layer", OFFICIAL)
def test_mamba_ssm_generates_with_a_remedy_what_whole_passes_say(layer, remedy):
    model, ids = official(layer, **OFFICIAL[layer]), tokens(2, 2 * L0).cuda()
    own = model(ids).logits
    with lgmamba.extend(model, remedy, L0):
        generated = model.generate(
            ids, max_length=2 * L0 + 6, cg=False, return_dict_in_generate=True, output_scores=True
        )
        whole = model(generated.sequences).logits
    scores = torch.stack(generated.scores, 1)
    torch.testing.assert_close(scores, whole[:, 2 * L0 - 1 : -1].to(scores.dtype), rtol=0, atol=2e-3)
    assert torch.equal(model(ids).logits, own)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_class_of_transformers_reads_and_generates(name, dtype):
    model, ids = make(name).cuda().to(dtype), tokens(3, 2 * L0).cuda()
    mask = torch.ones_like(ids)
    ids[1, :5], mask[1, :5] = 0, 0
    wide = make(name).cuda()
    with lgmamba.extend(model, POWER, L0) as ext, lgmamba.extend(wide, POWER, L0):
        expected, found = (m(ids, attention_mask=mask).logits[:, -1].float() for m in (wide, model))
        generated = ext.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, eos_token_id=None)
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert error < {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.15}[dtype]
    assert generated.shape == (3, 2 * L0 + 4)


def test_looking_at_a_model_of_130_million_weights_takes_at_most_two_gibibytes():
    """32 sequences of 2,048 tokens, besides the weights; and calibration's recorders as much."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16)
    with torch.device("cuda"):
        model = transformers.MambaForCausalLM(config).eval()
    ids = torch.randint(50280, (32, 2049), device="cuda")
    torch.cuda.synchronize()
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    lgmamba.watch(model, ids, 1024)
    assert torch.cuda.max_memory_allocated() - weights < 2 * 2**30
    torch.cuda.reset_peak_memory_stats()
    remedy = {"kind": "longmamba", "mode": "stream"}
    lgmamba.extend(model, remedy, 1024, calibrate=ids, windows=32, lengths=(1.9,)).remove()
    assert (
        torch.cuda.max_memory_allocated() - weights < 4 * 2**30
    )  # the recorder's, once more to sort it, and a batch of text
