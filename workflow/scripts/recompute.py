"""Every verdict of this repository once more, for a reader who distrusts the code that made it: nothing of the package is imported.

    python workflow/scripts/recompute.py            # every study with frames in git, half a minute
    python workflow/scripts/recompute.py omniglot   # one of them

From the levels of single trainings (reports/<study>/frames) and the sentences of study.json come differences by seed, Student's
intervals, Holm's correction and verdicts, as docs/claims.md and docs/tradeoff.md define them. They are printed beside those of
reports/<study>/headline.json, which pages are made from; the exit status is 1 where one differs.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

REPORTS = Path(__file__).parents[2] / "reports"


def levels_of(frames: Path, study: dict, metric: str | None) -> pl.DataFrame:
    """One row for each training and setting: run, seed, method, mode, order, step, value (higher is better)."""
    keys = ["run", "seed", "method", "mode", "order", "step"]
    own = "psnr" if metric is None else metric
    found = [pl.read_parquet(frames / "curves.parquet").select(*keys, value=pl.col(own))]
    if (remedies := frames / "remedies_levels.parquet").is_file():
        found.append(pl.read_parquet(remedies).select(*keys, value=pl.col("value" if metric is None else metric)))
    if metric is None and (read_outs := frames / "probes_read_outs.parquet").is_file():
        rows = pl.read_parquet(read_outs).filter(pl.col("read_out").is_in(["trained", "refitted"]))
        rows = rows.with_columns(
            method=pl.col("read_out"), mode=pl.lit("prefix"), order=pl.lit(study["probes"]["order"])
        )
        found.append(rows.select(*keys, value=pl.col("psnr")))
    return pl.concat(found, how="vertical_relaxed").drop_nulls("value")


def steps_of(lengths: list[str], L0: int) -> list[int]:
    """`4 L0`, `L0 / 4`, `to L0`, `37` in steps."""
    steps: set[int] = set()
    for text in lengths:
        if text == "to L0":
            steps |= {2**k for k in range(L0.bit_length()) if 2**k <= L0} | {L0}
        elif "/" in text:
            steps.add(max(1, round(L0 / float(text.split("/")[1]))))
        elif "L0" in text:
            steps.add(max(1, round(L0 * float(re.sub(r"\s*L0", "", text) or 1))))
        else:
            steps.add(int(text))
    return sorted(steps)


def at(levels: pl.DataFrame, side: dict, order: str, run: str, lengths: list[str], L0: int, method=None) -> dict:
    """Seed -> mean level of one run over some lengths; the best of several remedies, for each training."""
    treated = side.get("best_of") or ([side["remedy"]] if side.get("remedy") else [])
    own = f"told_{side['told']}" if side.get("told") else side["method"]
    methods, steps = [method] if method else treated or [own], steps_of(lengths, L0)
    here = levels.filter(
        pl.col("method").is_in(methods), pl.col("step").is_in(steps), run=run, order=side.get("order") or order
    )
    here = here if treated else here.filter(mode=side["mode"])
    means = here.group_by("seed", "method").agg(pl.col("value").mean(), n=pl.col("step").n_unique())
    best = means.filter(n=len(steps)).group_by("seed").agg(pl.col("value").max(), n=pl.len())
    return dict(best.filter(n=len(methods)).select("seed", "value").rows())


def side_of(frames: Path, study: dict, side: dict, L0: dict[str, int], null: str) -> dict[int, float]:
    """Seed -> what a side comes to."""
    levels, order = levels_of(frames, study, side.get("metric")), study["evaluation"]["orders"][0]
    runs = [side["run"], *(side.get("also") or [])]
    parts = []
    for run in runs:
        found = at(levels, side, order, run, side["at"], L0[run])
        if side.get("less"):
            less = at(levels, side, order, run, side["less"], L0[run])
            found = {seed: found[seed] - less[seed] for seed in found.keys() & less.keys()}
        if side.get("measure") == "kept":
            full, none = (at(levels, side, order, run, ["L0"], L0[run], method) for method in (None, null))
            lead = {seed: full[seed] - none[seed] for seed in found.keys() & full.keys() & none.keys()}
            found = {seed: 100 * (found[seed] - none[seed]) / gap for seed, gap in lead.items() if gap > 0}
        parts.append(found)
    seeds = set.intersection(*map(set, parts))
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(seeds)}


def differences(frames: Path, study: dict) -> dict[str, list[float]]:
    """Contrast -> difference of each training."""
    curves = pl.read_parquet(frames / "figure_curves.parquet").filter("at_L0")
    L0 = dict(curves.select("run", "step").unique().rows())
    methods = set(pl.read_parquet(frames / "curves.parquet")["method"])
    null = next(iter(methods & {"mean_image", "chance", "law", "unigram", "popularity"}), "")
    found = {}
    for contrast in study["claims"]["primary"]:
        of, minus = (side_of(frames, study, contrast[side], L0, null) for side in ("of", "minus"))
        found[contrast["name"]] = [of[seed] - minus[seed] for seed in sorted(of.keys() & minus.keys())]
    return found


def tradeoff_differences(frames: Path, study: dict) -> dict[str, list[float]]:
    """The same of a study of one shared latent, whose measures docs/tradeoff.md defines."""
    points, margins = pl.read_parquet(frames / "points.parquet").filter(variant="main"), study["claims"]["margins"]

    def level(here: pl.DataFrame, measure: str) -> float | None:
        mse, accuracy = (here.sort("weight")[name].to_numpy() for name in ("mse", "accuracy"))
        psnr = -10 * np.log10(mse)
        if measure in ("psnr", "accuracy"):
            return float((psnr if measure == "psnr" else accuracy)[0])
        if measure == "synergy":
            gains = (psnr - psnr[0]) / margins["psnr"], (accuracy - accuracy[-1]) / margins["accuracy"]
            return float(np.minimum(*gains)[1:-1].max())
        lost_r, lost_c = mse[-1] - mse[0], accuracy[-1] - accuracy[0]
        if not (lost_r > 0 and lost_c > 0):
            return None
        x, y = (accuracy[-1] - accuracy) / lost_c, (mse - mse[0]) / lost_r
        grid = np.unique(np.concatenate([[0.0, 1.0], x[(x > 0) & (x < 1)]]))
        # the lower convex hull at g: the lowest chord between two points on either side of it
        hull = [
            min(
                y[i] if x[i] == x[j] else y[i] + (y[j] - y[i]) * (g - x[i]) / (x[j] - x[i])
                for i in np.flatnonzero(x <= g)
                for j in np.flatnonzero(x >= g)
            )
            for g in grid
        ]
        return float(np.trapezoid(hull, grid))

    def by_seed(side: dict | None, measure: str) -> dict[int, float]:
        here = points.filter(encoder=side["encoder"], latent=side["latent"])
        here = here if side.get("weight") is None else here.filter(weight=side["weight"])
        found = {seed: level(rows, measure) for (seed,), rows in here.group_by("seed")}
        return {seed: value for seed, value in found.items() if value is not None}

    found = {}
    for contrast in study["claims"]["primary"]:
        of = by_seed(contrast["of"], contrast["measure"])
        minus = by_seed(contrast["minus"], contrast["measure"]) if contrast["minus"] else dict.fromkeys(of, 0.0)
        found[contrast["name"]] = [of[seed] - minus[seed] for seed in sorted(of.keys() & minus.keys())]
    return found


def judged(contrasts: list[dict], found: dict[str, list[float]], claims: dict) -> dict[str, dict]:
    """Name -> effect, interval and verdict, after Holm's correction over those with trainings enough."""
    level, rows = claims["level"], {}
    for contrast in contrasts:
        d = np.array(found[contrast["name"]])
        row = {"effect": d.mean() if len(d) else None, "lo": None, "hi": None, "p": None, "n": len(d)}
        if len(d) > 1:
            row["p"] = stats.ttest_1samp(d, 0).pvalue if d.std() else float(d.mean() == 0)
            half = stats.t.ppf((1 + level) / 2, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
            row |= {"lo": d.mean() - half, "hi": d.mean() + half}
        row["enough"] = len(d) >= (contrast.get("needs_seeds") or claims["seeds"])
        rows[contrast["name"]] = row
    tested = sorted((row["p"], name) for name, row in rows.items() if row["enough"])
    worst = 0.0
    for k, (p, name) in enumerate(tested):
        worst = rows[name]["p"] = max(worst, min(1.0, p * (len(tested) - k)))
    for contrast in contrasts:
        row, sign = rows[contrast["name"]], 1 if contrast["claimed"] == "above" else -1
        row["verdict"] = verdict(row, sign, margin_of(contrast, claims), 1 - level)
    return rows


def margin_of(contrast: dict, claims: dict) -> float:
    """Of PSNR or the task's own level; of accuracies and shares in percent; or of a trade-off's measure."""
    if "margins" in claims:
        return claims["margins"][contrast["measure"]]
    percent = contrast["of"].get("metric") or contrast["of"].get("measure") == "kept"
    return claims.get("accuracy_margin", 0.5) if percent else claims["margin"]


def verdict(row: dict, sign: int, margin: float, alpha: float) -> str:
    if row["effect"] is None:
        return "not testable here"
    if not row["enough"]:
        return "described"
    if row["p"] < alpha:
        return (
            "the opposite"
            if sign * row["effect"] < 0
            else "shown"
            if abs(row["effect"]) >= margin
            else "shown, but small"
        )
    return "no difference" if -margin < row["lo"] and row["hi"] < margin else "undecided"


def recomputed(folder: Path) -> dict[str, dict]:
    """Name of every primary contrast of a study -> its row, from the frames in reports/<study>/frames."""
    frames = folder / "frames"
    study = json.loads((frames / "study.json").read_text(encoding="utf-8"))
    make = tradeoff_differences if "margins" in study["claims"] else differences
    return judged(study["claims"]["primary"], make(frames, study), study["claims"])


def differing(reported: dict, found: dict) -> list[str]:
    """What of one contrast is not what pages say."""
    wrong = [] if reported["verdict"] == found["verdict"] else ["verdict"]
    for key in ("effect", "lo", "hi"):
        pair = reported[key], found[key]
        if (None in pair and pair != (None, None)) or (None not in pair and abs(pair[0] - pair[1]) > 1e-9):
            wrong.append(key)
    return wrong


def main(names: list[str]) -> int:
    """Print one line for each contrast; how many differ from what pages say."""
    failures = 0
    for folder in sorted(path.parent.parent for path in REPORTS.glob("*/frames/study.json")):
        if names and folder.name not in names:
            continue
        said = {row["name"]: row for row in json.loads((folder / "headline.json").read_text("utf-8"))["contrasts"]}
        for name, row in recomputed(folder).items():
            wrong = differing(said[name], row)
            failures += bool(wrong)
            numbers = "" if row["effect"] is None else f"{row['effect']:+.2f}"
            numbers += "" if row["lo"] is None else f" [{row['lo']:+.2f}, {row['hi']:+.2f}]"
            print(
                f"{folder.name}: {name}: {row['verdict']} {numbers} ({row['n']} trainings)"
                + (f"  DIFFERS: {wrong}" if wrong else "")
            )
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
