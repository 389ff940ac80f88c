"""A Mamba layer of another package, run as a mixer of this one: prepare -> call -> hook -> scan -> finish.

What a layer computes is read off its weights, which have the official names in every package, so that one class serves one kind of
layer wherever it comes from:

    Mamba1Layer   transformers' Mamba, FalconMamba and Jamba (norms on the step size, B and C where there are any); mamba_ssm's Mamba
    Mamba2Layer   transformers' Mamba2, Bamba and Zamba2; mamba_ssm's Mamba2. One step size and one rate for each head, here expanded
                  to its channels; B and C in groups of heads; the gate is applied by the norm after the scan

The packages' own forward passes hide the recurrence in fused kernels; here it is always `lgmamba.scan.selective_scan`, with a
memory of float32 (float64 in a float64 model).

Glossary: `lgmamba.hosts`; D channels, N modes, H heads, P channels of a head, G groups, W width of the convolution.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmamba.hosts.weights import Mamba1Weights, Mamba2Weights, MambaWeights
from lgmamba.mixers.contract import Call, Hook, State, gather_steps, run
from lgmamba.mixers.conv import causal_conv1d_silu
from lgmamba.mixers.mamba.mixer import MambaCall
from lgmamba.scan import selective_scan


@dataclass(frozen=True, kw_only=True)
class GroupedCall(MambaCall):
    """What a Mamba-2 layer is about to scan.

    Attributes:
        z: None, because the gate comes after the scan.
        Bmat, Cmat: (B, L, G, N); channel d reads group d // (D / G).
    """

    PER_STEP: ClassVar[tuple[str, ...]] = ("x", "dt", "Bmat", "Cmat")

    z: None = None

    def write(self, g: Tensor) -> Self:
        return replace(self, Bmat=self.Bmat * g[..., None, :])

    def read(self, g: Tensor) -> Self:
        return replace(self, Cmat=self.Cmat * g[..., None, :])


class ForeignLayer:
    """One Mamba layer of another package.

    Args:
        mixer: the layer.
        number: which of the model's Mamba layers it is, from 0; told to hooks.
    Attributes:
        index: which of all layers of the model it is, the key of its states in a cache.
        weights: the layer's parts by their types.
        channels, modes: D, N.
        state_shape: of the memory in the package's caches, without batch.
    """

    KIND: ClassVar[str]

    weights: MambaWeights
    channels: int
    modes: int
    state_shape: tuple[int, ...]

    def __init__(self, mixer: nn.Module, number: int):
        self.mixer, self.number = mixer, number
        index: Any = mixer.layer_idx
        self.index: int = number if index is None else index

    @property
    def width(self) -> int:
        """W."""
        return self.weights.conv1d.kernel_size[0]

    def read(self, u: Tensor, before: State | None, t0: int, hook: Hook | None) -> tuple[Tensor, State, Tensor | None]:
        """One piece of sequences that stand at the same step.

        Args:
            u: (B, L, d) what the layer is given.
            before: state after the piece before, or None at the start.
            t0: steps read before.
        Returns:
            out (B, K, d), the state after the piece, and the positions kept (B, K), or None where all are.
        """
        prepared, carry, gate = self.prepare(u, before, t0)
        call = prepared if hook is None else hook(prepared)
        y, h, _, remembered = run(call, self.recur)  # beside its memory, Mamba's recurrence holds nothing
        if gate is not None and call.keep is not None:
            gate = gather_steps(gate, call.keep)
        return self.finish(y, gate).to(u.dtype), State(h, (carry,), remembered), call.keep

    def prepare(self, u: Tensor, before: State | None, t0: int) -> tuple[MambaCall, Tensor, Tensor | None]:
        """The call, the last W - 1 inputs of the convolution, and the gate (B, L, D) where it comes after the scan."""
        raise NotImplementedError

    def recur(self, call: Call) -> tuple[Tensor, Tensor, tuple[()]]:
        """y (B, L, D), h (B, D, N), and nothing besides; see `Ordinary`."""
        assert isinstance(call, MambaCall)  # hooks change what a call holds, never what it is
        y, h = selective_scan(
            call.x, call.dt, call.A, call.Bmat, call.Cmat, self.skip(), call.z, h0=call.h0, return_last_state=True
        )
        return y, h, ()

    def skip(self) -> Tensor:
        """(D,)."""
        raise NotImplementedError

    def finish(self, y: Tensor, gate: Tensor | None) -> Tensor:
        """(B, K, D) -> (B, K, d)."""
        raise NotImplementedError

    def _convolved(self, x: Tensor, before: State | None) -> tuple[Tensor, Tensor]:
        conv = self.weights.conv1d
        return causal_conv1d_silu(x, conv.weight[:, 0], conv.bias, before.carry[0] if before else None)

    def _before(self, before: State | None) -> dict[str, Any]:
        return {"h0": before.memory, "remembered": before.remembered} if before else {"h0": None}


class Mamba1Layer(ForeignLayer):
    """Gu & Dao 2023 (arXiv:2312.00752); with norms, FalconMamba (arXiv:2410.05355) and Jamba (arXiv:2403.19887)."""

    KIND = "Mamba-1"

    weights: Mamba1Weights

    def __init__(self, mixer: nn.Module, number: int):
        super().__init__(mixer, number)
        self.weights = cast(Mamba1Weights, mixer)
        self.channels, self.modes = self.weights.A_log.shape
        self.state_shape = (self.channels, self.modes)

    def prepare(self, u: Tensor, before: State | None, t0: int) -> tuple[MambaCall, Tensor, None]:
        weights = self.weights
        x, z = weights.in_proj(u).chunk(2, dim=-1)
        x, carry = self._convolved(x, before)
        rank = weights.dt_proj.weight.shape[1]
        dt_low, Bmat, Cmat = weights.x_proj(x).split([rank, self.modes, self.modes], dim=-1)
        dt_low, Bmat, Cmat = (
            v if norm is None else norm(v) for v, norm in zip((dt_low, Bmat, Cmat), self._norms(), strict=True)
        )
        A = _rates(weights.A_log)
        dt = F.softplus(F.linear(dt_low, weights.dt_proj.weight).to(A.dtype) + weights.dt_proj.bias.to(A.dtype))
        tensors = {"x": x, "z": z, "dt": dt, "A": A, "Bmat": Bmat, "Cmat": Cmat}
        return MambaCall(layer=self.number, t0=t0, target_length=None, **self._before(before), **tensors), carry, None

    def _norms(self) -> list[nn.Module | None]:
        return [getattr(self.mixer, f"{name}_layernorm", None) for name in ("dt", "b", "c")]

    def skip(self) -> Tensor:
        return self.weights.D

    def finish(self, y: Tensor, gate: Tensor | None) -> Tensor:
        return self.weights.out_proj(y.to(self.weights.out_proj.weight.dtype))


class Mamba2Layer(ForeignLayer):
    """Dao & Gu 2024 (arXiv:2405.21060).

    The bounds of the step size hold at every step. (Both packages leave them out where they read a single token.)
    """

    KIND = "Mamba-2"

    weights: Mamba2Weights

    def __init__(self, mixer: nn.Module, number: int):
        super().__init__(mixer, number)
        self.weights = cast(Mamba2Weights, mixer)
        self.heads = self.weights.A_log.numel()
        self.head: int = _first(mixer, "head_dim", "headdim")
        self.groups: int = _first(mixer, "n_groups", "ngroups")
        self.modes: int = _first(mixer, "ssm_state_size", "d_state")
        self.limits: tuple[float, float] = _first(mixer, "time_step_limit", "dt_limit")
        self.channels = self.heads * self.head
        self.state_shape = (self.heads, self.head, self.modes)

    def prepare(self, u: Tensor, before: State | None, t0: int) -> tuple[GroupedCall, Tensor, Tensor]:
        D, shared = self.channels, self.groups * self.modes
        projected = self.weights.in_proj(u)
        beside, z, xBC, dt_raw = projected.split(
            [projected.shape[-1] - 2 * D - 2 * shared - self.heads, D, D + 2 * shared, self.heads], dim=-1
        )
        xBC, carry = self._convolved(xBC, before)
        x, Bmat, Cmat = xBC.split([D, shared, shared], dim=-1)
        Bmat, Cmat = (v.unflatten(-1, (self.groups, self.modes)) for v in (Bmat, Cmat))
        rates = _rates(self.weights.A_log)
        dt = F.softplus(dt_raw.to(rates.dtype) + self.weights.dt_bias.to(rates.dtype)).clamp(*self.limits)
        A = self._by_channel(rates)[:, None].expand(-1, self.modes)
        tensors = {"x": x, "dt": self._by_channel(dt), "A": A, "Bmat": Bmat, "Cmat": Cmat}
        call = GroupedCall(layer=self.number, t0=t0, target_length=None, **self._before(before), **tensors)
        return call, carry, torch.cat([beside, z], dim=-1)

    def skip(self) -> Tensor:
        D = self.weights.D
        return D if D.numel() == self.channels else self._by_channel(D)

    def finish(self, y: Tensor, gate: Tensor | None) -> Tensor:
        """Gated norm; and in mamba_ssm, beside it, an MLP of the channels that have no memory (`d_ssm`)."""
        assert gate is not None  # `prepare` made it
        beside, z = gate.split([gate.shape[-1] - self.channels, self.channels], dim=-1)
        norm = getattr(self.mixer, "norm", None)
        y = y * F.silu(z) if norm is None else norm(y, z)
        if beside.shape[-1]:
            mlp_gate, mlp = beside.chunk(2, dim=-1)
            y = torch.cat([F.silu(mlp_gate) * mlp, y], dim=-1)
        return self.weights.out_proj(y.to(self.weights.out_proj.weight.dtype))

    def _by_channel(self, v: Tensor) -> Tensor:
        return v.repeat_interleave(self.head, dim=-1)


def _rates(A_log: Tensor) -> Tensor:
    return -torch.exp(A_log.to(torch.promote_types(A_log.dtype, torch.float32)))


def _first(mixer: nn.Module, *names: str) -> Any:
    """The attribute of the first name that there is."""
    return next(getattr(mixer, name) for name in names if hasattr(mixer, name))
