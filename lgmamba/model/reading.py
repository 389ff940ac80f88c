"""Reading long sequences in pieces, so that memory does not grow with their length. Glossary: `lgmamba.model`."""

import torch
from torch import Tensor

from lgmamba.model.patch_mamba import PatchMamba
from lgmamba.model.plan import Plan


@torch.no_grad()
def read_at_steps(
    model: PatchMamba,
    patches: Tensor,
    cells: Tensor,
    steps: list[int],
    told: Tensor | None = None,
    piece: int = 64,
    plan: Plan | None = None,
) -> Tensor:
    """One causal pass over sequences; the images drawn after some of their steps.

    Args:
        model: in eval mode, on the device of `patches`.
        patches: (B, G, K) all patches of each image, pixel values in [0, 1].
        cells: (B, T) visiting order, T >= max(steps).
        steps: steps wanted, from 1, ascending. Nothing after the last of them is read.
        told: (B,) length told to a length-adaptive model.
        piece: steps held in memory at a time.
        plan: changes what enters each scan; it must keep every step.
    Returns:
        (B, S, C, H, W_img) float32 reconstructions, unclipped.
    Raises:
        ValueError: if steps are not ascending, or not within the visiting order.
    """
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1 or steps[-1] > cells.shape[1]:
        raise ValueError(
            f"steps must be ascending, within 1..{cells.shape[1]}, the length of the visiting order; got {steps}"
        )
    state, wanted = None, []
    for start in range(0, steps[-1], piece):
        here = cells[:, start : min(start + piece, steps[-1])]
        read = patches.gather(1, here[..., None].expand(-1, -1, patches.shape[2]))  # (B, piece, K)
        outputs, state = model.encode(read, here, state, told, plan)
        wanted += [outputs[:, t - start - 1] for t in steps if start < t <= start + here.shape[1]]
    return model.decode(torch.stack(wanted, dim=1))


def reconstruct_at(
    model: PatchMamba,
    patches: Tensor,
    cells: Tensor,
    steps: list[int],
    mode: str,
    piece: int = 64,
    plan: Plan | None = None,
) -> Tensor:
    """Reconstructions at several lengths, in stream or prefix mode; arguments and result as in `read_at_steps`.

    stream: one pass; a length-adaptive model is told its training length L0 all the way.
    prefix: for each T a pass over the first T patches, told T. A plain model does not depend on what it is told, and
    its one pass is every prefix; so it is read once in either mode.
    """
    if mode not in ("stream", "prefix"):
        raise ValueError(f"mode={mode!r}; expected 'stream' or 'prefix'")
    if model.conditioning is None:
        return read_at_steps(model, patches, cells, steps, None, piece, plan)

    def told(T: int) -> Tensor:
        return torch.full((len(cells),), T, device=cells.device)

    if mode == "stream":
        return read_at_steps(model, patches, cells, steps, told(model.L0), piece, plan)
    return torch.cat([read_at_steps(model, patches, cells, [T], told(T), piece, plan) for T in steps], dim=1)
