"""Which remedy helps where: kept studies by remedies, each against the best control, at one length.

A cell is one number for each training: the level with the remedy minus that of the best control of the same training, of reading on as it
is (vanilla) and the controls that make sense for the task. The best is chosen with the numbers themselves, which favours controls.
Verdicts are those of `analysis.contrasts`, with each study's margin, and Holm's correction over all cells with trainings enough. The
cells were no primary contrasts of all of the studies: together they are a survey, and their correction is what makes it an honest one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, SAME, SHOWN, SMALL, UNDECIDED, UNTESTABLE, holm, verdict
from lgmamba.analysis.remedies import VANILLA
from lgmamba.analysis.statistics import Effect, effect_of
from lgmamba.config.claims import ClaimsConfig
from lgmamba.config.files import read_config
from lgmamba.config.remedies import Combination, RemedyConfig, controls_of
from lgmamba.config.study import Params

FACTOR = 4.0
"""Multiple of L0 at which cells are judged."""
WORDS = {
    SHOWN: "better",
    SMALL: "better, but small",
    OPPOSITE: "worse",
    SAME: SAME,
    UNDECIDED: UNDECIDED,
    DESCRIBED: DESCRIBED,
    UNTESTABLE: "",
}
"""Verdict on "the remedy is better" -> what a cell says."""

SCHEMA: dict[str, Any] = {
    "study": pl.String,
    "task": pl.String,
    "run": pl.String,
    "order": pl.String,
    "L0": pl.Int64,
    "unit": pl.String,
    "digits": pl.Int64,
    "remedy": pl.String,
    "entry": pl.String,
    "effect": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "p_holm": pl.Float64,
    "n_seeds": pl.Int64,
    "verdict": pl.String,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Form:
    """A remedy as its source has it; a study may have it under any name.

    Attributes:
        title: what it is called in the matrix.
        kind, options: of its entry.
    """

    title: str
    kind: str
    options: Mapping[str, str]

    def entry(self, entries: Sequence[RemedyConfig]) -> RemedyConfig | None:
        """The first entry that is it."""
        for entry in entries:
            fits = all(getattr(entry, key, None) == value for key, value in self.options.items())
            if not isinstance(entry, Combination) and entry.kind == self.kind and fits:
                return entry
        return None


FORMS = (
    Form("step sizes × L0/T", "step_size", {"form": "uniform"}),
    Form("MambaExtend", "step_size", {"form": "layer", "calibrate": "zeroth_order"}),
    Form("Mamba Modulation", "spectrum", {"form": "mult", "calibrate": "zeroth_order"}),
    Form("DeciMamba", "decimamba", {}),
    Form("LongMamba", "longmamba", {}),
    Form("Stuffed Mamba, retention", "retain_insert", {}),
    Form("Stuffed Mamba, window", "window", {}),
    Form("state norm", "normalise_state", {}),
    Form("assembly from windows", "assemble", {}),
)
"""Columns of the matrix, in their order."""


def kept_studies(reports: Path) -> list[Path]:
    """Folders of frames below `reports` of studies that tried remedies, by name."""
    return sorted(path.parent for path in reports.glob("*/frames/remedies_differences.parquet"))


@dataclass(frozen=True)
class Cell:
    """A row of the matrix before its verdict.

    Attributes:
        row: columns of SCHEMA.
        effect: None where there is none.
        rule: margin, level and trainings that a verdict takes.
    """

    row: dict[str, Any]
    effect: Effect | None
    rule: ClaimsConfig

    @property
    def p(self) -> float:
        """nan without a test."""
        if self.effect is None or self.effect.n_seeds < self.rule.seeds:
            return math.nan
        return self.effect.p

    def judged(self, p_holm: float) -> dict[str, Any]:
        """The row with its verdict."""
        if self.effect is None:
            return self.row | {"verdict": UNTESTABLE}
        n = self.effect.n_seeds
        numbers = {"effect": self.effect.effect, "lo": self.effect.lo, "hi": self.effect.hi, "p_holm": p_holm}
        found = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        word = verdict(self.effect, p_holm, 1, self.rule, n, self.rule.seeds)
        return self.row | found | {"n_seeds": n, "verdict": word}


def matrix_frame(folders: Sequence[Path]) -> pl.DataFrame:
    """One row for each study and remedy, columns SCHEMA; studies without a run of `plain_mamba`, or that tried none of
    the remedies on it, are left out.

    Args:
        folders: frames of studies, each with study.json and remedies_differences.parquet.
    Raises:
        ConfigError: a study.json is no study.
    """
    cells: list[Cell] = []
    for folder in folders:
        params = read_config(folder / "study.json", Params)
        if (run := plain_mamba(params)) is not None:
            differences = pl.read_parquet(folder / "remedies_differences.parquet")
            own = [_cell(params, run, differences, form) for form in FORMS]
            cells += own if any(cell.effect for cell in own) else []
    rows = [cell.judged(p) for cell, p in zip(cells, holm([cell.p for cell in cells]), strict=True)]
    return pl.DataFrame(rows, schema=SCHEMA)


def plain_mamba(params: Params) -> str | None:
    """The first run that remedies were tried on that is Mamba-1 and is told no length."""
    runs = params.runs_by_name()
    for name in params.the_remedy_evaluation.runs:
        if runs[name].model.mixer.kind == "mamba" and runs[name].model.adaptive is None:
            return name
    return None


def _cell(params: Params, run: str, differences: pl.DataFrame, form: Form) -> Cell:
    config, order = params.runs_by_name()[run], params.the_remedy_evaluation.orders[0]
    metric = config.task.METRICS[0]
    row: dict[str, Any] = dict.fromkeys(SCHEMA) | {
        "study": params.study,
        "task": config.task.kind,
        "run": run,
        "order": order,
        "L0": config.L0,
        "unit": metric.difference_unit,
        "digits": metric.digits,
        "remedy": form.title,
    }
    entry = form.entry(params.remedies)
    if entry is None:
        refused = config.task.refuses(form.kind, order=order)
        return Cell(row | {"reason": f"refused: {refused}" if refused else "not tried"}, None, params.claims)
    row |= {"entry": entry.name}
    rivals = (VANILLA, *controls_of(config.task))
    read = pl.col("remedy") == entry.name, pl.col("step") == round(FACTOR * config.L0), pl.col("against").is_in(rivals)
    ahead = differences.filter(pl.col("run") == run, pl.col("order") == order, *read)["per_seed"].to_list()
    if not ahead:
        return Cell(row | {"reason": f"not read at {FACTOR:g} L0"}, None, params.claims)
    ahead_of_best = np.min(ahead, axis=0)  # of each training the best is what the remedy is least ahead of
    effect = effect_of(ahead_of_best.tolist(), params.claims.level)
    return Cell(row, effect, params.claims)
