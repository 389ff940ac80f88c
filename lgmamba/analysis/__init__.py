"""From run folders to small frames: collect, statistics, claims. Nothing here is imported with the package itself.

collect      which run folders belong to the study, and whether each may be believed
statistics   paired bootstrap over images and seeds
retention    what the retention maps say in numbers
claims       C1 to C5, one row for each tested cell
frames       the tidy frames of the study
drawn        the frames that the figures draw, row for row
panel        the pictures that the figures show
evaluate     all of it, in order
"""

FIGURE_NAMES = ("task", "curves", "gallery", "retention", "envelope", "degradation", "training", "lengths")

FRAMES = (
    *(
        f"{name}.parquet"
        for name in ("curves", "summary", "retention", "history", "lengths", "envelope", "degradation")
    ),
    *(f"{name}.parquet" for name in ("claims", "claims_summary", "runs")),
    *(f"figure_{name}.parquet" for name in FIGURE_NAMES),
    "panel.safetensors",
    "claims.json",
)
"""Every file that `evaluate.evaluate` writes."""
