"""Times the mappings of the CUDA scan over shapes and pieces: the measurements behind `lgmamba/scan/cuda_mapping.py`.

    python benchmarks/scan_gpu_tune.py [--out reports/benchmarks]

Writes scan_gpu_tune.csv, every timing, and scan_gpu_tune.md: per shape the plan that the package takes beside the fastest
one found. bfloat16, gate, softplus and bias included, no initial state. A timing is one call of the kernels that the plan
asks for (first walk, join, walk, sums), captured in a graph with others on other inputs; the median of a few replays.
"""

import argparse
import csv
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from pathlib import Path

import torch
from scan_gpu import SHAPES, captured_calls, hardware, make_inputs, milliseconds
from torch import Tensor

from lgmamba.scan import cuda_launch
from lgmamba.scan.cuda_loader import compiled, multiprocessors
from lgmamba.scan.cuda_mapping import CHUNK, TABLE, Mapping, Plan, cheapest_plan, padded_states, table_mappings

MORE_SHAPES = ((64, 2049, 128, 4, 1), (64, 256, 512, 32, 1), (1, 8192, 512, 64, 1), (16, 256, 256, 256, 1))
ALTERNATIVES = {
    "forward": {
        8: ((8, 1, 4, 8, 4), (4, 2, 4, 16, 4), (4, 1, 4, 16, 4)),
        16: ((4, 2, 4, 8, 5), (8, 1, 4, 16, 4)),
        64: ((8, 2, 4, 8, 3), (4, 4, 4, 8, 3), (4, 2, 4, 16, 4)),
        128: ((8, 2, 4, 16, 3), (4, 2, 8, 16, 2)),
        256: ((8, 2, 8, 16, 1),),
    },
    "backward": {
        8: ((8, 1, 4, 4, 3), (4, 1, 4, 4, 4), (4, 2, 4, 8, 2)),
        16: ((4, 2, 4, 4, 4), (8, 1, 4, 4, 3), (8, 2, 4, 2, 3)),
        64: ((4, 2, 4, 4, 3), (8, 2, 8, 4, 1)),
        128: ((4, 2, 8, 4, 2), (8, 2, 4, 4, 2)),
        256: ((8, 1, 8, 4, 2),),
    },
}
"""Mappings that the table does not hold, in its form without the rates: NT, CT, WARPS, T, MIN_BLOCKS."""
PER_PROCESSOR = (8, 12, 16, 24)
"""Warps per multiprocessor that pieces are made for."""


def mappings(kernel: str, NP: int, width: int) -> list[Mapping]:
    """The table's and the alternatives, for groups of `width` channels."""
    table = {kernel: {NP: (*TABLE[kernel][NP], *((*a, 0) for a in ALTERNATIVES.get(kernel, {}).get(NP, ())))}}
    return [m for m, _ in table_mappings(kernel, NP, width, True, table)]


def pieces(shape: tuple[int, ...], mapping: Mapping) -> list[int]:
    """Steps of a piece: all, and those that give each multiprocessor the warps wanted."""
    B, L, D, _, G = shape
    warps = B * G * mapping.blocks(D // G) * mapping.WARPS
    counts = {round(132 * wanted / warps) for wanted in PER_PROCESSOR}
    return sorted({L} | {max(2 * CHUNK, -(-L // (P * CHUNK)) * CHUNK) for P in counts if P > 1 and L > 4 * CHUNK})


def plans(shape: tuple[int, ...], kernel: str) -> list[Plan]:
    """All that are timed, the package's own first."""
    B, L, D, N, G = shape
    own = cheapest_plan(kernel, B, L, D // G, G, N, True, 132)
    others = [
        Plan(walk, own.ends, piece)
        for walk in mappings(kernel, padded_states(N), D // G)
        for piece in pieces(shape, walk)
    ]
    return [own, *(p for p in others if p != own)]


def tensors_of(shape: tuple[int, ...], seed: int) -> tuple[dict, dict, dict]:
    """Inputs, outputs and gradients as `cuda_launch` takes them."""
    B, L, _, N, G = shape
    inputs = make_inputs(*shape, seed)
    inputs |= {k: inputs[k].reshape(B, L, G, N) for k in ("Bmat", "Cmat")}
    inputs |= dict(h0=None, dlast=None, dstates=None)
    checkpoints = inputs["A"].new_empty(cuda_launch.checkpoint_shape(inputs["x"], inputs["A"])).normal_()
    empty = inputs["A"].new_empty(0)
    outputs = dict(y=torch.empty_like(inputs["x"]), last=empty, states=empty, checkpoints=checkpoints)
    like = dict(dx="x", ddt="dt", dz="z", dA="A", dBmat="Bmat", dCmat="Cmat", dDskip="Dskip", dbias="dt_bias")
    return inputs, outputs, {k: torch.empty_like(inputs[v]) for k, v in like.items()} | {"dh0": empty}


def calls(kernel: str, plan: Plan, sets: list[tuple[dict, dict, dict]]) -> list[Callable[[], None]]:
    def one(inputs: dict[str, Tensor | None], outputs: dict, grads: dict) -> None:
        if kernel == "forward":
            cuda_launch.forward(inputs, outputs, plan, True, 0)
        else:
            cuda_launch.backward(inputs | {"checkpoints": outputs["checkpoints"]}, grads, plan, True, 0)

    return [lambda s=s: one(*s) for s in sets]


def measure(shape: tuple[int, ...], replays: int) -> list[dict]:
    """A row per plan and kernel."""
    B, L, D, _, G = shape
    count = max(2, min(6, round(4e8 / (B * L * D * 10))))
    sets = [tensors_of(shape, seed) for seed in range(count)]
    rows = []
    for kernel in ("forward", "backward"):
        for i, plan in enumerate(plans(shape, kernel)):
            graph = captured_calls(calls(kernel, plan, sets))
            times = [milliseconds(graph.replay) / count for _ in range(replays + 1)][1:]
            P = -(-L // plan.piece)
            row = dict(zip(("B", "L", "D", "N", "G"), shape, strict=True)) | {"kernel": kernel, "own": i == 0}
            row |= dict(zip(("NP", "NT", "CT", "WARPS", "T", "MIN_BLOCKS", "K"), astuple(plan.walk), strict=True))
            row |= {"piece": plan.piece, "pieces": P, "blocks": B * P * G * plan.walk.blocks(D // G)}
            rows.append(row | {"ms": statistics.median(times)})
    return rows


def compile_all(shapes) -> None:
    """In many processes, before this one touches the GPU."""
    half, kernels = torch.empty(0, dtype=torch.bfloat16), set()
    for shape in shapes:
        N, width = shape[3], shape[2] // shape[4]
        t = dict(x=half, dt=half, z=half, Bmat=half, A=torch.empty(1, N))
        for kernel in ("forward", "backward"):
            for walk in mappings(kernel, padded_states(N), width):
                own = dict(DIRECT=walk.blocks(width) == 1) if kernel == "backward" else dict(CHECKPOINTS=True)
                made = cuda_launch.scan_kernel(kernel, walk, t, gated=True, SOFTPLUS=True, STATES=False, **own)
                kernels.add(made.source())
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(compiled, kernels, ["sm_{}{}".format(*capability())] * len(kernels)))


def capability() -> tuple[int, int]:
    """Of the first GPU, told by a process of its own: a forked one cannot use a GPU that its parent has used."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(torch.cuda.get_device_capability).result()


def markdown(rows: list[dict], machine: dict) -> str:
    names = ("B, L, D, N, G", "kernel", "plan", "ms", "fastest found", "ms", "plan / fastest")
    text = ["# Plans of the CUDA scan", "", "Made by `benchmarks/scan_gpu_tune.py`. " + machine["gpu"] + "; "]
    text[-1] += ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    text[-1] += ". A plan: NT, CT, WARPS, T, MIN_BLOCKS of the walk, and the pieces that a sequence is cut into."
    text += ["", "| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]

    def named(r: dict) -> str:
        return ", ".join(str(r[k]) for k in ("NT", "CT", "WARPS", "T", "MIN_BLOCKS")) + f"; {r['pieces']}"

    for own in (r for r in rows if r["own"]):
        key = ("B", "L", "D", "N", "G", "kernel")
        best = min((r for r in rows if all(r[k] == own[k] for k in key)), key=lambda r: r["ms"])
        shape = ", ".join(str(own[k]) for k in key[:-1])
        cells = (shape, own["kernel"], named(own), f"{own['ms']:.3f}", named(best), f"{best['ms']:.3f}")
        text.append("| " + " | ".join((*cells, f"{own['ms'] / best['ms']:.2f}")) + " |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--replays", type=int, default=5)
    args = parser.parse_args()
    shapes = (*SHAPES, *MORE_SHAPES)
    compile_all(shapes)
    if multiprocessors(0) != 132:
        print("pieces are made for the 132 multiprocessors of an H100; this GPU has another number")
    rows = []
    for shape in shapes:
        rows += measure(shape, args.replays)
        torch.cuda.empty_cache()
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "scan_gpu_tune.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(r | {"ms": round(r["ms"], 5)} for r in rows)
    (args.out / "scan_gpu_tune.md").write_text(markdown(rows, hardware({})))
    print(markdown(rows, hardware({})))


if __name__ == "__main__":
    main()
