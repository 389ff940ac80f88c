"""Times `selective_scan` and the fused convolution on a GPU beside mamba_ssm's kernel, in one run.

    python benchmarks/scan_gpu.py [--out reports/benchmarks] [--rounds 25]

Writes scan_gpu.{csv,json,md,png}. Needs an NVIDIA GPU, cuda-bindings and mamba_ssm with its scan kernel. bfloat16; gate,
softplus, bias and skip are included everywhere; A, dt and their spread are those of a freshly initialised Mamba layer.
With G > 1 every D / G channels share a B and a C, as G trainings side by side do. Before it is timed, every result is
compared with mamba_ssm's.

Each implementation gets its own layout, (B, L, D) here and (B, D, L) for mamba_ssm, and several sets of inputs in turn,
larger than the L2 cache together. The calls on all sets are captured in one CUDA graph, so that the host plays no part;
replays of the implementations alternate and are timed with device events; ratios are medians over the rounds' ratios.

The floor is the larger of two times, at the rates that this GPU reaches here:
- bytes: every input read once and every output written once; forward x, dt, z, y and the projections, backward x, dt, z,
  dy, dx, ddt, dz, the projections and their gradients;
- exponentials: N per (sample, step, channel) forward, and N again backward, which has to recompute the states.
"""

import argparse
import csv
import ctypes
import importlib.metadata
import json
import math
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.figures.style import palette
from lgmamba.scan import selective_scan
from lgmamba.scan.cuda_conv import causal_conv1d_silu
from lgmamba.scan.cuda_loader import Kernel, multiprocessors

W = 4
SHAPES = (
    (256, 64, 512, 16, 1),
    (1024, 16, 512, 16, 1),
    (64, 256, 512, 16, 1),
    (64, 1024, 512, 16, 1),
    (32, 4096, 512, 16, 1),
    (64, 64, 512, 64, 1),
    (32, 256, 512, 128, 1),
    (64, 2049, 128, 16, 1),
    (8, 2048, 1536, 16, 1),
    (64, 2049, 32, 8, 1),
    (64, 2049, 320, 8, 10),
    (64, 2049, 960, 8, 30),
    (64, 2049, 1920, 8, 60),
    (1, 8192, 1536, 16, 1),
    (4, 32768, 512, 16, 1),
    (16, 8192, 32, 8, 1),
    (1, 65536, 256, 16, 1),
)
"""(B, L, D, N, G): many short sequences, large states, the paper's own training alone and 10, 30 and 60 of them side by
side, and few long sequences."""
CONV_SHAPES = SHAPES[:5]
RATIO_GOAL = 1.3
"""How many times faster than mamba_ssm is wanted at every shape."""
FLOOR_GOALS = {"fwd": 4, "fwd_bwd": 8}
"""How many times the floor a call may take."""

MODES = ("forward", "forward + backward")
SETS_BYTES = 400e6
"""Inputs of all sets together; the L2 cache holds 50 MB."""
AGREEMENT = 2e-2
"""Relative RMS difference from mamba_ssm allowed: both round their results to bfloat16, mamba_ssm some sums too."""

Implementation = Callable[..., Tensor]


def make_inputs(B: int, L: int, D: int, N: int, G: int, seed: int) -> dict[str, Tensor]:
    """Inputs by the argument names of `selective_scan`, and `dy`."""
    g = torch.Generator("cuda").manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, device="cuda", generator=g)

    step = torch.exp(torch.rand(D, device="cuda", generator=g) * math.log(100.0) + math.log(1e-3))
    inputs = {
        "x": normal(B, L, D),
        "dt": 0.3 * normal(B, L, D),
        "A": -torch.arange(1.0, N + 1, device="cuda").repeat(D, 1),
    }
    projected = (B, L, N) if G == 1 else (B, L, G, N)
    inputs |= {"Bmat": normal(*projected), "Cmat": normal(*projected), "Dskip": torch.ones(D, device="cuda")}
    inputs |= {"z": normal(B, L, D), "dt_bias": step + torch.log(-torch.expm1(-step)), "dy": normal(B, L, D)}
    half = ("x", "dt", "Bmat", "Cmat", "z", "dy")
    return {k: v.bfloat16() if k in half else v for k, v in inputs.items()}


def ours(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias) -> Tensor:
    return selective_scan(x, dt, A, Bmat, Cmat, Dskip, z=z, dt_bias=dt_bias, dt_softplus=True, backend="cuda")


def mamba_ssm(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias) -> Tensor:
    """The official kernel on tensors in its own layout, (B, D, L) and (B, N, L) or (B, G, N, L)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(x, dt, A, Bmat, Cmat, Dskip, z, dt_bias, delta_softplus=True)


def swapped(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the steps last."""
    return {k: v.movedim(1, -1).contiguous() if v.ndim >= 3 else v for k, v in inputs.items()}


def fused_conv(x, weight, bias) -> Tensor:
    return causal_conv1d_silu(x, weight, bias)


def torch_conv(x, weight, bias) -> Tensor:
    """As mamba_ssm without causal_conv1d: torch's depthwise convolution and SiLU, in (B, D, L)."""
    return F.silu(F.conv1d(x, weight[:, None], bias, padding=W - 1, groups=x.shape[1])[..., : x.shape[2]])


def call(f: Implementation, inputs: dict[str, Tensor], mode: str) -> list[Tensor]:
    """The output, followed by the gradients of all inputs if the mode has a backward."""
    values = {k: v for k, v in inputs.items() if k != "dy"}
    if mode == "forward":
        with torch.no_grad():
            return [f(**values)]
    leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
    y = f(**leaves)
    return [y.detach(), *torch.autograd.grad(y, list(leaves.values()), inputs["dy"])]


def captured(f: Implementation, sets: list[dict[str, Tensor]], mode: str) -> torch.cuda.CUDAGraph:
    """A graph of one call on each set."""
    return captured_calls([lambda inputs=inputs: call(f, inputs, mode) for inputs in sets])


def captured_calls(calls: list[Callable[[], object]]) -> torch.cuda.CUDAGraph:
    """A graph of all calls, each made once before."""
    for one in calls:
        one()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for one in calls:
            one()
    return graph


def milliseconds(run: Callable[[], None]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def time_alternating(graphs: dict[str, torch.cuda.CUDAGraph], calls: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds per call, one entry per round; the first two rounds warm up and are left out."""
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds + 2):
        for name, graph in graphs.items():
            times[name].append(milliseconds(graph.replay) / calls)
    return {name: values[2:] for name, values in times.items()}


def relative_rms(got: Tensor, want: Tensor) -> float:
    got, want = got.float(), want.float()
    return ((got - want).square().mean().sqrt() / want.square().mean().sqrt()).item()


def disagreement(mine, theirs) -> float:
    """Largest relative RMS difference of output and gradients; theirs has its steps last."""
    pairs = [(g, w.movedim(-1, 1) if w.ndim >= 3 else w) for g, w in zip(mine, theirs, strict=True)]
    return max(relative_rms(g, w) for g, w in pairs)


def measure(shape, pair: dict[str, tuple[Implementation, list]], rounds: int) -> dict[str, dict]:
    """Mode -> medians of the pair of implementations (name -> function and sets of inputs), the reference second."""
    (mine, my_sets), (theirs, their_sets) = pair.values()
    rows = {}
    for mode in MODES:
        worst = disagreement(call(mine, my_sets[0], mode), call(theirs, their_sets[0], mode))
        if not worst <= AGREEMENT:
            raise SystemExit(
                f"{shape}, {mode}: relative RMS difference {worst:.1e} from {list(pair)[1]}; nothing timed"
            )
        graphs = {name: captured(f, sets, mode) for name, (f, sets) in pair.items()}
        times = time_alternating(graphs, len(my_sets), rounds)
        first, second = times.values()
        ratios = [s / f for f, s in zip(first, second, strict=True)]
        rows[mode] = {"ms": {name: statistics.median(v) for name, v in times.items()}}
        rows[mode] |= {"ratio": statistics.median(ratios), "disagreement": worst}
        spread = statistics.quantiles(first, n=10)
        rows[mode]["spread"] = (spread[-1] - spread[0]) / statistics.median(first)
        del graphs
    return rows


def measure_scan(shape, rounds: int, ceilings: dict[str, float]) -> dict:
    B, L, D, N, G = shape
    sets = make_sets(lambda seed: make_inputs(*shape, seed), 5 * B * L * D * 2)
    rows = measure(shape, {"ours": (ours, sets), "mamba_ssm": (mamba_ssm, [swapped(s) for s in sets])}, rounds)
    row = {"B": B, "L": L, "D": D, "N": N, "G": G}
    for mode, short in zip(MODES, FLOOR_GOALS, strict=True):
        floor = floor_ms(shape, mode, ceilings)
        row |= {
            f"upstream_{short}_ms": rows[mode]["ms"]["mamba_ssm"],
            f"ours_{short}_ms": rows[mode]["ms"]["ours"],
            f"ratio_{short}": rows[mode]["ratio"],
            f"floor_{short}_ms": max(floor.values()),
            f"floor_{short}_by": max(floor, key=floor.get),
            f"times_floor_{short}": rows[mode]["ms"]["ours"] / max(floor.values()),
            f"spread_{short}": rows[mode]["spread"],
            f"disagreement_{short}": rows[mode]["disagreement"],
        }
    return row


def measure_conv(shape, rounds: int, ceilings: dict[str, float]) -> dict:
    B, L, D, _, _ = shape

    def inputs(seed):
        g = torch.Generator("cuda").manual_seed(seed)
        shapes = {"x": (B, L, D), "weight": (D, W), "bias": (D,), "dy": (B, L, D)}
        return {k: torch.randn(*s, device="cuda", generator=g).bfloat16() for k, s in shapes.items()}

    sets = make_sets(inputs, 2 * B * L * D * 2)
    rows = measure(shape, {"ours": (fused_conv, sets), "torch": (torch_conv, [swapped(s) for s in sets])}, rounds)
    row = {"B": B, "L": L, "D": D}
    for mode, short, tensors in zip(MODES, FLOOR_GOALS, (2, 5), strict=True):
        floor = tensors * B * L * D * 2 / ceilings["bytes_per_s"] * 1e3
        row |= {f"torch_{short}_ms": rows[mode]["ms"]["torch"], f"ours_{short}_ms": rows[mode]["ms"]["ours"]}
        row |= {f"ratio_{short}": rows[mode]["ratio"], f"floor_{short}_ms": floor}
        row |= {f"times_floor_{short}": rows[mode]["ms"]["ours"] / floor}
    return row


def make_sets(make: Callable[[int], dict], set_bytes: int) -> list[dict]:
    return [make(seed) for seed in range(max(2, min(12, math.ceil(SETS_BYTES / set_bytes))))]


def floor_ms(shape, mode: str, ceilings: dict[str, float]) -> dict[str, float]:
    B, L, D, N, G = shape
    elements, projected = B * L * D, B * L * G * N
    tensors, projections, exps = (4, 2, 1) if mode == "forward" else (4 + 7, 2 + 4, 2)
    moved = 2 * (tensors * elements + projections * projected)
    return {
        "bytes": moved / ceilings["bytes_per_s"] * 1e3,
        "exponentials": exps * elements * N / ceilings["exponentials_per_s"] * 1e3,
    }


class ExpArgs(ctypes.Structure):
    """`struct Args` of exp_rate.cu."""

    _fields_ = (("out", ctypes.c_int64), ("loops", ctypes.c_int64))


def measure_ceilings() -> dict[str, float]:
    """Bytes per second of a copy, read and written, and exponentials per second, each the best of a few."""
    source, copy = torch.randn(2**28, device="cuda"), torch.empty(2**28, device="cuda")
    copying = min(milliseconds(lambda: copy.copy_(source)) for _ in range(12))
    blocks, loops = multiprocessors(0) * 8, 4096
    out = torch.empty(blocks * 256, device="cuda")
    kernel = Kernel("exp_rate", (str(Path(__file__).resolve().with_name("exp_rate.cu")),), ())
    args = ExpArgs(out.data_ptr(), loops)
    exps = min(milliseconds(lambda: kernel.launch(0, (blocks, 1), 256, 0, args)) for _ in range(12))
    per_s = out.numel() * loops * 8 / (exps * 1e-3)
    return {"bytes_per_s": 2 * 4 * 2**28 / (copying * 1e-3), "exponentials_per_s": per_s}


def hardware(ceilings: dict[str, float]) -> dict:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "CUDA": torch.version.cuda}
    for package in ("cuda-bindings", "mamba_ssm"):
        if list(importlib.metadata.distributions(name=package)):
            versions[package] = importlib.metadata.version(package)
    device = torch.cuda.get_device_properties(0)
    chip = {"gpu": device.name, "multiprocessors": device.multi_processor_count, "memory_bytes": device.total_memory}
    return chip | {"versions": versions, "ceilings": ceilings}


# ---- reports --------------------------------------------------------------------------------------------------------


def shape_name(row: dict) -> str:
    return ", ".join(str(row[k]) for k in ("B", "L", "D", "N", "G"))


def goals_met(row: dict, short: str) -> str:
    """What is short of its goal, or that nothing is."""
    missed = ["ratio"] * (row[f"ratio_{short}"] < RATIO_GOAL)
    missed += ["floor"] * (row[f"times_floor_{short}"] > FLOOR_GOALS[short])
    return f"not {' and '.join(missed)}" if missed else "both"


def markdown(result: dict) -> str:
    machine = result["hardware"]
    rates = machine["ceilings"]
    text = [
        "# The selective scan on a GPU",
        "",
        f"Made by `benchmarks/scan_gpu.py`. {machine['gpu']}, {machine['multiprocessors']} multiprocessors; "
        + ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        + f". bfloat16; medians of {result['rounds']} rounds.",
        "",
        f"Measured here: copy {rates['bytes_per_s'] / 1e12:.2f} TB/s, {rates['exponentials_per_s'] / 1e12:.2f} T "
        "exponentials/s. Floor = the larger of bytes and exponentials at these rates; how they are counted stands at the "
        "top of the script. Ratio = mamba_ssm's time over ours. G groups of channels have a B and a C each. Goals: ratio at "
        f"least {RATIO_GOAL}; within {FLOOR_GOALS['fwd']} floors forward, {FLOOR_GOALS['fwd_bwd']} with backward.",
    ]
    for mode, short in zip(MODES, FLOOR_GOALS, strict=True):
        names = ("mamba_ssm (ms)", "ours (ms)", "ratio", "floor (ms)", "floor set by", "ours / floor", "goals met")
        text += ["", f"## {mode.capitalize()}", "", "| B, L, D, N, G | " + " | ".join(names) + " |", "| --- " * 8 + "|"]
        for r in result["scan"]:
            cells = (f"{r[f'upstream_{short}_ms']:.3f}", f"{r[f'ours_{short}_ms']:.3f}", f"{r[f'ratio_{short}']:.2f}")
            cells += (f"{r[f'floor_{short}_ms']:.3f}", r[f"floor_{short}_by"], f"{r[f'times_floor_{short}']:.1f}")
            text.append(f"| {shape_name(r)} | " + " | ".join((*cells, goals_met(r, short))) + " |")
    text += ["", "## Short convolution with SiLU", "", "Beside torch's depthwise convolution in its own layout.", ""]
    text += [
        "| B, L, D | torch fwd (ms) | ours | ours / floor | torch fwd+bwd (ms) | ours | ours / floor |",
        "| --- " * 7 + "|",
    ]
    for r in result["conv"]:
        cells = [
            f"{r[f'torch_{s}_ms']:.3f} | {r[f'ours_{s}_ms']:.3f} | {r[f'times_floor_{s}']:.1f}" for s in FLOOR_GOALS
        ]
        text.append(f"| {r['B']}, {r['L']}, {r['D']} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def figure(rows: list[dict], path: Path) -> None:
    """Per shape and mode: mamba_ssm, ours and the floor, in milliseconds."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 5.2), layout="constrained", sharey=True)
    place = range(len(rows))
    for ax, mode, short in zip(axes, MODES, FLOOR_GOALS, strict=True):
        sides = ((-0.2, "upstream", "mamba_ssm"), (0.2, "ours", "ours"))
        for (shift, name, label), colour in zip(sides, palette(), strict=False):
            times = [r[f"{name}_{short}_ms"] for r in rows]
            ax.barh([p + shift for p in place], times, 0.38, label=label, color=colour)
        ends = {"ymin": [p - 0.42 for p in place], "ymax": [p + 0.42 for p in place]}
        ax.vlines([r[f"floor_{short}_ms"] for r in rows], **ends, color="black", lw=1, label="floor")
        ax.set(xscale="log", title=mode.capitalize(), xlabel="Time per call (ms)")
    axes[0].set_yticks(list(place), [shape_name(r) for r in rows], fontsize=8)
    axes[0].set_ylabel("B, L, D, N, G")
    axes[0].invert_yaxis()
    fig.legend(*axes[1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    fig.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--draw", action="store_true", help="draw scan_gpu.png from the JSON that is there")
    args = parser.parse_args()
    if args.draw:
        figure(json.loads((args.out / "scan_gpu.json").read_text())["scan"], args.out / "scan_gpu.png")
        return
    ceilings = measure_ceilings()
    result = {"hardware": hardware(ceilings), "rounds": args.rounds, "scan": [], "conv": []}
    for kind, shapes, measured in (("scan", SHAPES, measure_scan), ("conv", CONV_SHAPES, measure_conv)):
        for shape in shapes:
            result[kind].append(measured(shape, args.rounds, ceilings))
            torch.cuda.empty_cache()
            print(json.dumps(result[kind][-1]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scan_gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "scan_gpu.md").write_text(markdown(result))
    with (args.out / "scan_gpu.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, result["scan"][0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in r.items()} for r in result["scan"])
    figure(result["scan"], args.out / "scan_gpu.png")
    print(markdown(result))


if __name__ == "__main__":
    main()
