"""Times the build of a data artefact and takes its peak memory, children included.

    python benchmarks/decode.py TRAIN.parquet TEST.parquet [--rounds 3]

First decoding alone, of the first 20,000 images held in memory, in one thread, in threads and in processes; then the whole
build, from Parquet files in the layout of CIFAR-10 on public hubs (columns img and label) to the artefact. Memory is the
proportional set size of the process and its children (shared pages counted once), sampled every 100 ms. Best of the rounds.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from lgmamba.config.data import DataConfig
from lgmamba.data import pool
from lgmamba.data.build import build_dataset
from lgmamba.data.decode import DecodeSpec
from lgmamba.data.sources.parquet import Parquet

N_DECODE = 20_000
WAYS = {"1 thread": (1, 0), "threads": (pool.available_cores(), 10**9), "processes": (pool.available_cores(), 0)}
"""Name -> workers, and the number of images from which processes are used (starting them is in the time)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = cifar10(args.train, args.test)

    print(f"{pool.available_cores()} cores, load {os.getloadavg()[0]:.1f}")
    compare_ways(encoded(config), args.rounds)
    seconds, peak_mb, n_images = zip(*(build(config) for _ in range(args.rounds)), strict=True)
    print(f"build of {n_images[0]:,} images: {min(seconds):.1f} s, peak memory {max(peak_mb):.0f} MB with children")


def compare_ways(items: list[tuple[int, bytes]], rounds: int) -> None:
    default = pool.PROCESSES_FROM
    for name, (workers, processes_from) in WAYS.items():
        pool.PROCESSES_FROM = processes_from
        seconds = min(timed(lambda w=workers: decode(items, w)) for _ in range(rounds))
        print(f"decode {len(items):,} images, {name}: {seconds:.2f} s, {len(items) / seconds:,.0f} images/s")
    pool.PROCESSES_FROM = default


def cifar10(train: str, test: str) -> DataConfig:
    source = {"kind": "parquet", "path": train, "test_path": test, "image_column": "img", "label_column": "label"}
    values = {"source": source, "image_size": 32, "fit": "exact", "channels": "rgb", "on_bad_image": "error"}
    return DataConfig.model_validate(
        values | {"splits": {"calib": 0.005, "val": 0.05, "test": 0.0}, "max_pixels": 10**6}
    )


def encoded(config: DataConfig) -> list[tuple[int, bytes]]:
    source = Parquet(config.source, Path(), None)
    return list(islice(source.read(np.ones(len(source.index().ids), bool)), N_DECODE))


def decode(items: list[tuple[int, bytes]], workers: int) -> None:
    for _ in pool.decode_all(items, DecodeSpec((32, 32), "exact", "rgb", 10**6), len(items), workers):
        pass


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def build(config: DataConfig) -> tuple[float, float, int]:
    """Seconds, peak memory in MB, images."""
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        manifest = build_dataset(config, 4, Path(folder) / "artefact", progress=False)
        seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return seconds, peak[0] / 1e6, manifest.n_images


def memory() -> int:
    """Proportional set size of this process and its children, bytes."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # ended meanwhile
            continue
    return total


if __name__ == "__main__":
    main()
