"""Evaluate a study: check and collect its runs, compute the primary contrasts, write the frames that everything else is made of."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from lgmamba.analysis import figures_of, folders_read, frames_of, mixers, reads_out
from lgmamba.analysis.asked import asked_frame, asked_rows, told_frame, written_by_queries
from lgmamba.analysis.collect import RunFolder, collect_runs, load_study
from lgmamba.analysis.comparisons import NUMBERS, budget_frame, form_frame
from lgmamba.analysis.contrasts import LEVELS, Levels, contrasts_frame
from lgmamba.analysis.exchange import exchange_frame
from lgmamba.analysis.families import exemplary_runs, several_budgets, several_forms, several_mixers, trades_classes
from lgmamba.analysis.figure_data import figure_frames
from lgmamba.analysis.files import write_frame, write_json
from lgmamba.analysis.frames import (
    CHANGES,
    LEADS,
    SETTING,
    Evidence,
    beside,
    curves_frame,
    degradation_frame,
    envelope_frame,
    history_frame,
    lengths_frame,
    names_classes,
    regret_frame,
    retention_frame,
    runs_frame,
    summary_frame,
    with_regret,
)
from lgmamba.analysis.image_errors import image_error_frames
from lgmamba.analysis.panel import collect_panel, write_panel
from lgmamba.analysis.probes.collect import collect_probes
from lgmamba.analysis.probes.figure_data import probes_figure_frames
from lgmamba.analysis.remedies.evaluate import remedy_frames
from lgmamba.analysis.samples import load_samples
from lgmamba.analysis.statistics import Trainings
from lgmamba.analysis.theory import theory_frame
from lgmamba.config.probes import why_not_task
from lgmamba.config.study import Params
from lgmamba.keys import evaluate_key
from lgmamba.metrics import ACCURACY
from lgmamba.records import begin, find_record, finish


def evaluate(study_json: Path, results: Path, out: Path) -> None:
    """Write the frames of a study.

    Args:
        study_json: the study's resolved parameters.
        results: folder of the study, with runs/<run>/seed<k>/.
        out: folder for the frames; the files are `lgmamba.analysis.frames_of`.
    Raises:
        CollectError: results are missing, or do not belong to the current configuration.
    """
    params = load_study(study_json)
    records = {where: find_record(results / where) for where in folders_read(params)}  # of what is read from here on
    folders = collect_runs(params, results / "runs")
    order = params.evaluation.orders[0]
    samples, metric = load_samples(folders, order, params.task.NULL), params.task.METRICS[0]
    evidence = Evidence(params, samples, Trainings(samples.mse, params.claims.level, metric))
    named = class_evidence(params, folders, order)

    def both(frame: Callable[[Evidence], pl.DataFrame], on: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """A frame of the evidence, with the same of accuracy beside it where some run names a class."""
        return beside(frame(evidence), None if named is None else frame(named), on, columns)

    curves, regret = curves_frame(folders, params.study, metric), regret_frame(evidence)
    frames = {
        "curves": curves,
        "summary": summary_frame(curves),
        "history": history_frame(folders),
        "lengths": lengths_frame(params),
        "envelope": both(envelope_frame, ("family", "role", "run", "step"), LEADS),
        "regret": regret,
        "degradation": with_regret(both(degradation_frame, ("run", "step"), CHANGES), regret),
        "runs": runs_frame(folders),
    }
    if "retention" in figures_of(params):
        paths = [folder.path / "evaluation/retention.parquet" for folder in folders]
        frames["retention"] = retention_frame(paths, ("run", *SETTING, "age"))
    panel = collect_panel(folders, exemplary_runs(params)[0]) if params.task.IMAGES else None
    frames |= {f"figure_{name}": frame for name, frame in figure_frames(params, frames, panel).items()}

    if "theory" in figures_of(params):
        frames["figure_theory"] = theory_frame(params, curves)
    if several_budgets(params):
        by_budget = ("budget", "measure", "role", "run", "step", "factor")
        frames["figure_budget"] = both(budget_frame, by_budget, NUMBERS)
    if several_mixers(params):
        columns = (*mixers.NUMBERS, *mixers.DIFFERENCES)
        frames["figure_mixers"] = both(lambda ev: mixers.mixer_frame(ev, folders), ("run", "step"), columns)
    if several_forms(params):  # one picture of many forms would show none
        frames["figure_forms"] = both(form_frame, ("family", "run", "measure", "step", "factor"), (*NUMBERS, "lead"))
    elif params.claims.comparisons:
        frames["figure_envelope"] = frames["envelope"]
    if "asked" in params.task.DETAILS:
        frames["asked"] = asked_frame(folders)
        frames["asked_written"] = written_by_queries(frames["asked"])
        frames["asked_told"] = told_frame(frames["asked"])
        frames["figure_asked"] = asked_rows(params, frames["asked"])
    if params.remedy_evaluation is not None:
        frames |= remedy_frames(params, folders)
    if params.probes is not None:
        probes = collect_probes(params, folders)
        frames |= {f"probes_{name}": frame for name, frame in probes.items()}
        frames |= {f"figure_{name}": frame for name, frame in probes_figure_frames(params, probes).items()}
    L0 = {name: run.L0 for name, run in params.runs_by_name().items()}
    own = levels_of(curves, frames.get("remedies_levels"))
    if "probes_read_outs" in frames:
        own = pl.concat([own, read_out_levels(frames["probes_read_outs"], params.the_probes.order, own.schema)])
    levels: dict[str | None, pl.DataFrame] = {None: own}
    if named is not None:
        levels[ACCURACY.level] = levels_of(curves, frames.get("remedies_levels"), ACCURACY.level)
    found = Levels(levels, L0, order, params.task.NULL, why_no_read_outs(params))
    frames["contrasts"] = contrasts_frame(found, params.claims)
    frames |= image_error_frames(params, folders)
    if trades_classes(params):
        frames["exchange"] = exchange_frame(params, curves)

    pictures = set() if panel is None else {"panel.safetensors"}
    assert {f"{name}.parquet" for name in frames} | {"contrasts.json"} | pictures == set(frames_of(params))
    begin(out)
    for name, frame in frames.items():
        write_frame(frame, out / f"{name}.parquet")
    if panel is not None:
        write_panel(panel, out / "panel.safetensors")
    write_json(contrast_metrics(frames["contrasts"]), out / "contrasts.json")
    finish(evaluate_key(params, records), out, list(frames_of(params)))


def contrast_metrics(contrasts: pl.DataFrame) -> dict[str, dict[str, object]]:
    """Primary contrasts as nested numbers: name -> verdict, effect, interval, trainings."""
    keys = ("verdict", "effect", "lo", "hi", "n_seeds")
    return {row["name"]: {key: row[key] for key in keys} for row in contrasts.iter_rows(named=True)}


def class_evidence(params: Params, folders: list[RunFolder], order: str) -> Evidence | None:
    """The evidence in accuracy, of the runs that name a class; None where none does."""
    naming = [folder for folder in folders if names_classes(folder.config)]
    if not naming:
        return None
    samples = load_samples(naming, order, params.task.NULL, error=ACCURACY.name)
    return Evidence(params, samples, Trainings(samples.mse, params.claims.level, ACCURACY))


def levels_of(curves: pl.DataFrame, remedies: pl.DataFrame | None, level: str = "psnr") -> pl.DataFrame:
    """The frame of levels that contrasts are about: what each training reads as it is, the baselines, and remedies.

    Args:
        curves: `curves_frame`.
        remedies: `seed_levels_frame`, or None.
        level: psnr (the level of the task's own metric), or accuracy.
    """
    keys = [name for name in LEVELS if name != "value"]
    own = curves.select(*keys, pl.col(level).alias("value"))
    if remedies is not None:
        value = "value" if level == "psnr" else level
        if value in remedies.columns:
            own = pl.concat([own, remedies.select(*keys, pl.col(value).alias("value"))])
    return own.filter(pl.col("value").is_not_null())


def why_no_read_outs(params: Params) -> str | None:
    """Why a study has no refitted read-outs; None where it has some."""
    if reads_out(params):
        return None
    if (why := why_not_task("read_outs", params.task)) is not None:
        return f"no read-out of task {params.task.kind} can be refitted: {why}"
    return "no read-out was refitted: probes.kinds has no read_outs"


def read_out_levels(read_outs: pl.DataFrame, order: str, schema: pl.Schema) -> pl.DataFrame:
    """The same of read-outs: methods trained and refitted, read in prefix mode.

    Args:
        read_outs: of the stage `probes`.
        order: visiting order in which they were read.
        schema: of the frame of levels.
    """
    named = read_outs.filter(pl.col("read_out").is_in(["trained", "refitted"])).with_columns(
        method=pl.col("read_out"), mode=pl.lit("prefix"), order=pl.lit(order), value=pl.col("psnr")
    )
    return named.select(pl.col(name).cast(kind) for name, kind in schema.items())
