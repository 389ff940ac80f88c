"""The tidy frames of remedies: one row per run, order, remedy, step, ... with no choice made for any figure.

Steps are in patches, factor = T / L0 of the run that is read (as asked for: `length_ratio_of`), PSNR and differences of it in dB.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.families import GENERALIST, kind_of
from lgmamba.analysis.frames import level
from lgmamba.analysis.remedies import AT_L0, BEST_CONTROL, VANILLA, VANILLA_STREAM
from lgmamba.analysis.remedies.collect import Evaluations, Remedy, RemedyFolder
from lgmamba.analysis.statistics import Effect, Trainings, effect_of
from lgmamba.config.remedies import RemedyEvaluationConfig
from lgmamba.config.study import Params

AGAINST = (VANILLA, "truncate", "reset", "subset_random", "subset_cover", "freeze")
"""What every remedy is compared with at the same step; the ideal memory `paste` is a floor, no competitor."""


@dataclass(frozen=True)
class RemedyEvidence:
    """All that the frames and claims of remedies are computed from."""

    params: Params
    remedies: dict[str, Remedy]
    evaluations: Evaluations
    trainings: Trainings

    @property
    def L0(self) -> dict[str, int]:
        """{run: L0} of the runs that remedies were tried on, in the order of the configuration."""
        runs = self.params.runs_by_name()
        return {name: runs[name].L0 for name in self.params.the_remedy_evaluation.runs}

    def settings(self) -> Iterator[tuple[str, str, Remedy, int, list[int]]]:
        """run, order, remedy, step and columns of everything that was read."""
        for run in self.L0:
            for order in self.params.the_remedy_evaluation.orders:
                for remedy in self.remedies.values():
                    for step in self.evaluations.steps(run):
                        if (columns := self.evaluations.of(run, order, remedy.name, step)) is not None:
                            yield run, order, remedy, step, columns

    def rival(self, run: str, order: str, remedy: Remedy, step: int, against: str) -> list[int] | None:
        """Columns of what a remedy is compared with; of a length-adaptive run, vanilla in the remedy's own mode."""
        if against == AT_L0:
            return self.evaluations.of(run, order, remedy.name, self.L0[run])
        if against == VANILLA and remedy.mode == "stream":
            told_L0 = self.evaluations.of(run, order, VANILLA_STREAM, step)
            if told_L0 is not None and remedy.name != VANILLA_STREAM:
                return told_L0
        return self.evaluations.of(run, order, against, step)

    def about(self, run: str, order: str, remedy: Remedy, step: int) -> dict[str, Any]:
        """The columns that name a row."""
        named = {"run": run, "L0": self.L0[run], "order": order, "remedy": remedy.name, "kind": remedy.kind}
        return named | {
            "control": remedy.control,
            "mode": remedy.mode,
            "step": step,
            "factor": length_ratio_of(self.params.the_remedy_evaluation, self.L0[run], step),
        }


def length_ratio_of(remedy_evaluation: RemedyEvaluationConfig, L0: int, step: int) -> float:
    """T / L0 as it was asked for, which rounding to whole patches may have moved; else as it is."""
    asked = {round(f * L0): f for f in sorted(remedy_evaluation.length_ratios, reverse=True)} | {L0: 1.0}
    return asked.get(step, step / L0)


def seed_levels_frame(ev: RemedyEvidence) -> pl.DataFrame:
    """remedies_levels.parquet: PSNR of every training with every remedy, the frame of levels of `analysis.contrasts`."""
    rows = [
        {
            "run": run,
            "seed": seed,
            "method": remedy.name,
            "mode": remedy.mode,
            "order": order,
            "step": step,
            "value": value,
        }
        for run, order, remedy, step, columns in ev.settings()
        for seed, value in zip(ev.evaluations.seeds, ev.trainings.psnr[columns].tolist(), strict=True)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def levels_frame(ev: RemedyEvidence) -> pl.DataFrame:
    """remedies.parquet: run, L0, order, remedy, kind, control, mode, step, factor -> psnr with interval, lowest and highest seed."""
    rows = [
        ev.about(run, order, remedy, step) | level(ev.trainings.level_of(columns), "psnr")
        for run, order, remedy, step, columns in ev.settings()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def differences_frame(ev: RemedyEvidence) -> pl.DataFrame:
    """remedies_differences.parquet: every remedy and control against vanilla (in its own mode), the controls, and itself at L0.

    Columns: those that name a row of remedies.parquet; against (BEST_CONTROL: for each seed the best of the controls, chosen with
    the numbers themselves, which favours it); effect (dB) with interval over trainings, lowest and highest seed, per_seed.
    Up to L0, where a remedy should change nothing, against vanilla alone.
    """
    rows = []
    for run, order, remedy, step, columns in ev.settings():
        beyond = step > ev.L0[run]
        for against in (*AGAINST, AT_L0):
            other = ev.rival(run, order, remedy, step, against)
            if against != remedy.name and (beyond or against == VANILLA) and other is not None:
                rows.append(
                    _difference(ev, (run, order, remedy, step), against, ev.trainings.difference(columns, other))
                )
        best = _best_control(ev, run, order, step) if beyond and not remedy.control else None
        if best is not None:
            effect = effect_of(ev.trainings.psnr[columns] - best, ev.trainings.level, ev.trainings.n_images)
            rows.append(_difference(ev, (run, order, remedy, step), BEST_CONTROL, effect))
    return pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"per_seed": pl.List(pl.Float64)})


def _difference(
    ev: RemedyEvidence, named: tuple[str, str, Remedy, int], against: str, effect: Effect
) -> dict[str, Any]:
    row = ev.about(*named) | {"against": against} | level(effect, "effect")
    return row | {"per_seed": list(effect.per_seed)}


def _best_control(ev: RemedyEvidence, run: str, order: str, step: int) -> np.ndarray | None:
    """(S,) PSNR of the best control of each seed."""
    found = [ev.evaluations.of(run, order, name, step) for name in AGAINST if name != VANILLA]
    levels = [ev.trainings.psnr[columns] for columns in found if columns is not None]
    return np.max(levels, axis=0) if levels else None


def longer_generalist(params: Params, run: str) -> str | None:
    """Of the runs that remedies are tried on, the plain generalist with the next longer L0 than that of a run."""
    runs = params.runs_by_name()
    longer = [
        n for n in params.the_remedy_evaluation.runs if kind_of(runs[n]) == GENERALIST and runs[n].L0 > runs[run].L0
    ]
    return min(longer, key=lambda name: runs[name].L0) if longer else None


def cost_frame(folders: list[RemedyFolder]) -> pl.DataFrame:
    """remedies_cost.parquet: one row for each run, seed and remedy: what it needs, and whether it changes anything at T <= L0.

    Columns: run, seed, remedy, kind, control, mode, words; calibration_images, calibration_passes (over those images),
    calibration_s, null where nothing is calibrated; read_s, read_relative (to vanilla); identity (largest difference from a vanilla
    reconstruction at T <= L0, pixel value).
    """
    rows = []
    for folder in folders:
        vanilla_s = next(row["read_s"] for row in folder.found["remedies"] if row["name"] == VANILLA)
        for row in folder.found["remedies"]:
            calibration = row["calibration"] or {}
            rows.append(
                _named(folder, row)
                | {"words": row["words"]}
                | {"calibration_images": calibration.get("images"), "calibration_passes": calibration.get("n_forward")}
                | {"calibration_s": calibration.get("seconds"), "read_s": row["read_s"]}
                | {"read_relative": row["read_s"] / vanilla_s if row["read_s"] and vanilla_s else None}
                | {"identity": row["identity"]}
            )
    schema = {"calibration_images": pl.Int64, "calibration_passes": pl.Float64, "calibration_s": pl.Float64}
    return pl.DataFrame(
        rows,
        infer_schema_length=None,
        schema_overrides=schema | {"read_s": pl.Float64, "read_relative": pl.Float64, "identity": pl.Float64},
    )


def lengths_frame(folders: list[RemedyFolder], remedy_evaluation: RemedyEvaluationConfig) -> pl.DataFrame:
    """remedies_lengths.parquet: what a remedy does at one length: run, seed, remedy, kind, control, mode, step, factor -> ...

    written_share: share of the steps after L0 that are written into the state at all (dt > 0, over layers and channels), or that
    are kept; step_size_share: their dt over that of vanilla; factors: calibrated values; before, after: objective of the
    calibration (mean squared error at that length). Null where there is none.
    """
    rows = []
    for folder in folders:
        for row in folder.found["remedies"]:
            shares = row["written_share"]
            calibrated = (row["calibration"] or {}).get("T", {})
            for T in sorted({int(step) for step in (*shares, *calibrated)}):
                found = calibrated.get(str(T), {})
                factors = found.get("factors")
                rows.append(
                    _named(folder, row)
                    | {"step": T, "factor": length_ratio_of(remedy_evaluation, folder.found["L0"], T)}
                    | {"written_share": shares.get(str(T))}
                    | {"step_size_share": row["step_size_share"].get(str(T))}
                    | {"factors": None if factors is None else [float(v) for v in _leaves(factors)]}
                    | {"before": found.get("before"), "after": found.get("after")}
                )
    schema: dict[str, Any] = dict.fromkeys(("run", "remedy", "kind", "mode"), pl.String) | {
        "seed": pl.Int64,
        "control": pl.Boolean,
    }
    schema |= {"step": pl.Int64, "factors": pl.List(pl.Float64)}
    schema |= dict.fromkeys(("factor", "written_share", "step_size_share", "before", "after"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def _named(folder: RemedyFolder, row: dict[str, Any]) -> dict[str, Any]:
    named = {"run": folder.folder.run, "seed": folder.folder.seed, "remedy": row["name"], "kind": row["kind"]}
    return named | {"control": row["control"], "mode": row["mode"]}


def _leaves(values: Any) -> Iterator[float]:
    """The numbers of nested lists."""
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, list):
            yield from _leaves(value)
        else:
            yield value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
