"""Controls beside the frontier that they belong to."""

from typing import Any

import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from lgmamba.analysis.numbers import greatest, least
from lgmamba.figures.style import COLOURS, FAR, MARKERS, WIDTH, Style
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.figures.frontier import at_weights

NEAR = 0.05
"""Of the range of levels: lines nearer than this share their name."""
NAMES = {
    "main": "shared latent",
    "raw": "loss in the paper's raw form",
    "split": "split: half the latent for each",
    "random_labels": "random labels (PSNR alone)",
    "random_encoder": "random encoder, trained heads",
    "doubled": "twice the steps (ends)",
    "probe": "ends, heads trained anew",
    "pca": "principal components",
    "pixels": "pixels (accuracy alone)",
}


def controls_drawn(frames: dict[str, pl.DataFrame], params: TradeoffParams) -> pl.DataFrame:
    """One row for each point: column `control` names it; PSNR or accuracy is null where it has none."""
    chosen = params.tradeoff.controls
    encoder, latent = (chosen or params.tradeoff.pictures).encoder, (chosen or params.tradeoff.pictures).latent
    summary = frames["summary"].filter(pl.col("encoder") == encoder)
    rows = at_weights(summary, ("main", *NAMES))
    main = rows.filter(variant="main", latent=latent)
    others = rows.filter(pl.col("variant").is_in(["raw", "random_encoder", "doubled"]))
    labels = rows.filter(variant="random_labels").with_columns(pl.lit(None, pl.Float64).alias("accuracy"))
    split = rows.filter(variant="split")
    found = [frame.with_columns(pl.col("variant").alias("control")) for frame in (main, others, labels)]
    if not split.is_empty():  # the picture from one half, the class from the other
        one = split.filter(weight=0).select("psnr"), split.filter(weight=1).select("accuracy")
        found.append(pl.concat(one, how="horizontal").with_columns(pl.lit("split").alias("control")))
    linear = rows_of_linear(summary)
    found += [linear] if not linear.is_empty() else []
    found.append(probed(summary.filter(variant="main", latent=latent)))
    frame = pl.concat(
        [f.select("control", *(c for c in ("weight", "psnr", "accuracy") if c in f.columns)) for f in found],
        how="diagonal",
    )
    return frame.with_columns(pl.lit(encoder).alias("encoder"), pl.lit(latent).alias("latent"))


def rows_of_linear(summary: pl.DataFrame) -> pl.DataFrame:
    """Points of principal components and pixels."""
    rows = summary.filter(variant="linear").filter(pl.col("measure").is_in(["psnr", "accuracy"]))
    if rows.is_empty():
        return rows
    return rows.pivot("measure", index="what", values="value").rename({"what": "control"})


def probed(main: pl.DataFrame) -> pl.DataFrame:
    """The two ends with the head that was not trained for replaced by one trained anew."""
    level = {(r["measure"], r["weight"]): r["value"] for r in main.iter_rows(named=True)}
    ends = [
        {"weight": 0.0, "psnr": level.get(("psnr", 0.0)), "accuracy": level.get(("probe_accuracy_linear", 0.0))},
        {"weight": 1.0, "psnr": level.get(("probe_psnr", 1.0)), "accuracy": level.get(("accuracy", 1.0))},
    ]
    return pl.DataFrame(ends).with_columns(pl.lit("probe").alias("control"))


def together(lines: list[tuple[float, float]], apart: float) -> list[tuple[float, list[float]]]:
    """(level, weight) of lines -> the highest level and the weights of those that lie so near to one another that names would be struck out."""
    groups: list[list[tuple[float, float]]] = []
    for line in sorted(lines):
        if groups and line[0] - groups[-1][-1][0] < apart:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [(group[-1][0], sorted(weight for _, weight in group)) for group in groups]


def fig_controls(frame: pl.DataFrame, style: Style) -> Figure:
    """Points of one control have one colour; those along w are joined. Lines: controls with one of the two numbers."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    ax = figure.subplots()
    palette = [sns.color_palette("colorblind")[k] for k in COLOURS]
    for k, (control, label) in enumerate(NAMES.items()):
        rows = frame.filter(control=control).sort("weight")
        if rows.is_empty():
            continue
        colour = {"main": "0.15", "pixels": "0.55"}.get(control, palette[k % len(palette)])
        if rows["accuracy"].null_count() == len(rows):
            dotted: dict[str, Any] = {"color": colour, "linewidth": 0.7, "linestyle": (0, (1, 2))}
            for i, level in enumerate(rows["psnr"]):
                ax.axhline(level, **dotted, label=None if i else label)
            apart = NEAR * (greatest(frame["psnr"]) - least(frame["psnr"]))
            place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "bottom", "fontsize": 6}
            for level, weights in together(rows.select("psnr", "weight").rows(), apart):
                ax.text(0.005, level, f"w = {', '.join(f'{w:g}' for w in weights)}", color=colour, **place)
            continue
        if rows["psnr"].null_count() == len(rows):
            ax.axvline(rows["accuracy"][0], color=colour, linewidth=0.9, linestyle=(0, (4, 2)), label=label)
            continue
        joined = control in ("main", "raw")
        ax.plot(
            rows["accuracy"],
            rows["psnr"],
            color=colour,
            linestyle="-" if joined else "none",
            marker=MARKERS[k % len(MARKERS)],
            markersize=4 if joined else 6,
            markerfacecolor="none" if control == "probe" else colour,
            label=label,
        )
        if control == "main":
            for row in rows.iter_rows(named=True):
                ax.annotate(
                    f"{row['weight']:g}",
                    (row["accuracy"], row["psnr"]),
                    (4, 4),
                    textcoords="offset points",
                    fontsize=6,
                    color=FAR,
                )
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("Accuracy (%)")
    ax.set_ylabel("PSNR (dB)")
    ax.set_title(f"{frame['encoder'][0]}, m = {frame['latent'][0]}".replace("_", " "), loc="left")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
