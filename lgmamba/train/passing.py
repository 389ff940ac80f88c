"""State passing: training sequences that start from the state of a longer one, so that states of long sequences are trained on.

A sequence of T steps starts from the state after n others (`batch.PassedPart`); its loss is that of a sequence of n + T steps,
at the cost of a forward pass over n steps for the sequences that do so. No gradient enters the passed part: truncated
back-propagation. Glossary: `lgmamba.train`; n steps of the passed part, k sequences that have one.

Reference: remedies trained into a model in Chen et al. 2024 (arXiv:2410.07145); states of other sequences teach to forget.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lgmamba.model import PatchMamba, SelectiveScanState, StackState
from lgmamba.task.patches import patchify
from lgmamba.train.batch import Batch

PIECE = 256
"""Steps of the passed part held in memory at a time."""


@torch.no_grad()
def passed_state(model: PatchMamba, images: Tensor, batch: Batch) -> StackState | None:
    """The state that a batch's sequences start from; None in a training without state passing.

    That of the first k sequences is the state after the passed part, that of the others zero, as at the start of a sequence.
    Steps are counted from there (t = 0).

    Args:
        images: (N, C, H, W) uint8, all images; `batch.passed.rows` says which are read.
    """
    if batch.passed is None:
        return None
    state = start_of(model, batch.cells)
    cells = batch.passed.cells
    if not cells.shape[1]:
        return state
    patches = patchify(images[batch.passed.rows].float() / 255, model.patch_size)  # (k, G, K)
    end = None
    for here in cells.split(PIECE, dim=1):
        read = patches.gather(1, here[..., None].expand(-1, -1, patches.shape[2]))
        _, end = model.encode(read, here, end)
    if batch.passed.noise_seed is not None:
        end = noise_like(end, batch.passed.noise_seed)
    joined = [
        torch.cat([new, zero[len(new) :]]) for new, zero in zip(state_tensors(end), state_tensors(state), strict=True)
    ]
    return state_from_tensors(joined)


def start_of(model: PatchMamba, cells: Tensor) -> StackState:
    """The state before the first step, which `encode` takes for None: zeros, and no move before the first cell.

    Args:
        cells: (B, L) visiting orders.
    """
    config, weight = model.config, model.embed_patch.weight
    device, B = weight.device.type, len(cells)
    narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    wide = torch.promote_types(weight.dtype, torch.float32)
    layers = tuple(
        SelectiveScanState(
            weight.new_zeros(B, config.mixer.d_conv - 1, config.d_inner, dtype=narrow),
            weight.new_zeros(B, config.d_inner, config.mixer.d_state, dtype=wide),
        )
        for _ in range(config.n_layer)
    )
    return StackState(0, layers, cells[:, 0])


def noise_like(state: StackState, seed: int) -> StackState:
    """Independent Gaussian entries, each with the mean and standard deviation that it has over the sequences of `state`."""
    *values, cell = state_tensors(state)
    g = torch.Generator(cell.device).manual_seed(seed)
    noise = []
    for v in values:
        std, mean = torch.std_mean(v.float(), dim=0, correction=0)
        noise.append((mean + std * torch.randn(v.shape, generator=g, device=v.device)).to(v.dtype))
    return state_from_tensors([*noise, cell])


def state_tensors(state: StackState | None) -> list[Tensor]:
    """All tensors of a state, layer by layer, the cell last; none of None."""
    if state is None:
        return []
    return [v for layer in state.layers for v in (layer.conv, layer.h)] + [state.cell]


def state_from_tensors(tensors: Sequence[Tensor]) -> StackState | None:
    """Inverse of `state_tensors`, at t = 0."""
    if not tensors:
        return None
    *values, cell = tensors
    layers = tuple(SelectiveScanState(conv, h) for conv, h in zip(values[::2], values[1::2], strict=True))
    return StackState(0, layers, cell)
