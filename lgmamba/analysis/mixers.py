"""Several sequence mixers in one study: what each keeps beyond its training length, beside the size and length of its memory."""

import statistics
from typing import Any

import polars as pl

from lgmamba.analysis.collect import RunFolder
from lgmamba.analysis.families import ADAPTIVE, describe_mixer, kind_of
from lgmamba.analysis.frames import Evidence, interval_of, level
from lgmamba.config.lengths import Fixed
from lgmamba.config.run import RunConfig

TAUS = ("tau_low", "tau", "tau_high", "tau_end")
NUMBERS = ("psnr", "psnr_lo", "psnr_hi", "seeds_lo", "seeds_hi")
DIFFERENCES = ("change", "change_lo", "change_hi", "regret", "regret_lo", "regret_hi")
SCHEMA: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("run", "kind", "mixer"), pl.String),
    **dict.fromkeys(("numbers", "L0", "step"), pl.Int64),
    **dict.fromkeys((*TAUS, "factor", *NUMBERS), pl.Float64),
    **dict.fromkeys(("n_seeds", "n_images"), pl.Int64),
    **dict.fromkeys(DIFFERENCES, pl.Float64),
}


def mixer_frame(ev: Evidence, folders: list[RunFolder]) -> pl.DataFrame:
    """One row for each run that is told no length and each length: in the order of the runs.

    Columns: run, kind, mixer (in words), numbers (that one layer keeps of the past), tau with its tenths at the start of training and tau_end
    after it (steps, of `lgmamba.mixers.memory`; null where everything is kept or nothing was measured), L0, step, factor = step / L0,
    psnr with interval; change (PSNR minus that at L0, dB) and, at lengths to which a run of the same mixer was trained alone, regret
    (PSNR minus that run's, dB), with intervals.
    """
    runs = {name: run for name, run in ev.params.runs_by_name().items() if kind_of(run) != ADAPTIVE}
    rows = []
    for name, run in runs.items():
        at_L0 = ev.samples.of(name, run.L0)
        about: dict[str, Any] = {
            "run": name,
            "kind": kind_of(run),
            "mixer": describe_mixer(run),
            "L0": run.L0,
            **_taus(folders, name),
        }
        about["numbers"] = run.model.mixer.numbers(run.model)
        for step in ev.samples.steps(name):
            columns = ev.samples.of(name, step)
            if columns is None:
                continue
            row = about | {"step": step, "factor": step / run.L0} | level(ev.trainings.level_of(columns), "psnr")
            if at_L0:
                row |= interval_of(ev.trainings.difference(columns, at_L0), "change")
            specialist = specialist_of(run, runs, step)
            rival = None if specialist is None else ev.samples.of(specialist, step)
            if rival and rival != columns:
                row |= interval_of(ev.trainings.difference(columns, rival), "regret")
            rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA)


def specialist_of(run: RunConfig, runs: dict[str, RunConfig], length: int) -> str | None:
    """The run of the same model that was trained on that length alone, or None."""
    for name, other in runs.items():
        lengths = other.task.lengths
        if isinstance(lengths, Fixed) and lengths.value == length and other.model == run.model:
            return name
    return None


def _taus(folders: list[RunFolder], run: str) -> dict[str, float | None]:
    """Mean over the trainings of a run that have measured it."""
    known = [folder.train["tau"] for folder in folders if folder.run == run and folder.train.get("tau")]
    if not known:
        return dict.fromkeys(TAUS)
    rows = [[*tau["start"], tau["end"][1]] for tau in known]
    return {name: statistics.fmean(values) for name, values in zip(TAUS, zip(*rows, strict=True), strict=True)}
