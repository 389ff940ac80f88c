"""Every verdict of this repository once more, for a reader who distrusts the code that made it: nothing of the package is imported.

    python workflow/scripts/recompute.py            # every study with frames in git, half a minute
    python workflow/scripts/recompute.py omniglot   # one of them

From the levels of single trainings (reports/<study>/frames) and the sentences of study.json come differences by seed, Student's
intervals, Holm's correction and verdicts, as docs/claims.md and docs/tradeoff.md define them. They are printed beside those of
reports/<study>/headline.json, which pages are made from; the exit status is 1 where one differs.

Where a study keeps errors of single images (image_errors.parquet), the levels are found again from these, and all that follows: the same
where all images are kept, otherwise within the error of a mean over the kept ones, which is printed. So is what the images' choice
does to an effect, its standard error over images, which is no part of an interval over trainings. Rows that are missing, there twice, of other
settings or images, and errors that are none are named first, and nothing is then said from images; the exit status is 1 here too.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

REPORTS = Path(__file__).parents[2] / "reports"
KEYS = ["run", "seed", "method", "mode", "order", "step"]
GROUPS = tuple(range(10))
"""Of images, each in one of them; leaving out one after the other gives standard errors over images (the jackknife)."""
LEVELS = (
    lambda error: -10 * np.log10(np.clip(error, 1e-12, 1e12)),
    lambda error: 100 * (1 - error),
    lambda error: 8 - error,
)
"""Mean error -> level, of each kind: PSNR and the like, shares in percent, bits saved of 8."""
DIGITS = 12
"""Binary digits of a kept error behind the leading one."""
ROUNDED = 2.0 ** -(DIGITS + 1)
"""Relative error of a kept error, at most."""
FAR = 5.0
"""Standard errors from which on a mean over a sample is not that of all images."""
READ_OUTS = ("trained", "refitted")
"""Methods that have no errors by image."""


@cache
def levels_by_image(frames: Path, metric: str | None, groups: tuple[int, ...]) -> pl.DataFrame:
    """KEYS, again (the level of the mean of these groups' kept errors), rounding (of it, at most), error (standard, of a sample; 0 of all)."""
    curves = pl.read_parquet(frames / "curves.parquet").filter(pl.col("mse").is_between(1e-9, 1e9))
    fits = [np.allclose(level(curves["mse"].to_numpy()), curves["psnr"].to_numpy(), atol=1e-6) for level in LEVELS]
    level = LEVELS[1 if metric else fits.index(True)]
    rows = []
    for row in (
        pl.read_parquet(frames / "image_errors.parquet").filter(error="error_rate" if metric else "mse").to_dicts()
    ):
        errors = np.array(row["errors"], dtype=float)
        kept = errors[np.isin(np.arange(len(errors)) % len(GROUPS), groups)]
        n, mean = len(kept), kept.mean()
        spread = kept.std(ddof=1) / n**0.5 * (1 - n / row["n_images"]) ** 0.5 if n > 1 else 0.0
        around = [abs(level(mean + off) - level(mean - off)) / 2 for off in (ROUNDED * mean, min(spread, 0.9 * mean))]
        found = {"again": level(mean), "rounding": around[0], "error": around[1]}
        rows.append({key: row[key] for key in KEYS} | found)
    return pl.DataFrame(rows, infer_schema_length=None)


def levels_of(frames: Path, study: dict, metric: str | None, groups: tuple[int, ...] | None = None) -> pl.DataFrame:
    """One row for each training and setting: run, seed, method, mode, order, step, value (higher is better).

    With groups of images: from the errors of these, and of read-outs, which have no errors by image, as they are. What else has none has no level.
    """
    levels = kept_levels(frames, study, metric)
    if groups is None:
        return levels
    read_outs = levels.filter(pl.col("method").is_in(READ_OUTS))
    if (again := levels_by_image(frames, metric, groups)).is_empty():
        return read_outs
    return pl.concat([read_outs, levels.join(again, on=KEYS).select(*KEYS, value="again")])


def kept_levels(frames: Path, study: dict, metric: str | None) -> pl.DataFrame:
    """The same from the frames that have the levels of single trainings."""
    own = "psnr" if metric is None else metric
    found = [pl.read_parquet(frames / "curves.parquet").select(*KEYS, value=pl.col(own))]
    if (remedies := frames / "remedies_levels.parquet").is_file():
        found.append(pl.read_parquet(remedies).select(*KEYS, value=pl.col("value" if metric is None else metric)))
    if metric is None and (read_outs := frames / "probes_read_outs.parquet").is_file():
        rows = pl.read_parquet(read_outs).filter(pl.col("read_out").is_in(READ_OUTS))
        rows = rows.with_columns(
            method=pl.col("read_out"), mode=pl.lit("prefix"), order=pl.lit(study["probes"]["order"])
        )
        found.append(rows.select(*KEYS, value=pl.col("psnr")))
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
    methods, steps = [method] if method else treated or [side["method"]], steps_of(lengths, L0)
    here = levels.filter(
        pl.col("method").is_in(methods), pl.col("step").is_in(steps), run=run, order=side.get("order") or order
    )
    here = here if treated else here.filter(mode=side["mode"])
    means = here.group_by("seed", "method").agg(pl.col("value").mean(), n=pl.col("step").n_unique())
    best = means.filter(n=len(steps)).group_by("seed").agg(pl.col("value").max(), n=pl.len())
    return dict(best.filter(n=len(methods)).select("seed", "value").rows())


def side_of(frames: Path, study: dict, side: dict, L0: dict[str, int], null: str, groups=None) -> dict[int, float]:
    """Seed -> what a side comes to."""
    levels, order = levels_of(frames, study, side.get("metric"), groups), study["evaluation"]["orders"][0]
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


def differences(frames: Path, study: dict, groups: tuple[int, ...] | None = None) -> dict[str, list[float]]:
    """Contrast -> difference of each training; groups: see `levels_of`."""
    curves = pl.read_parquet(frames / "figure_curves.parquet").filter("at_L0")
    L0 = dict(curves.select("run", "step").unique().rows())
    methods = set(pl.read_parquet(frames / "curves.parquet")["method"])
    null = next(iter(methods & {"mean_image", "chance", "law", "unigram", "popularity"}), "")
    found = {}
    for contrast in study["claims"]["primary"]:
        of, minus = (side_of(frames, study, contrast[side], L0, null, groups) for side in ("of", "minus"))
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


def study_of(folder: Path) -> tuple[Path, dict]:
    """The frames of a study, and its configuration."""
    frames = folder / "frames"
    return frames, json.loads((frames / "study.json").read_text(encoding="utf-8"))


def recomputed(folder: Path) -> dict[str, dict]:
    """Name of every primary contrast of a study -> its row, from the frames in reports/<study>/frames."""
    frames, study = study_of(folder)
    make = tradeoff_differences if "margins" in study["claims"] else differences
    return judged(study["claims"]["primary"], make(frames, study), study["claims"])


def recomputed_by_image(folder: Path) -> dict[str, dict]:
    """The same from errors of single images, with `by_image`, the standard error of the effect over images.

    {} where none are kept; without contrasts of refitted read-outs, which have no errors by image.
    """
    frames, study = study_of(folder)
    if not (frames / "image_errors.parquet").is_file():
        return {}
    primary = study["claims"]["primary"]
    rows = judged(primary, differences(frames, study, GROUPS), study["claims"])
    without = [differences(frames, study, tuple(g for g in GROUPS if g != left)) for left in GROUPS]
    rows = {c["name"]: rows[c["name"]] for c in primary if c["of"]["method"] not in READ_OUTS}
    for name, row in rows.items():
        effects = [np.mean(found[name]) if found[name] else np.nan for found in without]
        row["by_image"] = float(np.std(effects) * (len(GROUPS) - 1) ** 0.5)
    return rows


def levels_again(folder: Path) -> pl.DataFrame:
    """Every level with errors by image: KEYS, value (as kept), again, rounding, error, and whether it was found again."""
    frames, study = study_of(folder)
    if not (frames / "image_errors.parquet").is_file():
        return pl.DataFrame()
    parts = []
    for metric in (None, "accuracy"):
        if not (again := levels_by_image(frames, metric, GROUPS)).is_empty():
            parts.append(
                again.join(kept_levels(frames, study, metric), on=KEYS)
            )  # of remedies, levels are of shared seeds
    off, error = (pl.col("value") - pl.col("again")).abs(), pl.col("error")
    found = off <= 1e-6 + pl.col("rounding") + FAR * error
    return pl.concat(parts).with_columns(off=off, found=found) if parts else pl.DataFrame()


def flaws(folder: Path) -> list[str]:
    """What is not right in the frames with errors by image themselves, a sentence for each: before anything is said from them."""
    frames, study = study_of(folder)
    paths = [frames / f"image_errors{of}.parquet" for of in ("", "_of")]
    if not any(path.is_file() for path in paths):
        return []
    if absent := [path.name for path in paths if not path.is_file()]:
        return [f"{absent[0]} is missing"]
    rows, images = (pl.read_parquet(path) for path in paths)
    found = []
    for stage in sorted({*rows["stage"], *images["stage"]}):
        here = rows.filter(stage=stage)
        of = images.filter(stage=stage)
        first = of["image"][0] if len(of) else 0
        if of.select("place", "image").rows() != [(place, first + place) for place in range(len(of))]:
            found.append(
                f"image_errors_of, stage {stage}: found other rows than the first of a split, one after the other"
            )
        if here["n_images"].n_unique() > 1:
            found.append(f"stage {stage}: found n_images {sorted(set(here['n_images']))}, expected one number")
        for row in here.to_dicts():
            found += [f"{named(row)}, {row['error']}: {flaw}" for flaw in flaws_of_row(row, len(of))]
    twice = rows.group_by("stage", *KEYS, "error", maintain_order=True).len().filter(pl.col("len") > 1)
    found += [f"{named(row)}, {row['error']}: found {row['len']} rows, expected one" for row in twice.to_dicts()]
    for error, metric in (("mse", None), ("error_rate", "accuracy")):
        of_error = rows.filter(error=error)
        if of_error.is_empty():
            continue
        levels, setting = kept_levels(frames, study, metric), [key for key in KEYS if key != "seed"]
        strange = of_error.join(levels, on=setting, how="anti")
        found += [f"{named(row)}, {error}: no level of this study has this setting" for row in strange.to_dicts()]
        lacking = levels.join(of_error, on=setting, how="semi").join(of_error, on=KEYS, how="anti")
        found += [f"{named(row)}, {error}: its row is missing" for row in lacking.to_dicts()]
    return found


def flaws_of_row(row: dict, n: int) -> list[str]:
    """The same of one training and setting, n images being kept."""
    found = [] if len(row["errors"]) == n else [f"found {len(row['errors'])} errors, expected {n}, one for each image"]
    errors = np.array(row["errors"], dtype=float)  # None: NaN
    bad = ~(errors >= 0)
    scaled = np.ldexp(np.frexp(np.where(bad, 0, errors))[0], DIGITS + 1)
    for place in np.flatnonzero(bad | (scaled != np.round(scaled))):
        found.append(f"found {row['errors'][place]} at place {place}, expected a number >= 0 of {DIGITS} binary digits")
    return found


def named(row: dict) -> str:
    """Which training and setting, in a few words."""
    return ", ".join(f"{key} {row[key]}" for key in KEYS)


def differing(reported: dict, found: dict, within: float = 1e-9) -> list[str]:
    """What of one contrast is not what pages say."""
    wrong = [] if reported["verdict"] == found["verdict"] else ["verdict"]
    for key in ("effect", "lo", "hi"):
        pair = reported[key], found[key]
        if (None in pair and pair != (None, None)) or (None not in pair and abs(pair[0] - pair[1]) > within):
            wrong.append(key)
    return wrong


def told(row: dict) -> str:
    """A verdict from errors of single images, in a few words."""
    return f"{row['verdict']} {row['effect']:+.2f}, standard error over images {row['by_image']:.2f}"


def told_of_levels(levels: pl.DataFrame) -> str:
    """Whether levels were found again from single images, in a line."""
    said = f"{int(levels['found'].sum())} of {len(levels)} levels found again from single images"
    if levels["error"].max() > 0:
        said += f", of a sample: within {(levels['off'] / levels['error']).max():.1f} standard errors of its mean"
    return f"{said}; the largest difference is {levels['off'].max():.6f}"


def main(names: list[str]) -> int:
    """Print one line for each contrast; 1 where one differs from what pages say, or a study that is asked for has no frames."""
    kept = {path.parent.parent.name: path.parent.parent for path in sorted(REPORTS.glob("*/frames/study.json"))}
    unknown = [name for name in names if name not in kept]
    for name in unknown:
        print(f"{name}: found no frames in {REPORTS}, expected one of {', '.join(kept)}", file=sys.stderr)
    failures = len(unknown)
    for folder in (kept[name] for name in kept if name in names or not names):
        said = {row["name"]: row for row in json.loads((folder / "headline.json").read_text("utf-8"))["contrasts"]}
        wrong_frames = flaws(folder)
        for flaw in wrong_frames:
            print(f"{folder.name}: errors of single images: {flaw}")
        failures += len(wrong_frames)
        levels, by_image = (pl.DataFrame(), {}) if wrong_frames else (levels_again(folder), recomputed_by_image(folder))
        if len(levels):
            failures += not levels["found"].all()
            print(f"{folder.name}: {told_of_levels(levels)}")
            for row in levels.filter(~pl.col("found")).to_dicts():
                print(
                    f"{folder.name}: not found again: {named(row)}: {row['value']:.6f}, from images {row['again']:.6f}"
                )
        for name, row in recomputed(folder).items():
            wrong = differing(said[name], row)
            again = by_image.get(name)
            if again is not None and again["n"] != row["n"]:
                wrong.append(f"from images: errors of {again['n']} trainings, of {row['n']} expected")
                again = None
            failures += bool(wrong)
            numbers = "" if row["effect"] is None else f"{row['effect']:+.2f}"
            numbers += "" if row["lo"] is None else f" [{row['lo']:+.2f}, {row['hi']:+.2f}]"
            print(
                f"{folder.name}: {name}: {row['verdict']} {numbers} ({row['n']} trainings)"
                + (f"  from images: {told(again)}" if again is not None and row["effect"] is not None else "")
                + (f"  DIFFERS: {wrong}" if wrong else "")
            )
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
