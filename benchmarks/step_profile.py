"""Where the time of a training step on a GPU goes, kernel by kernel, alone and with trainings side by side.

    python benchmarks/step_profile.py [--preset omniglot] [--run uniform_1024] [--side 128] [--channels 1] [--runs 10]

Prints milliseconds a step, recorded as a CUDA graph (what `lgmamba train` runs) and launched kernel by kernel, and the kernels
that take longest. Needs an NVIDIA GPU and cuda-bindings. Images are random; the model and its batches are those of a run.
"""

import argparse
import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from lgmamba.config.study import load_params
from lgmamba.data.dataset import in_memory
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.graph import WARM_UP
from lgmamba.train.stacked import StackedStep

LISTED = 28
"""Kernels that are printed."""
STEPS = 20


def prepared(run, dataset, R: int, graph: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of R trainings on one batch each, and on batches drawn anew."""
    runs = [run.model_copy(update={"seed": seed}) for seed in range(R)]
    models = [build_model(each, dataset.image_shape).to(dataset.images.device) for each in runs]
    tasks = [build_task(each, dataset) for each in runs]
    samplers = [
        task.sampler(dataset.split("train"), each.train, each.seed, True)
        for task, each in zip(tasks, runs, strict=True)
    ]
    step = StackedStep(models, run.train, tasks[0], bf16=True, graph=graph)
    batches = [sampler.draw(0) for sampler in samplers]
    return lambda: step(batches), lambda: step([sampler.draw(0) for sampler in samplers])


def milliseconds(call: Callable[[], object]) -> float:
    for _ in range(WARM_UP + 3):
        call()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(STEPS):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / STEPS


def kernels(call: Callable[[], object]) -> list[tuple[str, float, int]]:
    """Name, milliseconds a step and launches a step of every kernel, the longest first."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
    events = [e for e in found.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    rows = [(e.key, e.self_device_time_total / 3e3, e.count // 3) for e in events if e.self_device_time_total > 0]
    return sorted(rows, key=lambda row: -row[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="omniglot")
    parser.add_argument("--run", default="uniform_1024")
    parser.add_argument("--side", type=int, default=128, help="pixels of an image's side")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10, help="trainings side by side")
    options = parser.parse_args()
    run = load_params("params.yaml", options.preset).runs_by_name()[options.run]
    shape = (256, options.channels, options.side, options.side)
    dataset = in_memory(torch.randint(256, shape, dtype=torch.uint8, device="cuda"))
    print(f"{options.preset} {options.run} on {torch.cuda.get_device_name()}, torch {torch.__version__}")
    for R in (1, options.runs):
        for graph in (True, False):
            gc.collect()
            torch.cuda.empty_cache()
            same, drawn = prepared(run, dataset, R, graph)
            how = "graph" if graph else "launched"
            print(f"{R} side by side, {how}: {milliseconds(same):.3f} ms, with draws {milliseconds(drawn):.3f} ms")
            if not graph:
                for name, ms, launches in kernels(same)[:LISTED]:
                    print(f"{ms:9.3f} ms {launches:5d} x  {name[:150]}")


if __name__ == "__main__":
    main()
