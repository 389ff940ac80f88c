"""The probe of read-outs: is the content gone, or is it only read out no more?

After T steps the picture is drawn from F numbers of the model: in `draw` the latents of the output after step T, in `queried` those
of the outputs at the queries for all its places, side by side. The trained read-out is the decoder. Beside it ridge regressions of
all pixels on these F numbers, with everything before them frozen:

    trained          the model's own decoder
    refitted         fitted on training images after T steps
    refitted_at_L0   fitted on training images after L0 steps, and used after T

Where refitted stays and trained falls, the content is there and the decoder no longer finds it; where refitted falls too, no linear
read-out finds it. A linear map is all that the decoder of `queried` is (before a sigmoid), and of `draw` where it is linear; a
decoder with hidden layers may read more than a refitted one. A length-adaptive model is told T. Glossary: `lgmamba.probe`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.model import Sequences
from lgmamba.probe.content import ReadOut, fit_read_out, psnr
from lgmamba.probe.context import Columns, ProbeContext, columns_of
from lgmamba.probe.stops import error_of, stops
from lgmamba.tasks.images import ImageModel

READ_OUTS = ("trained", "refitted", "refitted_at_L0")
AT_A_TIME = 512
"""Sequences read side by side; thousands of them are read to fit on, and what a chunk of their steps takes grows with them."""


@dataclass(frozen=True)
class Given:
    """What read-outs are given after some step of some sequences.

    Attributes:
        step: T.
        latents: (B, F).
        targets: (B, C, H, W) pictures.
        trained: PSNR of the model's own decoder, dB.
    """

    step: int
    latents: Tensor
    targets: Tensor
    trained: float


def read_outs(context: ProbeContext) -> dict[str, Columns]:
    """PSNR of each of `READ_OUTS` at every length, on held-out images, with the penalty that validation images chose.

    Where the held-out images are those, leave-one-out errors on training images choose it.

    Raises:
        ConfigError: there are no validation images.
    """
    probes, split = context.config.probes, context.config.split
    steps = probes.read_out_steps(context.L0)
    if not len(context.dataset.split("val")):
        raise ConfigError(
            "data.splits.val: found no image, expected one or more, by which the penalty of read-outs is chosen"
        )
    batches = [
        _given(context, context.sequences(images, split=name, steps=steps[-1]), steps)
        for name, images in (("train", probes.fit_images), ("val", probes.images), (split, probes.images))
    ]
    fits: dict[int, ReadOut] = {}
    tests: dict[int, Given] = {}
    for train, val, test in zip(*batches, strict=True):
        judged = None if split == "val" else (val.latents, val.targets)
        fits[test.step] = fit_read_out(train.latents, train.targets, judged)
        tests[test.step] = test
    rows = []
    for step, test in tests.items():
        read = {"trained": None, "refitted": fits[step], "refitted_at_L0": fits[context.L0]}
        for name, fit in read.items():
            level = test.trained if fit is None else psnr(fit(test.latents), test.targets)
            about = {
                "features": test.latents.shape[1],
                "fit_images": len(fits[step].examples),
                "images": len(test.latents),
            }
            rows.append({"step": step, "read_out": name, "psnr": level, "penalty": fit and fit.penalty, **about})
    return {"read_outs": columns_of(rows)}


@torch.no_grad()
def _given(context: ProbeContext, seq: Sequences, steps: list[int]) -> Iterator[Given]:
    """What read-outs are given after each of some steps, ascending."""
    model = cast(ImageModel, context.model)
    found: dict[int, tuple[list[Tensor], list[Tensor]]] = {T: ([], []) for T in steps}
    for some in (seq[start : start + AT_A_TIME] for start in range(0, len(seq), AT_A_TIME)):
        for passed in (
            [steps] if not model.uses_target_length else [[T] for T in steps]
        ):  # told T, each T is a pass of its own
            for stop in stops(model, some, passed, context.chunk, length=passed[-1]):
                latents, errors = found[stop.t]
                latents.append(model.for_read_out(stop.output, stop.state))
                errors.append(error_of(context.task, model, stop, some) * len(some))
    for T, (latents, errors) in found.items():
        level = float(context.task.metrics[0].of_mean(torch.stack(errors).sum() / len(seq)))
        yield Given(T, torch.cat(latents), seq.targets, level)  # type: ignore[attr-defined]  # of a task with pictures
