"""What the report says of several sequence mixers in one study: which of them fall beyond their training lengths, and what goes with it."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import spearmanr

from lgmamba.analysis.contrasts import DESCRIBED, OPPOSITE, SAME, SHOWN, SMALL, UNDECIDED
from lgmamba.analysis.families import GENERALIST, is_bare, several_mixers
from lgmamba.analysis.numbers import mean
from lgmamba.analysis.remedies import VANILLA
from lgmamba.config.claims import Contrast
from lgmamba.config.study import Params
from lgmamba.metrics import Metric
from lgmamba.report.remedies import best_remedies, differences_of
from lgmamba.report.wording import DIGITS, effect, interval, limit, listed, number, span

FEW_MIXERS = 4
"""Mixers with a property, at least, for a rank correlation to be written down."""


def mixer_context(params: Params, frames: Path) -> dict[str, Any]:
    """What is said of the mixers of a study; empty lists where it does not compare any.

    Returns:
        rows: `mixer_rows`; n_seeds: trainings of each that these rest on; answer: sentences on who falls, from the primary contrasts;
        predictors: `predictor_rows`, none where none of them has a coefficient; factors: those of the falls in predictors; n: generalists.
    """
    if not several_mixers(params):
        return {"rows": [], "n_seeds": 0, "answer": [], "predictors": [], "factors": [], "n": 0}
    rows = mixer_rows(params, frames)
    plain = [row for row in rows if row["kind"] == GENERALIST]
    both = dict.fromkeys((4.0, max(params.claims.far_length_ratios))) if plain else {}
    factors = [f for f in both if all(row["at"].get(f"{f:g}") for row in plain)]
    predictors = predictor_rows(plain, factors)
    if all(rho is None for row in predictors for rho in row["rho"].values()):
        predictors, factors = [], []
    return {
        "rows": rows,
        "n_seeds": max((at["n_seeds"] for row in rows for at in row["at"].values() if at), default=0),
        "answer": length_sentences(params, pl.read_parquet(frames / "contrasts.parquet"), _mean_image(params, frames)),
        "predictors": predictors,
        "factors": [f"{f:g}" for f in factors],
        "n": len(plain),
    }


def _mean_image(params: Params, frames: Path) -> float | None:
    if not params.task.IMAGES:
        return None
    summary = pl.read_parquet(frames / "summary.parquet")
    read = summary.filter(mode="prefix", order=params.evaluation.orders[0], method=params.task.NULL)
    return None if read.is_empty() else mean(read["psnr"])


def mixer_headline(context: dict[str, Any]) -> dict[str, Any]:
    """What docs and README show of it: all but the table."""
    return {name: context[name] for name in ("answer", "predictors", "factors", "n")}


def mixer_rows(params: Params, frames: Path) -> list[dict[str, Any]]:
    """One entry for each run of figure_mixers.

    run, kind, mixer, numbers, tau at the start and the end (steps), L0; bounded: `MixerBase.BOUNDED`; at: {factor: row} at L0 and beyond;
    lead: (effect, lo, hi) of the same mixer's specialist over a generalist at its L0, dB, or None; best: the remedy of the highest PSNR
    at the longest T in the first order, with gain over the run as it is, or None.
    """
    frame, rows, runs = pl.read_parquet(frames / "figure_mixers.parquet"), [], params.runs_by_name()
    factors = [1.0, *(f for f in params.claims.far_length_ratios if f in set(frame["factor"]))]
    best = {} if params.remedy_evaluation is None else _best_remedies(params, frames)
    for (run,), here in frame.group_by("run", maintain_order=True):
        at = {row["factor"]: row for row in here.to_dicts()}
        keys = ("run", "kind", "mixer", "numbers", "tau", "tau_low", "tau_high", "tau_end", "L0")
        about = {key: here[key][0] for key in keys}
        about |= {"bounded": runs[run].model.mixer.BOUNDED, "best": best.get(run), "lead": _lead(at.get(1.0))}
        rows.append(about | {"at": {f"{factor:g}": at.get(factor) for factor in factors}})
    return rows


def _lead(at_L0: dict[str, Any] | None) -> tuple[float | None, ...] | None:
    if at_L0 is None or at_L0["kind"] != GENERALIST or at_L0["regret"] is None:
        return None
    ends = (at_L0["regret_hi"], at_L0["regret_lo"])
    return (-at_L0["regret"], *(None if end is None else -end for end in ends))


def _best_remedies(params: Params, frames: Path) -> dict[str, dict[str, Any]]:
    """{run: remedy, psnr, gain, lo, hi}."""
    figure_data = pl.read_parquet(frames / "figure_remedies.parquet").filter(
        order=params.the_remedy_evaluation.orders[0]
    )
    differences = pl.read_parquet(frames / "remedies_differences.parquet")
    found = {}
    for best, _ in best_remedies(figure_data, max(params.the_remedy_evaluation.length_ratios)):
        row = differences_of(best, differences).get(VANILLA)
        gain = {} if row is None else {"gain": row["effect"], "lo": row["effect_lo"], "hi": row["effect_hi"]}
        found[best["run"]] = {
            "remedy": best["remedy"],
            "psnr": best["psnr"],
            "gain": None,
            "lo": None,
            "hi": None,
        } | gain
    return found


def length_sentences(params: Params, contrasts: pl.DataFrame, mean_image: float | None) -> list[str]:
    """Who falls, gains and holds beyond its training lengths, by the contrasts of one run at a multiple of L0 minus itself at L0.

    For each multiple; of fewer than two such contrasts nothing is said. What begins with a star is an entry of a list. Those that hold,
    but are at L0 less than the margin better than the mean image, are told apart: what was not learned cannot be lost.

    Args:
        params: a study of several mixers.
        contrasts: contrasts.parquet, with a row for each of `params.claims.primary`.
        mean_image: its PSNR, dB, of a task with images.
    """
    rows = {row["name"]: row for row in contrasts.iter_rows(named=True) if row["effect"] is not None}
    by_length: dict[str, list[Contrast]] = {}
    for contrast in params.claims.primary:
        if contrast.name in rows and _is_of_length(contrast):
            by_length.setdefault(contrast.of.at[0], []).append(contrast)
    sentences = []
    for length, compared in by_length.items():
        if len(compared) > 1:
            names = mixer_names(params, [contrast.of.run for contrast in compared])
            margin = params.claims.margin
            nothing = -math.inf if mean_image is None else mean_image + margin
            found = [(names[c.of.run], rows[c.name], outcome(rows[c.name], nothing)) for c in compared]
            sentences += _sentences(length, found, margin, mean_image, params.task.METRICS[0])
    return sentences


def _is_of_length(contrast: Contrast) -> bool:
    of, minus = contrast.of, contrast.minus
    plain = not of.treated and of.less is None and of.also is None and len(of.at) == 1 and of.at[0].endswith(" L0")
    at_L0 = of.model_dump() | {"at": ["L0"]}
    return plain and not of.at[0].startswith("to") and minus.model_dump() == at_L0


FALLS, GAINS, HOLDS, IDLE, OPEN, UNJUDGED = "falls", "gains", "holds", "idle", "open", "unjudged"
LEVELS = {FALLS: "fall", HOLDS: "hold", GAINS: "gain", OPEN: "are undecided", UNJUDGED: "are not judged"}
"""Of which the level at L0 is told; that of those with nothing to lose is the mean image's."""


def outcome(row: dict[str, Any], nothing: float = -math.inf) -> str:
    """What a verdict says of the run itself, whichever side was claimed; a run that holds a level below `nothing` had none to lose."""
    if row["verdict"] in (SHOWN, SMALL, OPPOSITE):
        return FALLS if row["effect"] < 0 else GAINS
    if row["verdict"] == SAME:
        return IDLE if row["minus_level"] < nothing else HOLDS
    return {UNDECIDED: OPEN, DESCRIBED: UNJUDGED}[row["verdict"]]


def _sentences(
    length: str, found: list[tuple[str, dict[str, Any], str]], margin: float, mean_image: float | None, metric: Metric
) -> list[str]:
    unit = metric.difference_unit
    beginnings: dict[str, Callable[[int], str]] = {
        FALLS: lambda n: f"{n} {'falls' if n == 1 else 'fall'}",
        HOLDS: lambda n: (
            f"{n} {'holds, its interval' if n == 1 else 'hold, their intervals'} within {limit(margin)} {unit} of zero"
        ),
        IDLE: lambda n: f"{n} had nothing to lose, at L0 less than {limit(margin)} {unit} better than the mean image",
        GAINS: lambda n: f"{n} {'gains' if n == 1 else 'gain'}",
        OPEN: lambda n: f"{n} {'is' if n == 1 else 'are'} undecided after Holm's correction",
        UNJUDGED: lambda n: f"{n} {'has' if n == 1 else 'have'} too few trainings for a verdict",
    }
    said = [f"Of {len(found)} mixers, each read at {length} and compared with itself at L0:"]
    for kind, begin in beginnings.items():
        rows = sorted(((name, row) for name, row, is_ in found if is_ == kind), key=lambda pair: pair[1]["effect"])
        if rows:
            said.append(f"* **{begin(len(rows))}:** {listed(_with_effect(name, row, unit) for name, row in rows)}.")
    levels = [
        f"those that {words} have {span((row['minus_level'] for _, row, is_ in found if is_ == kind), DIGITS[unit])} {metric.unit}"
        for kind, words in LEVELS.items()
        if any(is_ == kind for _, _, is_ in found)
    ]
    nothing = "" if mean_image is None else f"; the mean image alone has {number(mean_image)} dB"
    return [*said, f"What there is to lose: at L0 {listed(levels)}{nothing}."] if levels else said


def _with_effect(name: str, row: dict[str, Any], unit: str) -> str:
    ends = "" if row["lo"] is None else f" {interval(row['lo'], row['hi'], unit)}"
    return f"{name} {effect(row['effect'], unit)} {unit}{ends}"


BARE = "bare S6 layer"
"""What a run of one layer without a model around it is called: it is no Mamba."""
POSITIONS = {"position nope": "without positions", "position rope": "RoPE", "position alibi": "ALiBi"}
"""Part of a mixer's description -> as claims have it."""


def mixer_names(params: Params, runs: list[str]) -> dict[str, str]:
    """{run: its mixer's name}; mixers of one name with that in which they differ, and runs of one mixer with their own."""
    about = {run: params.runs_by_name()[run] for run in runs}
    mixers = {run: (about[run].model.mixer, is_bare(about[run])) for run in runs}
    parts = {
        run: (BARE if bare else mixer.title, [POSITIONS.get(part, part) for part in mixer.description.split(", ")])
        for run, (mixer, bare) in mixers.items()
    }
    shared = {
        title: set.intersection(*(set(words) for other, words in parts.values() if other == title))
        for title, _ in parts.values()
    }
    own = {run: ", ".join(word for word in words if word not in shared[title]) for run, (title, words) in parts.items()}
    names = {run: f"{title} ({own[run]})" if own[run] else title for run, (title, _) in parts.items()}
    taken = Counter(names.values())
    return {run: name if taken[name] == 1 else f"{name} of `{run}`" for run, name in names.items()}


PROPERTIES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "log(tau after training / L0)": lambda row: (
        None if row["tau_end"] is None else math.log(row["tau_end"] / row["L0"])
    ),
    "size of the state": lambda row: row["numbers"] or None,
    "whether the state is bounded (1 or 0)": lambda row: None if row["bounded"] is None else float(row["bounded"]),
    "level at L0": lambda row: row["at"]["1"]["psnr"],
}
"""What may go with a fall, of those mixers that have it."""


def predictor_rows(rows: list[dict[str, Any]], factors: list[float]) -> list[dict[str, Any]]:
    """Spearman's rank correlation, over mixers, of each property with the fall, level at L0 minus that at T.

    Args:
        rows: `mixer_rows` of generalists, all with their PSNR at L0 and at the factors.
        factors: T / L0.
    Returns:
        property, n (mixers that have it), rho: {factor: coefficient}, None where all are alike or fewer than FEW_MIXERS have it.
    """
    found = []
    for name, value_of in PROPERTIES.items():
        known = [(value, row) for row in rows if (value := value_of(row)) is not None]
        values = [value for value, _ in known]
        rho = {
            f"{factor:g}": _spearman(values, [-row["at"][f"{factor:g}"]["change"] for _, row in known])
            for factor in factors
        }
        found.append({"property": name, "n": len(known), "rho": rho})
    return found


def _spearman(x: list[float], y: list[float]) -> float | None:
    if len(x) < FEW_MIXERS or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return float(spearmanr(x, y).statistic)
