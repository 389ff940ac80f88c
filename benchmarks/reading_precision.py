"""What matrix products in TF32 change in the readings of trained runs, and how much faster they are (evaluation.precision).

    python benchmarks/reading_precision.py [--preset cifar10] [--runs fixed_64,adaptive_64] [--seed 0] [--override '{evaluation: {images: 2000}}']

Reads one seed of runs that are trained, with `lgmamba reconstruct`'s own code: in fp32, in TF32, in fp32 again and in
TF32 again, since a first reading also loads kernels; the second of each is timed. Prints how far a mean over all images is off at any
mode, order and step, and a single image, dB. On a CPU nothing differs. Results stay as they are.
"""

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl

from lgmamba.config.files import Layout, evaluation_file
from lgmamba.config.overlays import merge
from lgmamba.config.study import load_params
from lgmamba.config.text import parse_mapping
from lgmamba.devices import torch_device
from lgmamba.metrics import psnr
from lgmamba.probe.reconstruct import reconstruct

KEYS = ["mode", "order", "step"]
PRECISIONS = ("fp32", "tf32")


def read(args: argparse.Namespace, name: str, precision: str, out: Path) -> tuple[pl.DataFrame, float]:
    """The errors of every image, and the seconds that the reading took."""
    given = parse_mapping(args.override, "--override")
    study = load_params(args.params, args.preset or None, merge(given, {"evaluation": {"precision": precision}}))
    runs = study.run_configs()
    if (name, args.seed) not in runs:
        raise SystemExit(
            f"run {name!r} with seed {args.seed}: none of the study's {', '.join(map(str, study.runs))}, or none of its seeds"
        )
    config = evaluation_file(study, runs[name, args.seed])
    train = Layout(study.outputs.results).run_dir(name, args.seed) / "train"
    begun = time.perf_counter()
    reconstruct(config, train, study.outputs.data, out, torch_device(args.device))
    seconds = time.perf_counter() - begun
    frame = pl.read_parquet(out / "steps.parquet").filter(pl.col("method") == "model")
    return frame.sort(*KEYS, "repeat", "image"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--preset", default="cifar10", help="'' for params.yaml alone")
    parser.add_argument("--runs", default="fixed_64,adaptive_64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--override", default="{}", help="further values as YAML")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    for name in args.runs.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found = [read(args, name, precision, Path(folder)) for _ in range(2) for precision in PRECISIONS]
        (exact, exact_s), (rounded, rounded_s) = found[2:]
        both = exact.rename({"mse": "exact"}).with_columns(rounded["mse"])
        means = both.group_by(KEYS).agg(pl.col("exact", "mse").cast(pl.Float64).mean()).sort(KEYS)
        off = [abs(psnr(frame["mse"].to_numpy()) - psnr(frame["exact"].to_numpy())).max() for frame in (means, both)]
        print(
            f"{name}: fp32 {exact_s:.1f} s, tf32 {rounded_s:.1f} s; a mean is off by {off[0]:.4f} dB at most, an image by {off[1]:.4f}"
        )


if __name__ == "__main__":
    main()
