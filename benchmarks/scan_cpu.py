"""Times `selective_scan` on a CPU beside mambapy's parallel scan and a plain loop, in one run.

    python benchmarks/scan_cpu.py [--out reports/benchmarks] [--rounds 7] [--patience 90]

Writes scan_cpu.{csv,json,md,png}. Every round waits for a quiet machine (the share of processor time that others still
take is written down) and times all implementations one after the other; ratios are medians over the rounds' ratios. Where
others never leave the machine alone, minima say more than medians; both are there.
Needs mambapy and a C++ compiler. Gate, softplus, bias and skip are included everywhere; A, dt and their spread are those
of a freshly initialised Mamba layer.

The floor has two parts, both measured here, which one core cannot overlap:
- arithmetic: instructions that only the multiply units run, per W states 9 forward (dt A; five of the exponential's
  polynomial; dt x B; the state; the output) and 26 forward and backward (10 to recompute the states and sum the gradient
  of C, 7 for the other gradients), at the rate at which this machine runs such instructions alone;
- outputs: allocating and writing once what the call must return, (B, L, D) forward (y) and four of it forward and backward
  (y, dx, ddt, dz), as any torch operator does. Fresh memory costs a page fault per 4 KiB.
"""

import argparse
import csv
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.figures.style import MARKERS, palette
from lgmamba.scan import cpu_backend, cpu_build, selective_scan


@dataclass(frozen=True)
class Shape:
    """Sizes of a call; the default ones are those of one layer with 128 inputs."""

    L: int
    B: int = 32
    D: int = 256
    N: int = 16


LENGTHS = (16, 64, 256, 1600)
PAPER = Shape(L=2049, B=64, D=32, N=8)
"""One layer of the paper's task in its public code."""
SHAPES = (*map(Shape, LENGTHS), PAPER)
THREADS = (1, 2)
LOOP_LIMIT = 64
"""Longest sequence for what keeps (B, L, D, N) tensors: several of 128 MiB each at L = 256."""

MULTIPLY_INSTRUCTIONS = {"forward": 9, "forward + backward": 26}

FMA_RATE = r"""
#include "_cpu_simd.h"
extern "C" void rate(int64_t loops, int64_t threads, float *out) {  // 12 independent chains, `loops` long
  parallel(threads, threads, [&](int64_t i) {
    vf a[12];
    for (int k = 0; k < 12; k++) a[k] = splat(1.f + k);
    vf b = splat(0.999f), c = splat(1e-3f);
    for (int64_t j = 0; j < loops; j++)
      for (int k = 0; k < 12; k++) a[k] = a[k] * b + c;
    for (int k = 1; k < 12; k++) a[0] += a[k];
    out[i] = a[0][0];
  });
}
"""


def mambapy_scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias) -> Tensor:
    """The recurrence of mambapy's `MambaBlock.ssm` with its parallel scan, and its gate."""
    from mambapy.mamba import MambaBlock

    y = MambaBlock.selective_scan(None, x, F.softplus(dt + dt_bias), A, Bmat, Cmat, Dskip)
    return y * F.silu(z)


def through(backend: str):
    def scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias):
        return selective_scan(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, dt_softplus=True, backend=backend)

    return scan


IMPLEMENTATIONS = {
    "cpu": through("cpu"),
    "cpu bfloat16": through("cpu"),
    "cpu float16": through("cpu"),
    "cpu_numba": through("cpu_numba"),
    "mambapy": mambapy_scan,
    "reference": through("reference"),
}


SEQUENCES = (0, 1, 3, 4, 6)
"""Where x, dt, Bmat, Cmat and z are among the inputs: those that may have half precision."""


def make_inputs(shape: Shape, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """Leaves in the order of `selective_scan`, and the loss weights."""
    torch.manual_seed(0)
    L, B, D, N = astuple(shape)
    dt = torch.exp(torch.empty(D).uniform_(-6.9, -2.3))  # log-uniform in [1e-3, 1e-1]
    leaves = [
        torch.randn(B, L, D),
        0.5 * torch.randn(B, L, D),
        -torch.arange(1.0, N + 1).repeat(D, 1),
        torch.randn(B, L, N),
        torch.randn(B, L, N),
        torch.ones(D),
        torch.randn(B, L, D),
        dt + torch.log(-torch.expm1(-dt)),  # inverse of softplus
    ]
    for i in SEQUENCES:
        leaves[i] = leaves[i].to(dtype)
    return [v.requires_grad_() for v in leaves], torch.randn(B, L, D).to(dtype)


def time_once(scan, leaves, weights, mode: str) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    if mode == "forward":
        with torch.no_grad():
            scan(*leaves)
    else:
        torch.autograd.grad(scan(*leaves), leaves, weights)
    return 1e3 * (time.perf_counter() - start)


patience_s = 90.0


def wait_until_quiet() -> float:
    """Wait, at most `patience_s`, until nothing else runs; returns the share of processor time that others still take."""
    if not Path("/proc/stat").exists():
        return float("nan")
    deadline = time.perf_counter() + patience_s
    while True:
        before = _processor_time()
        time.sleep(0.3)
        total, idle = (now - then for now, then in zip(_processor_time(), before, strict=True))
        busy = 1 - idle / total
        if busy < 0.05 or time.perf_counter() > deadline:
            return busy


def _processor_time() -> tuple[int, int]:
    """Total and idle time of all cores, in ticks."""
    ticks = [int(v) for v in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]]
    return sum(ticks[:8]), ticks[3] + ticks[4]


def time_outputs(like: Tensor, mode: str) -> float:
    """Milliseconds to allocate and write the outputs of one call."""
    start = time.perf_counter()
    # numpy asks for huge pages where an array is large, as the kernel does
    fresh = (torch.from_numpy(np.empty(like.shape, np.float32)) for _ in range(1 if mode == "forward" else 4))
    kept = [v.fill_(1.0) for v in fresh]
    elapsed = 1e3 * (time.perf_counter() - start)
    del kept
    return elapsed


def measure(shape: Shape, rounds: int) -> list[dict]:
    """One row per implementation, mode and number of threads."""
    leaves, weights = make_inputs(shape)
    inputs = {dtype: make_inputs(shape, getattr(torch, dtype)) for dtype in ("bfloat16", "float16")}
    small = shape.L <= LOOP_LIMIT
    names = [name for name in IMPLEMENTATIONS if small or name.startswith("cpu")]
    rows = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        for mode in MULTIPLY_INSTRUCTIONS:
            times, fastest, outputs, busy = {name: [] for name in names}, dict.fromkeys(names, float("inf")), [], []
            for _ in range(rounds + 1):  # the first one warms up
                busy.append(wait_until_quiet())
                outputs += [time_outputs(weights, mode) for _ in range(5)]
                for name in names:
                    given = inputs.get(name.partition(" ")[2], (leaves, weights))
                    repeats = range((25 if small else 5 if shape.L < 1000 else 2) if name.startswith("cpu") else 1)
                    each = [time_once(IMPLEMENTATIONS[name], *given, mode) for _ in repeats]
                    times[name].append(statistics.median(each))
                    fastest[name] = min(fastest[name], *each)
            for name in names:
                kept = times[name][1:]
                ratios = [t / cpu for t, cpu in zip(kept, times["cpu"][1:], strict=True)]
                row = {"implementation": name, "mode": mode, "threads": threads, **vars(shape)}
                row |= {"median_ms": statistics.median(kept), "min_ms": fastest[name]}
                row["others_busy"] = statistics.median(busy[1:])
                row |= {"times_cpu": statistics.median(ratios), "outputs_ms": min(outputs)}
                rows.append(row)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return rows


def with_floors(rows: list[dict], rates: dict[int, float], W: int) -> list[dict]:
    """The rows with their floors; `rates`: multiply instructions per ns by threads."""
    made = []
    for r in rows:
        vectors = r["B"] * r["L"] * -(-r["D"] // W) * r["N"]  # of W states
        arithmetic = MULTIPLY_INSTRUCTIONS[r["mode"]] * vectors / rates[r["threads"]] * 1e-6
        floor = arithmetic + r["outputs_ms"]
        factors = {"times_floor": r["median_ms"] / floor, "min_times_floor": r["min_ms"] / floor}
        made.append(r | {"arithmetic_ms": arithmetic, "floor_ms": floor} | factors)
    return made


PARTS = ("kernel", "operators", "whole")


def measure_parts(shape: Shape, rounds: int) -> list[dict]:
    """Fastest forward + backward, in ms, of the kernel on memory that is there, of torch's two operators around it, which
    take fresh memory, and of `selective_scan` under autograd.
    """
    leaves, weights = make_inputs(shape)
    x, dt, A, Bmat, Cmat, Dskip, z, dt_bias = (v.detach() for v in leaves)
    Bmat, Cmat = Bmat[:, :, None], Cmat[:, :, None]  # one group
    needed = (1 << len(leaves)) - 1
    kernel = cpu_build.load_kernel()
    y, last, states, checkpoints = cpu_backend.forward_outputs(x, Bmat, 0, False, True)
    grads = cpu_backend.gradients(needed, x, Bmat)
    small = (A, Dskip, dt_bias, None, None, None)

    def operators() -> None:
        *_, kept = torch.ops.lgmamba.scan_cpu(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, None, True, 0, False, True)
        torch.ops.lgmamba.scan_cpu_backward(
            weights, None, None, x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, kept, True, 0, needed
        )

    rows = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        there = (y, last, states, checkpoints)
        forward, _alive = cpu_backend.arguments(True, 0, (x, dt, z, Bmat, Cmat, None), small, there)
        there = (None, None, None, checkpoints, *grads)
        backward, _alive_too = cpu_backend.arguments(True, 0, (x, dt, z, Bmat, Cmat, weights), small, there)

        def alone(forward=forward, backward=backward) -> None:
            kernel.lgmamba_forward(ctypes.byref(forward))
            kernel.lgmamba_backward(ctypes.byref(backward))

        calls = (alone, operators, lambda: time_once(through("cpu"), leaves, weights, "forward + backward"))
        fastest = dict.fromkeys(PARTS, float("inf"))
        for _ in range(rounds * (20 if shape.L < 100 else 5 if shape.L < 1000 else 2)):
            for name, call in zip(PARTS, calls, strict=True):
                start = time.perf_counter()
                call()
                fastest[name] = min(fastest[name], 1e3 * (time.perf_counter() - start))
        rows.append({"threads": threads, **vars(shape), **fastest})
        print(rows[-1], flush=True)
    return rows


def multiply_rates() -> dict[int, float]:
    """Multiply instructions per ns by threads, at their best."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "rate.cpp", Path(folder) / "rate.so"
        source.write_text(FMA_RATE)
        include = f"-I{cpu_build.SOURCE.parent}"
        subprocess.run(
            ["c++", *cpu_build.FLAGS, "-march=native", "-fopenmp", include, str(source), "-o", str(library)], check=True
        )
        rate = ctypes.CDLL(str(library)).rate
    rate.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    rates, loops, out = {}, 5_000_000, (ctypes.c_float * max(THREADS))()
    for threads in THREADS:
        best = float("inf")
        for _ in range(5):
            wait_until_quiet()
            start = time.perf_counter()
            rate(loops, threads, out)
            best = min(best, time.perf_counter() - start)
        rates[threads] = 12 * loops * threads / best * 1e-9
    return rates


# ---- what a table of times does not show ----------------------------------------------------------------------------


def in_new_process(code: str, **environment: str) -> dict:
    """Run code that prints one JSON object, with this file importable."""
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    wait_until_quiet()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_growth_mb(call) -> float:
    """Growth of the resident memory during a call, in MB, at its peak (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from here
    before = _status_mb("VmRSS")
    call()
    return _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    line = next(v for v in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if v.startswith(key))
    return int(line.split()[1]) / 1024


def memory(backend: str, L: int = 1600) -> dict[str, float]:
    """Growth of the peak memory, in MB, by one training step and by a forward pass that reports 17 states."""
    scan = through(backend)
    warm, weights = make_inputs(Shape(16))
    time_once(scan, warm, weights, "forward + backward")
    leaves, weights = make_inputs(Shape(L))

    def reporting():
        with torch.no_grad():
            selective_scan(*leaves, dt_softplus=True, states_every=L // 17, backend=backend)

    return {
        "forward with 17 states": peak_growth_mb(reporting),
        "forward + backward": peak_growth_mb(lambda: time_once(scan, leaves, weights, "forward + backward")),
    }


def side_measurements() -> dict:
    """Memory, time of the first call, cost of a call on almost nothing, and what the C library's allocator costs."""
    call = "import json, scan_cpu; print(json.dumps(scan_cpu.{}))"
    with tempfile.TemporaryDirectory() as empty:
        fresh = {"LGMAMBA_CACHE": empty, "NUMBA_CACHE_DIR": empty}
        first = {b: in_new_process(call.format(f"first_call({b!r})"), **fresh) for b in ("cpu", "cpu_numba")}
    kept = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
    return {
        "peak_memory_growth_mb_at_L1600": {
            b: in_new_process(call.format(f"memory({b!r})")) for b in ("cpu", "cpu_numba")
        },
        "tensor_mb_at_L1600": {
            "(B, L, D)": 32 * 1600 * 256 * 4 / 2**20,
            "(B, L, D, N)": 32 * 1600 * 256 * 16 * 4 / 2**20,
        },
        "first_call_s": first,
        "small_call_us": in_new_process(call.format("small_call()")),
        "training_call_ms_at_L64": {
            "default allocator": in_new_process(call.format("steady_call()")),
            "allocator that keeps freed memory": in_new_process(call.format("steady_call()"), **kept),
        },
    }


def first_call(backend: str) -> float:
    """Seconds of a process's first forward and backward pass, compilation included, torch's own first steps not."""
    leaves, weights = make_inputs(Shape(16))
    time_once(through("reference"), leaves, weights, "forward + backward")
    return time_once(through(backend), leaves, weights, "forward + backward") / 1e3


def small_call() -> dict[str, float]:
    """Microseconds of a training call: almost pure overhead at (1, 1, 1, 1); D = 128, L = 16 for comparison."""
    result = {}
    leaves, weights = make_inputs(Shape(16, D=128))
    tiny = [v.detach()[tuple(slice(0, 1) for _ in v.shape)].clone().requires_grad_() for v in leaves]
    for name, (inputs, w) in {
        "B1 L1 D1 N1": (tiny, weights[:1, :1, :1]),
        "B32 L16 D128 N16": (leaves, weights),
    }.items():
        times = [time_once(through("cpu"), inputs, w, "forward + backward") for _ in range(1000)]
        result[name] = 1e3 * statistics.median(times)
    return result


def steady_call() -> float:
    torch.set_num_threads(2)
    leaves, weights = make_inputs(Shape(64))
    return statistics.median(time_once(through("cpu"), leaves, weights, "forward + backward") for _ in range(100))


def hardware() -> dict:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    import mambapy
    import numba

    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numba": numba.__version__}
    versions |= {"mambapy": getattr(mambapy, "__version__", "1.2.0"), "compiler": compiler}
    return {"processor": model, "cores": os.cpu_count(), "versions": versions}


# ---- reports --------------------------------------------------------------------------------------------------------


def table(rows: list[dict]) -> str:
    titles = ("implementation", "median (ms)", "minimum (ms)", "arithmetic (ms)", "floor (ms)")
    keys = ("median_ms", "min_ms", "arithmetic_ms", "floor_ms")
    factors = {"times_floor": "x floor", "min_times_floor": "minimum x floor", "times_cpu": "x cpu"}
    lines = ["| " + " | ".join(("L", "threads", *titles, *factors.values())) + " |", "|" + " --- |" * 10]
    for r in rows:
        cells = [f"{r[k]:.2f}" for k in keys] + [f"{r[k]:.1f}" for k in factors]
        lines.append("| " + " | ".join(map(str, (r["L"], r["threads"], r["implementation"], *cells))) + " |")
    return "\n".join(lines)


def account(parts: list[dict], rows: list[dict]) -> str:
    """What a call takes beyond its floor, in units of the floor; all of them minima."""
    floors = {
        (r["L"], r["threads"]): r for r in rows if r["implementation"] == "cpu" and r["mode"] == "forward + backward"
    }
    titles = (
        "L",
        "threads",
        "floor (ms)",
        "kernel",
        "+ fresh memory and operators",
        "+ autograd and checks",
        "whole call",
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for r in sorted(parts, key=lambda r: (r["L"], r["threads"])):
        floor = floors[r["L"], r["threads"]]["floor_ms"]
        kernel, operators, whole = (r[name] / floor for name in PARTS)
        steps = (kernel, operators - kernel, whole - operators, whole)
        cells = (r["L"], r["threads"], f"{floor:.2f}", *(f"{v:.1f}" for v in steps))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def sizes(shape: Shape) -> str:
    return f"B {shape.B}, D {shape.D}, N {shape.N}"


def markdown(result: dict) -> str:
    side, machine, rows = result["side"], result["hardware"], result["rows"]
    busy = statistics.median(r["others_busy"] for r in rows)
    text = [
        "# The selective scan on a CPU",
        "",
        f"Made by `benchmarks/scan_cpu.py`. {machine['processor']}, {machine['cores']} cores, SIMD width {result['W']}; "
        + ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        + f". float32 where not said otherwise, {sizes(SHAPES[0])}; L {PAPER.L} is the paper's shape, {sizes(PAPER)}. Medians "
        f"of {result['rounds']} rounds. Other programs took {100 * busy:.0f} % of the processor before a round (median).",
        "",
        "Floor = arithmetic (instructions that only the multiply units run: 9 forward, 26 forward and backward, per W "
        "states) + outputs (allocating and writing them once, in float32), at the rates measured here; the first: "
        + ", ".join(f"{v:.2f} per ns with {k} threads" for k, v in result["rates"].items())
        + ". How it is counted stands at the top of the script.",
    ]
    for mode in MULTIPLY_INSTRUCTIONS:
        text += ["", f"## {mode.capitalize()}", "", table([r for r in rows if r["mode"] == mode])]
    text += [
        "",
        "## What stands between a call and its floor",
        "",
        "Forward and backward, in units of the floor, from the fastest of many calls: the compiled kernel on memory that is "
        "there, what fresh memory and torch's dispatch add, and what autograd and the checks of arguments add.",
        "",
        account(result["parts"], rows),
        "",
        "[What fills the kernel's part, and what was tried](../../docs/selective_scan.md#cpu-how-far-from-the-floor).",
    ]
    text += ["", "## Memory, first call, overhead", ""]
    text += [f"- {name}: {json.dumps(value)}" for name, value in side.items()]
    return "\n".join(text) + "\n"


def figure(rows: list[dict], path: Path) -> None:
    """Log-log: time of forward and backward over the length, one line per implementation, and the floor."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.4, 3.8), layout="constrained")
    rows = [r for r in rows if r["mode"] == "forward + backward" and r["L"] in LENGTHS]
    for i, name in enumerate(name for name in IMPLEMENTATIONS if " " not in name):
        look = {"color": palette()[i], "marker": MARKERS[i], "ms": 3}
        for threads, style in zip(THREADS, ("--", "-"), strict=True):
            mine = [r for r in rows if r["implementation"] == name and r["threads"] == threads]
            label = f"{name}, {threads} threads" if threads > 1 else None
            ax.plot([r["L"] for r in mine], [r["median_ms"] for r in mine], style, **look, label=label)
    floor = [r for r in rows if r["implementation"] == "cpu" and r["threads"] == max(THREADS)]
    ax.plot(
        [r["L"] for r in floor], [r["floor_ms"] for r in floor], ":", c="black", label=f"floor, {max(THREADS)} threads"
    )
    ax.set(xscale="log", yscale="log", xlabel="Sequence length L (steps)", ylabel="Forward + backward (ms)")
    ax.set_xticks(LENGTHS, [str(L) for L in LENGTHS])
    ax.minorticks_off()
    fig.legend(
        loc="outside right upper", fontsize=8, title=f"{sizes(SHAPES[0])}, float32\ndashed: 1 thread", title_fontsize=8
    )
    fig.savefig(path, dpi=200)


def write(result: dict, out: Path) -> None:
    rows = result["rows"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "scan_cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "scan_cpu.md").write_text(markdown(result))
    with (out / "scan_cpu.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    figure(rows, out / "scan_cpu.png")


def main() -> None:
    global patience_s
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--patience", type=float, default=patience_s, help="longest wait for a quiet machine, in seconds"
    )
    parser.add_argument("--draw", action="store_true", help="draw scan_cpu.png from the JSON that is there")
    args = parser.parse_args()
    if args.draw:
        figure(json.loads((args.out / "scan_cpu.json").read_text())["rows"], args.out / "scan_cpu.png")
        return
    patience_s = args.patience
    before = multiply_rates()
    # from the largest on: the C library keeps memory for later calls only once it has been given larger pieces back
    parts = [row for shape in SHAPES[::-1] for row in measure_parts(shape, args.rounds)]
    rows = [row for shape in SHAPES for row in measure(shape, args.rounds)]
    after = multiply_rates()  # once more, so that a disturbed moment cannot lower the floor's rate
    rates = {threads: max(before[threads], after[threads]) for threads in THREADS}
    W = cpu_build.load_kernel().lgmamba_lanes()
    result = {"hardware": hardware(), "W": W, "rates": rates, "rounds": args.rounds, "parts": parts}
    result["rows"] = with_floors(rows, rates, W)
    result["side"] = side_measurements()
    write(result, args.out)


if __name__ == "__main__":
    main()
