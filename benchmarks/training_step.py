"""Times a whole training step on a GPU: images, model, loss, backward, clipping, AdamW; and shows where the time goes.

    python benchmarks/training_step.py [--preset cifar10] [--run uniform_64] [--out reports/benchmarks]

Writes training_step.{json,md,png}. Needs an NVIDIA GPU, cuda-bindings, and mamba_ssm for the first rows. The model and the
batches are those of a run of params.yaml, on random images. The same weights and the same batches go to every variant:

    mamba_ssm scan      the official kernel, the convolution in torch, kernels launched one by one (where this began)
    + graph             the same, recorded as a CUDA graph: what the recording alone gives
    cuda scan           this project's scan and convolution, launched one by one
    + graph             the same, recorded: what `lgmamba train` runs

Variants take turns in blocks of steps; a step's time is its block's by device events, drawing of batches included; ratios
are medians over the rounds' ratios. Before it is timed, each variant's loss after the same few steps is compared.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch

from lgmamba.config.run import RunConfig
from lgmamba.config.study import load_params
from lgmamba.data.dataset import in_memory
from lgmamba.figures.style import palette
from lgmamba.files import to_json, write_atomic
from lgmamba.provenance import versions
from lgmamba.scan import available_backends
from lgmamba.tasks.batch import Sampler
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep

VARIANTS = {
    "mamba_ssm scan": ("mamba_ssm", False),
    "mamba_ssm scan + graph": ("mamba_ssm", True),
    "cuda scan": ("cuda", False),
    "cuda scan + graph": ("cuda", True),
}
"""Name -> backend of the scan, and whether the step is recorded as a graph."""
FIRST, LAST = "mamba_ssm scan", "cuda scan + graph"
CHECKED_STEPS, BLOCK = 20, 20
AGREEMENT = 0.01
"""Relative difference of the loss after `CHECKED_STEPS` steps; bfloat16 rounds differently in each variant."""
KINDS = {  # what a kernel's name says that it does; the first that fits
    "scan": ("scan_forward", "scan_backward", "scan_sums", "selective_scan"),
    "convolution": ("conv_forward", "conv_backward", "conv_sums", "conv_depthwise", "conv1d"),
    "matrix products": ("gemm", "cutlass", "cublas", "nvjet", "xmma", "splitK"),
    "optimiser and clipping": ("multi_tensor", "adam", "norm_kernel", "lpnorm"),
    "copies": ("memcpy", "copy", "cat", "fill", "memset"),
}


def build(run: RunConfig, backend: str, graph: bool, images: torch.Tensor) -> tuple[TrainStep, Sampler]:
    run = run.model_copy(update={"model": run.model.model_copy(update={"scan_backend": backend})})
    dataset = in_memory(images)
    task, model = build_task(run, dataset), build_model(run, dataset.image_shape).cuda()
    step = TrainStep(model, build_optimizer(model, run.train), task, run.train.grad_clip, bf16=True, graph=graph)
    return step, task.sampler(dataset.split("train"), run.train, run.seed, full_length=True)


def time_block(step: TrainStep, sampler: Sampler, start: int) -> float:
    """Milliseconds a step."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for i in range(BLOCK):
        step(sampler.draw(start + i))
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / BLOCK


def profile(step: TrainStep, sampler: Sampler) -> dict[str, float]:
    """Milliseconds a step by kind of kernel, and the time in which no kernel ran."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.profiler.profile(activities=activities) as trace:
        begin.record()
        for i in range(BLOCK):
            step(sampler.draw(i))
        end.record()
        end.synchronize()
    result = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in trace.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            result[kind_of(event.name)] += event.device_time_total / 1e3 / BLOCK
    result["no kernel running"] = max(0.0, begin.elapsed_time(end) / BLOCK - sum(result.values()))
    return result


def kind_of(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, parts in KINDS.items() if any(p.lower() in name for p in parts)), "everything else")


def measure(run: RunConfig, shape: tuple[int, int, int], rounds: int) -> dict:
    generator = torch.Generator("cuda").manual_seed(0)
    images = torch.randint(256, (2048, *shape), dtype=torch.uint8, device="cuda", generator=generator)
    built, losses = {}, {}
    reasons = available_backends("cuda")
    for name, (backend, graph) in VARIANTS.items():
        if reasons[backend] is not None:
            print(f"{name}: left out, {reasons[backend]}")
            continue
        built[name] = build(run, backend, graph, images)
        step, sampler = built[name]
        for i in range(CHECKED_STEPS):
            loss, _ = step(sampler.draw(i))
        losses[name] = loss.item()
    for name, loss in losses.items():
        assert abs(loss - losses[LAST]) <= AGREEMENT * losses[LAST], f"{name}: loss {loss}, {LAST}: {losses[LAST]}"
    times = {name: [] for name in built}
    for turn in range(rounds):
        for name, (step, sampler) in built.items():
            times[name].append(time_block(step, sampler, CHECKED_STEPS + turn * BLOCK))
    shares = {name: profile(*built[name]) for name in built}
    rows = []
    for name in built:
        ratios = [a / b for a, b in zip(times.get(FIRST, times[name]), times[name], strict=True)]
        row = {"variant": name, "ms": statistics.median(times[name]), "ratio": statistics.median(ratios)}
        rows.append(row | {"loss_checked": losses[name], "profile_ms": shares[name]})
    return {"rows": rows, "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20}


def table(result: dict) -> str:
    about, rows = result["about"], result["rows"]
    kinds = list(rows[0]["profile_ms"])
    lines = [
        "# A whole training step on a GPU",
        "",
        f"Made by `benchmarks/training_step.py`. {about['gpu']}; python {about['python']}, "
        + ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
        + f". Run `{about['run']}` of preset `{about['preset']}`: d {about['d_model']}, {about['n_layer']} layers, batch "
        f"{about['batch']}, L {about['L']}, bfloat16 autocast; medians of {about['rounds']} rounds of {BLOCK} steps.",
        "",
        "| variant | ms a step | times faster |",
        "| --- | --- | --- |",
        *(f"| {row['variant']} | {row['ms']:.2f} | {row['ratio']:.2f} |" for row in rows),
        "",
        "## Where the time goes, ms a step",
        "",
        "From the profiler's kernels, in a run of its own; profiling slows launching down, so `no kernel running` of the",
        "variants without a graph is too high here. The official variants convolve in torch: that is under copies and",
        "everything else.",
        "",
        "| | " + " | ".join(row["variant"] for row in rows) + " |",
        "| --- |" + " --- |" * len(rows),
        *(f"| {kind} | " + " | ".join(f"{row['profile_ms'][kind]:.2f}" for row in rows) + " |" for kind in kinds),
    ]
    return "\n".join(lines) + "\n"


def draw(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"]
    colours = iter(palette())
    names = [f"{row['variant']}\n{row['ms']:.2f} ms, {row['ratio']:.2f} times" for row in rows]
    figure, axis = plt.subplots(figsize=(8, 0.7 * len(rows) + 1.2))
    left = [0.0] * len(rows)
    for kind in KINDS | {"everything else": ()}:
        widths = [row["profile_ms"][kind] for row in rows]
        axis.barh(names, widths, left=left, label=kind, color=next(colours), edgecolor="white", linewidth=0.4)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    idle = [max(0.0, row["ms"] - busy) for row, busy in zip(rows, left, strict=True)]
    axis.barh(names, idle, left=left, label="no kernel running", color="0.88")
    axis.invert_yaxis()
    axis.set_xlabel("time of a training step (ms)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--run", default="uniform_64")
    parser.add_argument("--shape", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--draw", action="store_true", help="draw training_step.png from the JSON that is there")
    args = parser.parse_args()
    if args.draw:
        draw(json.loads((args.out / "training_step.json").read_text()), args.out / "training_step.png")
        return
    run = load_params("params.yaml", preset=args.preset).runs_by_name()[args.run]
    result = measure(run, tuple(args.shape), args.rounds)
    result["about"] = {
        "gpu": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "versions": versions(("torch", "mamba-ssm", "cuda-bindings")),
        "preset": args.preset,
        "run": args.run,
        "d_model": run.model.d_model,
        "n_layer": run.model.n_layer,
        "batch": run.train.batch_size,
        "L": run.L0,
        "rounds": args.rounds,
    }
    write_atomic(args.out / "training_step.json", to_json(result))
    write_atomic(args.out / "training_step.md", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
