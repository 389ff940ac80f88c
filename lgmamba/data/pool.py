"""Decode many images on all cores, in order, holding only a few chunks at a time."""

import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lgmamba.data.decode import DecodeSpec, Payload, decode_image, own_bomb_guard
from lgmamba.data.errors import BadImage, DataError

CHUNK_IMAGES = 256  # a task this long (about 20 ms for CIFAR-10) hides the cost of handing it over
CHUNK_BYTES = 8 << 20  # large images make smaller chunks, so that a few chunks stay a few tens of megabytes
PATH_BYTES = 256 << 10  # what an image file that has not been read yet counts as
PROCESSES_FROM = 20_000
"""Images from which processes are used instead of threads (measured by benchmarks/decode.py). Small JPEGs spend most of
their time in the interpreter, where threads only get in each other's way; but starting processes takes as long as decoding
some 10,000 of them. Few images are often large ones, which Pillow decodes with the interpreter free for other threads."""


@dataclass(frozen=True)
class Decoded:
    """One chunk, decoded.

    Attributes:
        rows: (k,) positions in the source, of every image of the chunk.
        good: (k,) bool, those that could be decoded.
        images: (good.sum(), C, H, W) uint8.
        reasons: why each bad image is bad, in order.
    """

    rows: np.ndarray
    good: np.ndarray
    images: np.ndarray
    reasons: list[str]


def decode_all(
    items: Iterable[tuple[int, Payload]], spec: DecodeSpec, n_images: int, workers: int
) -> Generator[Decoded]:
    """Decode images on `workers` cores.

    Args:
        items: (position in the source, encoded image) pairs.
        spec: what every image becomes; `size` must be known.
        n_images: how many items there will be; decides between processes, threads and neither.
        workers: cores to use; 1 decodes in this process.
    Yields:
        chunks in the order of the items.
    Raises:
        DataError: a decoding process was killed.
    """
    assert spec.size is not None
    work = partial(_decode_chunk, spec)
    if workers == 1:
        with own_bomb_guard():
            yield from map(work, _chunks(items))
        return
    with own_bomb_guard():
        executor = _executor(n_images, workers)
        try:
            yield from _in_order(executor, work, _chunks(items), ahead=2 * workers)
        except BrokenProcessPool:
            raise DataError(
                "a decoding process was stopped from outside, most often for lack of memory; lower data.max_pixels or use fewer "
                'workers (in a script of your own: call build_dataset under `if __name__ == "__main__":`)'
            ) from None
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def available_cores() -> int:
    """Cores this process may use, which a container or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _executor(n_images: int, workers: int) -> Executor:
    if n_images < PROCESSES_FROM:
        return ThreadPoolExecutor(workers)
    # spawn: a forked child of a process with polars' or torch's threads may hang on their locks
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_init_worker)


def _init_worker() -> None:
    own_bomb_guard().__enter__()  # for the life of the process


def _in_order(executor: Executor, work, chunks: Iterator, ahead: int) -> Iterator[Decoded]:
    """Like `executor.map`, but reads at most `ahead` chunks before the first is asked for."""
    running: deque = deque()
    for chunk in chunks:
        running.append(executor.submit(work, chunk))
        if len(running) > ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _chunks(items: Iterable[tuple[int, Payload]]) -> Iterator[list[tuple[int, Payload]]]:
    chunk: list[tuple[int, Payload]] = []
    n_bytes = 0
    for row, payload in items:
        chunk.append((row, payload))
        n_bytes += _size(payload)
        if len(chunk) == CHUNK_IMAGES or n_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def _size(payload: Payload) -> int:
    """Bytes that an image takes before it is decoded."""
    if isinstance(payload, Path):
        return PATH_BYTES
    return payload.nbytes if isinstance(payload, np.ndarray) else len(payload or b"")


def _decode_chunk(spec: DecodeSpec, chunk: list[tuple[int, Payload]]) -> Decoded:
    assert spec.size is not None
    images = np.empty((len(chunk), spec.n_channels, *spec.size), dtype=np.uint8)
    good = np.ones(len(chunk), dtype=bool)
    reasons = []
    for i, (_, payload) in enumerate(chunk):
        try:
            images[i] = decode_image(payload, spec)
        except BadImage as e:
            good[i] = False
            reasons.append(str(e))
    rows = np.array([row for row, _ in chunk])
    return Decoded(rows, good, images if good.all() else images[good], reasons)
