"""The probe of told lengths: what does a length-adaptive run make of a length that is not its sequence's?

Sequences of T steps, T = 1, 2, 4, ... and L0, are read once for each factor of `FACTORS`, told factor x T. Where the level falls with the
distance from 1, the run uses what it is told; where it does not, being told teaches it nothing. A run that is told no length of its own has
one row for each T. Glossary: `lgmamba.probe`.
"""

from lgmamba.config.claims import TO_L0, steps_at
from lgmamba.probe.context import Columns, ProbeContext, columns_of
from lgmamba.probe.stops import level_of, stops

FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


def lengths_told(T: int, reads_length: bool) -> list[int]:
    """Lengths that are told of a sequence of T steps, ascending, each once; its own is one of them."""
    return sorted({max(1, round(factor * T)) for factor in FACTORS}) if reads_length else [T]


def told_lengths(context: ProbeContext) -> dict[str, Columns]:
    """Level of the mean error (for pictures PSNR in dB) at every T and length told; on the held-out sequences."""
    model, rows = context.model, []
    steps = steps_at([TO_L0], context.L0)
    sequences = context.sequences(context.config.probes.images, steps=steps[-1])
    for T in steps:
        for told in lengths_told(T, model.uses_target_length):
            (stop,) = stops(model, sequences, [T], context.chunk, length=told)
            level = level_of(context.task, model, stop, sequences)
            rows.append({"step": T, "told": told, "level": level, "images": len(sequences)})
    return {"told_lengths": columns_of(rows)}
