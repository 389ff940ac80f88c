"""Small random models of every class, each with what its configuration calls things; nothing is downloaded."""

from importlib.util import find_spec

import pytest
import torch

VOCABULARY, L0 = 32, 12

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HYBRID = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24}
CONFIGS = {
    "Mamba": SMALL | {"state_size": 4, "time_step_rank": 2},
    "FalconMamba": SMALL | {"state_size": 4, "time_step_rank": 2, "use_bias": True},
    "Mamba2": SMALL | {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 2, "expand": 2, "chunk_size": 8},
    "Jamba": SMALL
    | HYBRID
    | {
        "num_hidden_layers": 3,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "expert_layer_period": 100,
        "expert_layer_offset": 99,
    }
    | {"mamba_d_state": 4, "mamba_dt_rank": 2, "num_experts": 1, "num_experts_per_tok": 1},
    "Bamba": SMALL
    | HYBRID
    | {"num_hidden_layers": 3, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 2}
    | {"mamba_d_state": 4, "mamba_chunk_size": 8},
    "Zamba2": SMALL
    | {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_mem_blocks": 1,
    }
    | {"layers_block_type": ["mamba", "hybrid", "mamba"], "mamba_d_state": 4, "mamba_headdim": 8, "mamba_ngroups": 2}
    | {"n_mamba_heads": 4, "mamba_expand": 2, "chunk_size": 8, "use_mem_rope": False, "adapter_rank": 4},
}
"""Class -> arguments of its configuration."""
PURE, HYBRIDS = ("Mamba", "FalconMamba", "Mamba2"), ("Jamba", "Bamba", "Zamba2")


def skip_where_kernels_are_for_a_gpu() -> None:
    """Where mamba_ssm is installed, transformers hands also tensors of the CPU to its kernels, which are for a GPU alone."""
    if find_spec("mamba_ssm") is not None:
        pytest.skip("transformers computes on mamba_ssm's GPU kernels where that is installed, also for the CPU")


def make(name: str, dtype: torch.dtype = torch.float32, **more):
    """A model in eval mode whose steps are large enough to remember little, and whose weights are not all alike."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[lm]'")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**CONFIGS[name] | more)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1 and p.shape[-1] > 1:
                p.add_(0.2 * torch.randn_like(p))
    return model.to(dtype).eval()


def tokens(rows: int, T: int, seed: int = 0) -> torch.Tensor:
    """(rows, T) random ids that are neither padding nor an end."""
    return torch.randint(3, VOCABULARY, (rows, T), generator=torch.Generator().manual_seed(seed))
