"""What each kind of remedy does to the state: one paragraph each, in numbers from the frames."""

import polars as pl

from lgmamba.analysis.remedies import VANILLA
from lgmamba.config.study import Params
from lgmamba.remedies.configs import CONFIGS
from lgmamba.report.wording import number, plural, span

COMBINE = ("combine", "Combinations", "Several of the above, one after the other.")


def kind_context(
    found: dict[str, pl.DataFrame], figure_data: pl.DataFrame, params: Params, far: float
) -> list[dict[str, str]]:
    """One paragraph for each kind of remedy: what it does to the state, in numbers."""
    tried = figure_data.filter(pl.col("rank").is_not_null())
    kinds = [*((kind, config.TITLE, config.ABOUT) for kind, config in CONFIGS.items()), COMBINE]
    here = set(tried["kind"])
    return [
        {"title": title, "text": " ".join([about, *_kind_numbers(kind, found, tried, params, far)])}
        for kind, title, about in kinds
        if kind in here
    ]


def _kind_numbers(
    kind: str, found: dict[str, pl.DataFrame], tried: pl.DataFrame, params: Params, far: float
) -> list[str]:
    rows = tried.filter(pl.col("kind") == kind)
    best = rows.sort("rank")["remedy"][0]
    sentences = []
    here = found["lengths"].filter(pl.col("kind") == kind, pl.col("factor") == far)
    if len(shares := here.drop_nulls("written_share")):
        sentences.append(
            f"At {far:g} \u00d7 L0, {_percent(shares['written_share'])} of the steps after L0 are written, with "
            f"{_percent(shares['step_size_share'])} of vanilla's step sizes."
        )
    if len(factors := here.drop_nulls("factors").explode("factors")):
        sentences.append(f"The factors found there are {span(factors['factors'].to_list())}.")
    at_far, metric = rows.filter(pl.col("factor") == far), params.task.METRICS[0]
    sentences.append(
        f"{metric.label} there is {span(at_far['delta'].to_list(), sign=True)} {metric.difference_unit} "
        f"from L0 over {plural(at_far['remedy'].n_unique(), 'form')} "
        f"and all runs and orders; the best form is `{best}`."
    )
    return [*sentences, *(_memory(found["memory"], best, params, far) if params.task.IMAGES else [])]


def _percent(shares: pl.Series) -> str:
    return f"{span((100 * shares).to_list(), 0)} %"


def _memory(memory: pl.DataFrame, remedy: str, params: Params, far: float) -> list[str]:
    """The error at the patch just read and at the oldest, with a remedy and without, longest L0, first order."""
    runs = params.runs_by_name()
    run = max(params.the_remedy_evaluation.runs, key=lambda name: runs[name].L0)
    step = round(far * runs[run].L0)
    ages = memory.filter(pl.col("run") == run, pl.col("step") == step, pl.col("age_low") >= 0)
    mine, plain = (ages.filter(pl.col("remedy") == name) for name in (remedy, VANILLA))
    if mine.is_empty() or plain.is_empty():
        return []

    def ends(rows: pl.DataFrame) -> str:
        old = rows.row(-1, named=True)
        return (
            f"{number(rows['mse'][0], 4)} at the patch just read and {number(old['mse'], 4)} at those read "
            f"{old['age_low']}\u2013{old['age_high']} steps ago"
        )

    return [f"With it, at t = {step}, `{run}` has a squared error of {ends(mine)}; without, {ends(plain)}."]
