"""Everything that the report says, as plain values taken from the frames and the configuration."""

import math
from pathlib import Path
from typing import Any

import polars as pl

from lgmamba.analysis import figures_of, reads_out, tells_lengths
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.comparisons import ADAPTIVE_LEAD, CHANGE, LEVEL, TOTAL_BEHIND
from lgmamba.analysis.families import (
    describe_in,
    describe_lengths,
    families,
    kind_of,
    several_budgets,
    several_forms,
)
from lgmamba.analysis.shown import MANY_RUNS, drawn_runs, shown_rows
from lgmamba.analysis.titles import titles
from lgmamba.config.study import Params
from lgmamba.report.captions import captions, sample_of, seeds_drawn
from lgmamba.report.classes import accuracies, class_context, contrast_units
from lgmamba.report.contrasts import contrast_context
from lgmamba.report.held import HELD, held_context
from lgmamba.report.method import CHOICES, method_lines
from lgmamba.report.mixers import mixer_context, mixer_headline
from lgmamba.report.probes import probes_context
from lgmamba.report.rates import rate_context, who_leads
from lgmamba.report.read_outs import read_out_context
from lgmamba.report.remedies import remedy_context, remedy_headline
from lgmamba.report.strategies import described_runs, strategy_sentences
from lgmamba.report.told_lengths import told_length_context
from lgmamba.report.views import claim_views, figure_views
from lgmamba.report.wording import listed, plain_text

READ = ("curves", "summary", "contrasts", "envelope", "runs")


def gather(study_json: Path, frames: Path) -> dict[str, Any]:
    """What the templates of a study's report are filled with.

    Args:
        study_json: resolved parameters.
        frames: folder written by `evaluate`.
    """
    params = load_study(study_json)
    found = {name: pl.read_parquet(frames / f"{name}.parquet") for name in READ}
    sample = sample_of(params, found["curves"])
    runs, metric = params.runs_by_name(), params.task.METRICS[0]
    rates = rate_context(params, found["curves"])
    remedies = None if params.remedy_evaluation is None else remedy_context(params, frames)
    probes = params.probes
    regret = "regret" in pl.read_parquet_schema(frames / "figure_degradation.parquet")
    return {
        "params": params,
        "shown": drawn_runs(params),
        "many_runs": MANY_RUNS if params.report.shown is None and len(runs) > MANY_RUNS else None,
        "metric": metric,
        "refused": sorted((kind, why) for kind, why in params.task.REFUSES.items() if kind != "probes"),
        "title": plain_text(params.report.title),
        "question": plain_text(params.report.question),
        "method": method_lines(params, sample) if params.task.IMAGES else [],
        "choices": CHOICES,
        "params_values": params.model_dump(mode="json"),
        "study": params.study,
        "sample": sample,
        "contrasts": contrast_context(
            found["contrasts"], params.claims.fixed, contrast_units(params) or metric.difference_unit
        ),
        "early": early_context(params, found["summary"]),
        "levels": level_context(params, found["summary"], params.evaluation.orders[0]),
        "held": held_context(params, found["curves"]),
        "held_level": HELD,
        "other_orders": {
            order: level_context(params, found["summary"], order) for order in params.evaluation.orders[1:]
        },
        "classes": class_context(params, found["summary"], frames) if params.names_classes else None,
        "rates": rates,
        "leads": who_leads(rates, params),
        "account": account_context(params, found["summary"]),
        "asked_told": told_context(params, frames) if "asked" in params.task.DETAILS else [],
        "asked_written": asked_context(params, frames) if "asked" in params.task.DETAILS else [],
        "far_length_ratios": params.claims.far_length_ratios,
        "mixers": mixer_context(params, frames),
        "forms": form_rows(frames) if several_forms(params) else [],
        "budgets": budget_rows(frames) if several_budgets(params) else [],
        "totals": total_rows(frames) if several_budgets(params) else [],
        "beside": found["envelope"].filter(pl.col("beside").is_not_null()).to_dicts(),
        "runs": [
            {
                "run": name,
                "kind": kind_of(run),
                "description": describe_in(params, name),
                "L0": run.L0,
                "note": plain_text(params.notes().get(name)),
            }
            for name, run in runs.items()
        ],
        "more_seeds": more_seeds(params),
        "strategies": _strategies(params, frames),
        "costs": cost_context(found["runs"]),
        "titles": titles(params),
        "views": {
            "figures": figure_views(params, remedies["best"] if remedies else None),
            "claims": claim_views(params),
        },
        "positions": {name: position for position, name in enumerate(figures_of(params), start=1)},
        "captions": captions(
            params,
            sample,
            remedies["sample"] if remedies else None,
            gallery_images(params, frames),
            regret,
            seeds_drawn(params, frames),
        ),
        "remedies": remedies,
        "read_outs": read_out_context(params, frames) if reads_out(params) else None,
        "told_lengths": told_length_context(params, frames) if tells_lengths(params) else None,
        "inside": probes_context(params, frames) if probes is not None and probes.all_inside else None,
    }


def gallery_images(params: Params, frames: Path) -> list[int]:
    """Which images of the panel the gallery shows, in its order."""
    if not params.task.IMAGES:
        return []
    return pl.read_parquet(frames / "figure_gallery.parquet")["image"].unique(maintain_order=True).to_list()


def more_seeds(params: Params) -> list[str]:
    """`run` 5, 6 and 7: trainings of single runs beyond those with the study's seeds."""
    more = {name: params.seeds_of(name)[len(params.seeds) :] for name in params.runs_by_name()}
    return [f"`{name}` {listed(map(str, seeds))}" for name, seeds in more.items() if seeds]


def _strategies(params: Params, frames: Path) -> list[str]:
    """What the retention maps show, in sentences; nothing where there are none."""
    if not (params.task.IMAGES and "retention" in figures_of(params)):
        return []
    maps = shown_rows(params, "retention", pl.read_parquet(frames / "figure_retention.parquet"))
    return strategy_sentences(maps, described_runs(params), max(params.claims.far_length_ratios))


def told_context(params: Params, frames: Path) -> list[dict[str, Any]]:
    """What wrong lengths do at L0 to runs that are told one: run, step, told (0: another sequence's), psnr, difference (dB)."""
    told = pl.read_parquet(frames / "asked_told.parquet")
    L0 = {name: run.L0 for name, run in params.runs_by_name().items()}
    return [row for row in told.to_dicts() if row["step"] == L0[row["run"]]]


def asked_context(params: Params, frames: Path) -> list[dict[str, Any]]:
    """What the queries write, of each run after its L0 and after the longest sequence: run, step, difference (dB)."""
    written = pl.read_parquet(frames / "asked_written.parquet")
    longest = written["step"].max()
    at = [{"run": name, "step": step} for name, run in params.runs_by_name().items() for step in (run.L0, longest)]
    return pl.DataFrame(at).join(written, on=["run", "step"], maintain_order="left").to_dicts()


def form_rows(frames: Path) -> list[dict[str, Any]]:
    """One entry for each run of figure_forms: family, run, note, words, gains {T: row}, changes {factor: row}."""
    frame, rows = pl.read_parquet(frames / "figure_forms.parquet"), []
    for (family, run), here in frame.group_by("family", "run", maintain_order=True):
        by = {measure: here.filter(pl.col("measure") == measure) for measure in (ADAPTIVE_LEAD, CHANGE)}
        rows.append(
            {"family": family, "run": run, "note": plain_text(here["note"][0]), "words": here["words"][0]}
            | {"gains": {row["step"]: row for row in by[ADAPTIVE_LEAD].to_dicts()}}
            | {"changes": {f"{row['factor']:g}": row for row in by[CHANGE].to_dicts()}}
        )
    return rows


def budget_rows(frames: Path) -> list[dict[str, Any]]:
    """One entry for each difference of figure_budget: measure, step, and {budget: row}."""
    frame, rows = pl.read_parquet(frames / "figure_budget.parquet"), []
    compared = frame.filter(
        ~pl.col("measure").is_in([LEVEL, TOTAL_BEHIND]),
        pl.col("factor").is_null() | (pl.col("factor") == 2),
    )
    for (measure, role, step), here in compared.group_by("measure", "role", "step", maintain_order=True):
        by_budget = {row["budget"]: row for row in here.sort("budget").to_dicts()}
        rows.append({"measure": measure, "role": role, "step": step, "by": by_budget})
    return rows


def total_rows(frames: Path) -> list[dict[str, Any]]:
    """One entry for each specialist that an adaptive run of all specialists' budget was compared with: budget, step, run, n
    (specialists), and the difference from it.
    """
    behind = pl.read_parquet(frames / "figure_budget.parquet").filter(measure=TOTAL_BEHIND)
    counts = dict(behind.group_by("budget").len().iter_rows())
    return [row | {"n": counts[row["budget"]]} for row in behind.sort("budget", "step").to_dicts()]


def early_context(params: Params, summary: pl.DataFrame) -> list[dict[str, Any]]:
    """PSNR of each run long before its L0, and that of the mean image: {run, L0, step, psnr, mean_image}, with accuracy (%) of runs that
    name a class; the step nearest L0 / 4.
    """
    headline = summary.filter(pl.col("mode") == "prefix", pl.col("order") == params.evaluation.orders[0])
    psnr = {
        (run, step): value for run, step, value in headline.filter(method="model").select("run", "step", "psnr").rows()
    }
    mean_image = headline.filter(method=params.task.NULL)["psnr"].mean()
    named = headline.filter(method="model").drop_nulls("accuracy") if params.names_classes else headline.clear()
    accuracy = {(row["run"], row["step"]): {"accuracy": row["accuracy"]} for row in named.iter_rows(named=True)}
    rows = []
    for name, run in params.runs_by_name().items():
        steps = [step for found, step in psnr if found == name and 1 < step < run.L0]
        if steps:
            _, step = min((abs(math.log(4 * t / run.L0)), t) for t in steps)
            row = {"run": name, "L0": run.L0, "step": step, "psnr": psnr[name, step], "mean_image": mean_image}
            rows.append(row | accuracy.get((name, step), {}))
    return rows


def level_context(params: Params, summary: pl.DataFrame, order: str) -> list[dict[str, Any]]:
    """Level of each run at L0 and at its multiples, in one order: {run, L0, psnr: {factor: level or None}}."""
    headline = summary.filter(pl.col("mode") == "prefix", pl.col("order") == order, pl.col("method") == "model")
    psnr = {(run, step): value for run, step, value in headline.select("run", "step", "psnr").rows()}
    factors = [1, *params.claims.far_length_ratios]
    return [
        {"run": name, "L0": run.L0, "psnr": {f"{f:g}": psnr.get((name, round(f * run.L0))) for f in factors}}
        for name, run in params.runs_by_name().items()
    ]


def account_context(params: Params, summary: pl.DataFrame) -> dict[str, Any] | None:
    """PSNR of the first family's longest specialist, generalist and adaptive run at L0 / 4, L0, 2 L0 and the farthest multiple.

    None where the study compares no family, or has not read one of them at one of these lengths.
    """
    if not params.claims.comparisons:
        return None
    family, runs, far = families(params)[0], params.runs_by_name(), max(params.claims.far_length_ratios)
    steps = {"early": family.L0 // 4, "L0": family.L0, "twice": 2 * family.L0, "far": round(far * family.L0)}
    headline = summary.filter(pl.col("mode") == "prefix", pl.col("order") == params.evaluation.orders[0])
    psnr = {
        (run, step): value for run, step, value in headline.filter(method="model").select("run", "step", "psnr").rows()
    }
    roles = {
        family.specialists.get(family.L0): "trained on {lengths}",
        family.generalist: "trained on {lengths}",
        family.adaptive: "told the length",
    }
    rows = [
        {"run": run, "words": words.format(lengths=describe_lengths(runs[run].task.lengths))}
        | {name: psnr.get((run, step)) for name, step in steps.items()}
        for run, words in roles.items()
        if run is not None
    ]
    if any(value is None for row in rows for value in row.values()):
        return None
    mean_image = headline.filter(method=params.task.NULL)["psnr"].mean()
    return {"L0": family.L0, "early": steps["early"], "far": far, "mean_image": mean_image, "rows": rows}


def cost_context(runs: pl.DataFrame) -> dict[str, Any]:
    """Hardware, versions, wall times (s) and memory (MB), over all trainings."""

    def one_of(column: str) -> str:
        return "; ".join(sorted({str(value) for value in runs[column].drop_nulls()})) or "unknown"

    by_run = runs.group_by("run", maintain_order=True).agg(
        pl.col("parameters", "steps").first(),
        pl.col("train_s", "images_per_s", "probe_s").mean(),
        pl.col("peak_rss_mb", "peak_gpu_mb").max(),
    )
    return {
        "trainings": len(runs),
        "train_s": runs["train_s"].sum(),
        "probe_s": runs["probe_s"].sum(),
        "peak_rss_mb": runs["peak_rss_mb"].max(),
        "peak_gpu_mb": runs["peak_gpu_mb"].max(),
        "device": one_of("device_name"),
        "backend": one_of("backend"),
        "versions": one_of("versions"),
        "git": one_of("git"),
        "data_digest": runs["data_digest"][0],
        "by_run": by_run.to_dicts(),
    }


def headline(context: dict[str, Any]) -> dict[str, Any]:
    """The few numbers and sentences that the README shows (headline.json)."""
    costs = context["costs"]
    return {
        "study": context["study"],
        "sample": {
            "runs": len(context["runs"]),
            "trainings": context["sample"].trainings,
            "images": context["sample"].images,
            "split": context["sample"].split,
        },
        "contrasts": context["contrasts"]["rows"],
        "counts": context["contrasts"]["counts"],
        "psnr": context["levels"],
        "account": context["account"],
        "remedies": context["remedies"] and remedy_headline(context["remedies"]),
        **({"mixers": mixer_headline(context["mixers"])} if context["mixers"]["rows"] else {}),
        "costs": {
            key: costs[key]
            for key in ("trainings", "train_s", "probe_s", "peak_rss_mb", "peak_gpu_mb", "device", "backend")
        },
    }


def metrics(context: dict[str, Any]) -> dict[str, Any]:
    """Numbers alone, nested, for `dvc metrics` (metrics.json)."""
    keys = ("effect", "lo", "hi", "n_seeds")
    contrasts = {
        row["name"]: {key: row[key] for key in keys if row[key] is not None} for row in context["contrasts"]["rows"]
    }
    psnr = {
        row["run"]: {f"{f}xL0": value for f, value in row["psnr"].items() if value is not None}
        for row in context["levels"]
    }
    pictures, level = context["params"].task.IMAGES, context["metric"].level
    found = {"contrasts": contrasts, "psnr_db" if pictures else level: psnr}
    found |= {"accuracy_percent": accuracies(context["classes"])} if context["classes"] else {}
    name = "remedies_db" if pictures else f"remedies_{level}"
    return found | ({name: context["remedies"]["far_levels"]} if context["remedies"] else {})
