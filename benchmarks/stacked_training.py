"""Times the step of trainings side by side on a GPU: how long it takes, how much memory, and how long the host is busy.

    python benchmarks/stacked_training.py [--runs 1,10,30,60] [--steps 20] [--length 2049] [--out reports/benchmarks]

Writes stacked_training.{json,md}. Needs an NVIDIA GPU and cuda-bindings. The model is as small as that of a study with many
seeds, lengths and forms: width 16 (32 channels), state 8, 8 blocks, batch 64, sequences of 2,049 steps, on random images.

    alone      one training as `lgmamba train` runs it; R of them one after the other take R times as long
    R runs     one stack; "draw" is the host's time for the batches of all runs, "host" that with copies and launch

Host times are of calls that wait for nothing: as long as they are below the step's own time, the GPU never waits. The memory
of a stack is compared with what `lgmamba.train.stacks` expects from the step of one run.
"""

import argparse
import gc
import time
from pathlib import Path

import torch

from lgmamba.config.run import RunConfig
from lgmamba.data.dataset import Dataset, in_memory
from lgmamba.files import to_json, write_atomic
from lgmamba.provenance import versions
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.graph import WARM_UP
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.stacked import StackedStep
from lgmamba.train.stacks import bytes_of_a_run
from lgmamba.train.step import TrainStep

RUN = {
    "study": "benchmark",
    "run": "stacked",
    "seed": 0,
    "task": {"patch_size": 4, "order": "replacement", "supervision": {"kind": "random_k", "k": 4}},
    "model": {
        "d_model": 16,
        "n_layer": 8,
        "mixer": {
            "kind": "mamba",
            "d_state": 8,
            "d_conv": 4,
            "expand": 2,
            "dt_rank": "auto",
            "dt_min": 0.001,
            "dt_max": 0.1,
        },
        "position": "absolute",
        "decoder": {"kind": "spatial", "hidden": 8},
        "adaptive": None,
        "scan_backend": "auto",
    },
    "train": {
        "steps": 1000,
        "batch_size": 64,
        "lr": 0.001,
        "warmup_steps": 10,
        "final_lr": 0.01,
        "weight_decay": 0.01,
        "betas": [0.9, 0.99],
        "grad_clip": 1.0,
        "precision": "auto",
        "log_every": 50,
        "validate_every": 250,
        "validate_images": 16,
        "checkpoint_every_s": 10,
        "cpu_threads": 1,
    },
}
SIDE = 32
"""Height and width of the images, pixels: few, so that the time is that of the sequences."""


def run_of(seed: int, length: int) -> RunConfig:
    values = RUN | {"seed": seed, "task": RUN["task"] | {"lengths": {"kind": "uniform", "low": 1, "high": length}}}
    return RunConfig.model_validate(values)


def build(R: int, length: int, dataset: Dataset):
    """The step and the samplers of R runs."""
    runs = [run_of(seed, length) for seed in range(R)]
    models = [build_model(run, dataset.image_shape).cuda() for run in runs]
    tasks = [build_task(run, dataset) for run in runs]
    rows = dataset.split("train")
    samplers = [task.sampler(rows, run.train, run.seed, True) for task, run in zip(tasks, runs, strict=True)]
    return models, tasks, samplers, runs[0].train


def alone(length: int, dataset: Dataset):
    (model,), (task,), (sampler,), config = build(1, length, dataset)
    step = TrainStep(model, build_optimizer(model, config), task, config.grad_clip, bf16=True, graph=True)
    return lambda batches: step(batches[0]), [sampler]


def stack(R: int, length: int, dataset: Dataset):
    models, tasks, samplers, config = build(R, length, dataset)
    return StackedStep(models, config, tasks[0], bf16=True, graph=True), samplers


def measure(name: str, made, steps: int) -> dict:
    """Medians over steps, in milliseconds, and the memory at its peak."""
    step, samplers = made
    for t in range(WARM_UP + 2):
        step([sampler.draw(t) for sampler in samplers])
    torch.cuda.synchronize()
    draws, hosts = [], []
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for t in range(steps):
        begun = time.perf_counter()
        batches = [sampler.draw(t) for sampler in samplers]
        drawn = time.perf_counter()
        loss, _ = step(batches)
        hosts.append(1e3 * (time.perf_counter() - begun))
        draws.append(1e3 * (drawn - begun))
    end.record()
    end.synchronize()
    assert loss.isfinite().all(), f"{name}: loss {loss}"
    ms = begin.elapsed_time(end) / steps
    # A queue of launches that is full makes the host wait: its own time is that of the quickest steps.
    row = {"runs": len(samplers), "ms": ms, "host_ms": min(hosts), "draw_ms": min(draws)}
    row |= {"ms_per_run": ms / len(samplers), "peak_gb": torch.cuda.max_memory_allocated() / 2**30}
    row["reserved_gb"] = torch.cuda.max_memory_reserved() / 2**30
    print(f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)
    return {"name": name} | row


def fresh() -> None:
    """Nothing of the one before is left."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def table(result: dict) -> str:
    about, rows = result["about"], result["rows"]
    single = rows[0]["ms"]
    lines = [
        "# Trainings side by side",
        "",
        f"Made by `benchmarks/stacked_training.py`. {about['gpu']}; "
        + ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
        + f". Width 16, 8 blocks, state 8, batch 64, {about['length']:,} steps, bfloat16 autocast, recorded as a CUDA graph.",
        "",
        "| | ms a step | ms a step and run | times faster than one after the other | host ms (draws) | peak GB | expected GB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        numbers = (row["ms"], row["ms_per_run"], single / row["ms_per_run"])
        host = f"{row['host_ms']:.2f} ({row['draw_ms']:.2f})"
        expected = row["runs"] * about["gb_of_a_run"]
        lines.append(
            f"| {row['name']} | {' | '.join(f'{v:.2f}' for v in numbers)} | {host} | {row['peak_gb']:.1f} | {expected:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1,10,30,60")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--length", type=int, default=2049)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    images = torch.randint(256, (256, 1, SIDE, SIDE), dtype=torch.uint8, device="cuda")
    dataset = in_memory(images)
    fresh()
    gb = bytes_of_a_run(run_of(0, options.length), dataset, torch.device("cuda")) / 2**30
    print(f"expected memory of a run: {gb:.3f} GB", flush=True)
    fresh()
    rows = [measure("alone", alone(options.length, dataset), options.steps)]
    for R in map(int, options.runs.split(",")):
        fresh()
        try:
            rows.append(measure(f"{R} runs", stack(R, options.length, dataset), options.steps))
        except torch.OutOfMemoryError as e:
            print(f"{R} runs: do not fit ({str(e).splitlines()[0]})", flush=True)
    about = {"gpu": torch.cuda.get_device_name(), "length": options.length, "gb_of_a_run": gb, "versions": versions()}
    result = {"about": about, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out / "stacked_training.json", to_json(result))
    write_atomic(options.out / "stacked_training.md", table(result))


if __name__ == "__main__":
    main()
