"""Stand-ins with the attributes, order of operations and caches of mamba_ssm 2.3 (`modules/{mamba_simple,mamba2,block}.py`,
`models/mixer_seq_simple.py`), in plain torch: the package itself runs on a GPU only. tests/gpu has the real one.
"""

import math
from collections import namedtuple
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

Output = namedtuple("Output", ["logits"])


@dataclass
class InferenceParams:
    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    key_value_memory_dict: dict = field(default_factory=dict)


class Mamba(nn.Module):
    def __init__(self, d_model, layer_idx, d_state=4, d_conv=4, rank=2):
        super().__init__()
        self.d_inner, self.d_state, self.dt_rank, self.d_conv, self.layer_idx = (
            2 * d_model,
            d_state,
            rank,
            d_conv,
            layer_idx,
        )
        D = self.d_inner
        self.activation = "silu"
        self.in_proj = nn.Linear(d_model, 2 * D, bias=False)
        self.conv1d = nn.Conv1d(D, D, d_conv, groups=D, padding=d_conv - 1)
        self.x_proj = nn.Linear(D, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, D)
        nn.init.constant_(self.dt_proj.bias, -3.0)  # small steps: a long memory
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(D, 1))
        self.D = nn.Parameter(torch.ones(D))
        self.out_proj = nn.Linear(D, d_model, bias=False)

    def forward(self, hidden_states, inference_params=None):
        B, L, _ = hidden_states.shape
        N, W = self.d_state, self.d_conv
        x, z = self.in_proj(hidden_states).chunk(2, -1)
        conv, h = cache_of(self, inference_params, (B, self.d_inner, W), (B, self.d_inner, N))
        going_on = inference_params is not None and inference_params.seqlen_offset > 0
        before = conv[..., 1:] if going_on else x.new_zeros(B, self.d_inner, W - 1)
        padded = torch.cat([before, x.mT], -1)
        x = F.silu(F.conv1d(padded, self.conv1d.weight, self.conv1d.bias, groups=self.d_inner)).mT
        low, Bmat, Cmat = self.x_proj(x).split([self.dt_rank, N, N], -1)
        dt, A, ys = F.softplus(self.dt_proj(low)), -self.A_log.exp(), []
        state = h if going_on else torch.zeros_like(h)
        for t in range(L):
            state = torch.exp(dt[:, t, :, None] * A) * state + (dt[:, t] * x[:, t])[..., None] * Bmat[:, t, None]
            ys.append((state * Cmat[:, t, None]).sum(-1) + self.D * x[:, t])
        conv.copy_(F.pad(padded, (W, 0))[..., -W:])
        h.copy_(state)
        return self.out_proj(torch.stack(ys, 1) * F.silu(z))


class GatedNorm(nn.Module):
    def __init__(self, size, groups):
        super().__init__()
        self.weight, self.groups = nn.Parameter(torch.ones(size)), groups

    def forward(self, x, z=None):
        x = (x * F.silu(z)).unflatten(-1, (self.groups, -1))
        return (x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()).flatten(-2) * self.weight


class Mamba2(nn.Module):
    def __init__(
        self, d_model, layer_idx, d_state=4, d_conv=4, headdim=8, ngroups=2, d_ssm=None, rmsnorm=True, D_has_hdim=False
    ):
        super().__init__()
        d_inner = 2 * d_model
        self.d_state, self.d_conv, self.headdim, self.ngroups, self.layer_idx = (
            d_state,
            d_conv,
            headdim,
            ngroups,
            layer_idx,
        )
        self.d_ssm = d_inner if d_ssm is None else d_ssm
        self.nheads, self.rmsnorm, self.dt_limit, self.activation = (
            self.d_ssm // headdim,
            rmsnorm,
            (0.0, math.inf),
            "silu",
        )
        self.in_proj = nn.Linear(d_model, 2 * d_inner + 2 * ngroups * d_state + self.nheads, bias=False)
        self.conv_dim = self.d_ssm + 2 * ngroups * d_state
        self.conv1d = nn.Conv1d(self.conv_dim, self.conv_dim, d_conv, groups=self.conv_dim, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(torch.randn(self.nheads) - 3)
        self.A_log = nn.Parameter(torch.rand(self.nheads) + 0.5)
        self.D = nn.Parameter(torch.rand(self.d_ssm if D_has_hdim else self.nheads))
        if rmsnorm:
            self.norm = GatedNorm(self.d_ssm, ngroups)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(self, u, seqlen=None, seq_idx=None, cu_seqlens=None, inference_params=None):
        B, L, _ = u.shape
        G, N, P, H, W = self.ngroups, self.d_state, self.headdim, self.nheads, self.d_conv
        projected = self.in_proj(u)
        d_mlp = (projected.shape[-1] - 2 * self.d_ssm - 2 * G * N - H) // 2
        z0, x0, z, xBC, dt = projected.split([d_mlp, d_mlp, self.d_ssm, self.conv_dim, H], -1)
        conv, h = cache_of(self, inference_params, (B, self.conv_dim, W), (B, H, P, N))
        going_on = inference_params is not None and inference_params.seqlen_offset > 0
        before = conv[..., 1:] if going_on else u.new_zeros(B, self.conv_dim, W - 1)
        padded = torch.cat([before, xBC.mT], -1)
        xBC = F.silu(F.conv1d(padded, self.conv1d.weight, self.conv1d.bias, groups=self.conv_dim)).mT
        x, Bmat, Cmat = xBC.split([self.d_ssm, G * N, G * N], -1)
        x = x.unflatten(-1, (H, P))
        Bmat, Cmat = (v.unflatten(-1, (G, N)).repeat_interleave(H // G, 2) for v in (Bmat, Cmat))
        dt, A, ys = F.softplus(dt + self.dt_bias), -self.A_log.exp(), []
        state = h if going_on else torch.zeros_like(h)
        for t in range(L):
            wrote = (dt[:, t, :, None] * x[:, t])[..., None] * Bmat[:, t, :, None]
            state = torch.exp(dt[:, t] * A)[..., None, None] * state + wrote
            ys.append(((state * Cmat[:, t, :, None]).sum(-1) + self.D.reshape(H, -1) * x[:, t]).flatten(1))
        conv.copy_(F.pad(padded, (W, 0))[..., -W:])
        h.copy_(state)
        y = torch.stack(ys, 1)
        y = self.norm(y, z) if self.rmsnorm else y * F.silu(z)
        return self.out_proj(torch.cat([F.silu(z0) * x0, y], -1) if d_mlp else y)


def cache_of(mixer, params, conv, state):
    if params is None:
        return torch.zeros(conv), torch.zeros(state)
    held = params.key_value_memory_dict
    if mixer.layer_idx not in held:
        held[mixer.layer_idx] = torch.zeros(conv), torch.zeros(state)
    return held[mixer.layer_idx]


for of_package in (Mamba, Mamba2):
    of_package.__module__ = "mamba_ssm.modules.stand_in"


class Block(nn.Module):
    def __init__(self, d_model, mixer):
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(d_model), mixer

    def forward(self, hidden_states, residual=None, inference_params=None, **mixer_kwargs):
        residual = hidden_states if residual is None else hidden_states + residual
        return self.mixer(self.norm(residual), inference_params=inference_params, **mixer_kwargs), residual


class Backbone(nn.Module):
    def __init__(self, d_model, vocabulary, mixers):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.layers = nn.ModuleList(Block(d_model, mixer) for mixer in mixers)
        self.norm_f = nn.LayerNorm(d_model)

    def forward(self, input_ids, inference_params=None, **mixer_kwargs):
        hidden, residual = self.embedding(input_ids), None
        for layer in self.layers:
            hidden, residual = layer(hidden, residual, inference_params=inference_params, **mixer_kwargs)
        return self.norm_f(hidden + residual)


class MambaLMHeadModel(nn.Module):
    def __init__(self, kind, vocabulary=32, d_model=16, **more):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Backbone(d_model, vocabulary, [kind(d_model, layer_idx, **more) for layer_idx in range(2)])
        self.lm_head = nn.Linear(d_model, vocabulary, bias=False)
        self.eval()

    def forward(self, input_ids, position_ids=None, inference_params=None, num_last_tokens=0, **mixer_kwargs):
        hidden = self.backbone(input_ids, inference_params=inference_params, **mixer_kwargs)
        return Output(self.lm_head(hidden[:, -num_last_tokens:]))
