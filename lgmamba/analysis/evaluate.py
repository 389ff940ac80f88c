"""Evaluate a study: check and collect its runs, test the claims, write the frames that everything else is made of."""

from pathlib import Path

import polars as pl

from lgmamba.analysis import folders_read, frames_of
from lgmamba.analysis.claims import Evidence, claim_cells, summarise_claims
from lgmamba.analysis.collect import collect_runs, load_study
from lgmamba.analysis.comparisons import budget_frame, form_frame
from lgmamba.analysis.drawn import drawn_frames
from lgmamba.analysis.families import several_budgets, several_forms
from lgmamba.analysis.files import write_frame, write_json
from lgmamba.analysis.frames import (
    SETTING,
    curves_frame,
    degradation_frame,
    envelope_frame,
    history_frame,
    lengths_frame,
    retention_frame,
    runs_frame,
    summary_frame,
)
from lgmamba.analysis.inspect.collect import collect_inspected
from lgmamba.analysis.inspect.drawn import inspect_drawn
from lgmamba.analysis.panel import collect_panel, shown, write_panel
from lgmamba.analysis.remedies.evaluate import remedy_frames
from lgmamba.analysis.retention import load_maps
from lgmamba.analysis.samples import load_samples
from lgmamba.analysis.statistics import Bootstrap
from lgmamba.keys import evaluate_key
from lgmamba.records import begin, find_record, finish

COUNTS = ("cells", "holds", "does_not_hold", "not_shown", "not_testable")


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
    order = params.probe.orders[0]
    samples = load_samples(folders, order)
    bootstrap = Bootstrap(samples.mse, params.claims.bootstrap, params.claims.level)
    evidence = Evidence(params, samples, bootstrap, load_maps(folders, order))

    curves = curves_frame(folders, params.study)
    cells = claim_cells(evidence)
    frames = {
        "curves": curves,
        "summary": summary_frame(curves),
        "retention": retention_frame(
            [folder.path / "probe/retention.parquet" for folder in folders], ("run", *SETTING, "age")
        ),
        "history": history_frame(folders),
        "lengths": lengths_frame(params),
        "envelope": envelope_frame(evidence),
        "degradation": degradation_frame(evidence),
        "claims": cells,
        "claims_summary": summarise_claims(cells, params),
        "runs": runs_frame(folders),
    }
    panel = collect_panel(folders)
    frames |= {f"figure_{name}": frame for name, frame in drawn_frames(params, frames, panel).items()}

    if several_budgets(params):
        frames["figure_budget"] = budget_frame(evidence)
    if several_forms(params):
        del frames["figure_envelope"]  # one picture of many forms would show none
        frames["figure_forms"] = form_frame(evidence)
    if params.extension is not None:
        frames |= remedy_frames(params, folders)

    if params.inspect is not None:
        inspected = collect_inspected(params, folders)
        frames |= {f"inspect_{name}": frame for name, frame in inspected.items()}
        frames |= {f"figure_{name}": frame for name, frame in inspect_drawn(params, inspected).items()}

    assert {f"{name}.parquet" for name in frames} | {"panel.safetensors", "claims.json"} == set(frames_of(params))
    begin(out)
    for name, frame in frames.items():
        write_frame(frame, out / f"{name}.parquet")
    write_panel(shown(panel, frames["figure_task"], frames["figure_gallery"]), out / "panel.safetensors")
    metrics = claims_metrics(frames["claims_summary"], cells)
    if params.extension is not None:
        metrics |= remedy_metrics(frames["remedies_claims"])
    write_json(metrics, out / "claims.json")
    finish(evaluate_key(params, records), out, list(frames_of(params)))


def claims_metrics(summary: pl.DataFrame, cells: pl.DataFrame) -> dict[str, dict[str, object]]:
    """Claims as nested numbers: per claim the verdict, counts of cells, and the effect of every cell."""
    result: dict[str, dict[str, object]] = {}
    for row in summary.iter_rows(named=True):
        here = cells.filter(pl.col("claim") == row["claim"])
        effects = {
            f"{c['family'] or c['run']}/{c['run']}/{c['step']}": c["effect"]
            for c in here.iter_rows(named=True)
            if c["effect"] is not None
        }
        result[row["claim"]] = {"verdict": row["verdict"], **{key: row[key] for key in COUNTS}, "effects": effects}
    return result


def remedy_metrics(claims: pl.DataFrame) -> dict[str, dict[str, object]]:
    """The claims about remedies in the same form; their effects are many, and in remedies_differences.parquet."""
    keys = ("remedy", "verdict", *COUNTS)
    return {row["claim"]: {key: row[key] for key in keys} for row in claims.iter_rows(named=True)}
