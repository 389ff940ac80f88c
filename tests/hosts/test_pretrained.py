"""A released model, where there is a network and somebody wants it: LGMAMBA_PRETRAINED=1 (520 MB)."""

import os

import pytest
import torch

import lgmamba
from lgmamba.hosts.host import Host

NAME = "state-spaces/mamba-130m-hf"
pytestmark = pytest.mark.skipif(
    not os.environ.get("LGMAMBA_PRETRAINED"), reason=f"downloads {NAME}, 520 MB; LGMAMBA_PRETRAINED=1 runs it"
)


@pytest.fixture(scope="module")
def pretrained():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[lm]'")
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(NAME)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(NAME)
    except OSError as e:
        pytest.skip(f"{NAME} cannot be loaded: {e}")


@torch.no_grad()
def test_a_released_model_is_read_as_by_transformers_and_generates_with_a_remedy(pretrained):
    model, tokenizer = pretrained
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    own = model(ids).logits
    host = Host(model, 2048)
    torch.testing.assert_close(host.predict(host.encode(ids)[0]), own, rtol=0, atol=1e-2)
    with lgmamba.extend(model, {"kind": "step_size", "form": "power", "mode": "stream"}, 2048) as ext:
        text = tokenizer.decode(ext.generate(ids, max_new_tokens=8, do_sample=False)[0])
    assert "Paris" in text
    assert torch.equal(model(ids).logits, own)
