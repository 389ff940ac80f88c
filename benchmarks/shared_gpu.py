"""What programs that share a GPU cost one another, with NVIDIA MPS and without: trainings side by side, and readings.

    python benchmarks/shared_gpu.py [--preset cifar10] [--plain fixed_64] [--told adaptive_64] [--runs 9] [--seconds 5] [--out reports/benchmarks]

Five processes on one GPU, which work in some windows of time and wait in others:

    train   steps of so many trainings of a run side by side, as `lgmamba train-stack` takes them
    read    a batch of test sequences of that run, read at every step of the study, as `lgmamba reconstruct` reads them
    told    the same of a run that is told the length: a pass for each length

A window says what each program does in a second beside the others, as a share of what it does alone without MPS. Shares that add up to
more than 1 are what sharing gains: the GPU did not wait while one of them was on the CPU, or, with MPS, worked for several at once.
Images are random and weights as drawn, which changes no time. MPS is started for its half and ended after it; where there is no
nvidia-cuda-mps-control, or it does not start, that half is left out. Writes shared_gpu.{json,md}.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mixers import synchronize
from step_profile import prepared as step_of

from lgmamba.config.files import evaluation_file
from lgmamba.config.study import Params, load_params
from lgmamba.data.dataset import in_memory
from lgmamba.devices import matrix_products, torch_device
from lgmamba.files import to_json, write_atomic
from lgmamba.model.runner import MODES, run_sequence
from lgmamba.provenance import git_state
from lgmamba.tasks.registry import build_model, build_task

WORKERS = ("train", "train again", "read", "read again", "told")
"""The word of a role, and for a second process of it another."""
WINDOWS = [
    ("train",),
    ("read",),
    ("told",),
    ("train", "train again"),
    ("train", "read"),
    ("train", "told"),
    ("train", "read", "read again", "told"),
]
IMAGES = 2000


def prepared(role: str, study: Params, args: argparse.Namespace) -> Callable[[], object]:
    """What a role does again and again."""
    device = torch_device(args.device)
    run = study.run_configs()[args.told if role == "told" else args.plain, study.seeds[0]]
    height = study.data.size or (32, 32)
    shape = (IMAGES, 1 if study.data.channels == "grey" else 3, *height)
    dataset = in_memory(torch.randint(256, shape, dtype=torch.uint8, device=device))
    if role == "train":
        return step_of(run, dataset, args.runs, graph=device.type == "cuda")[1]
    config = evaluation_file(study, run)
    model, task = build_model(run, dataset.image_shape).to(device).eval(), build_task(run, dataset)
    steps = torch.tensor(config.steps, device=device)
    rows = dataset.split("train")[: config.evaluation.batch_images]

    def read() -> None:
        sequences = task.held_out(rows, config.evaluation.orders[0], 0, config.steps[-1])
        task.baselines(sequences, steps, task.ages(sequences, steps))
        for mode in MODES[: 1 + model.uses_target_length]:
            with matrix_products(config.evaluation.precision):
                found = run_sequence(model, sequences, config.steps, mode, config.evaluation.chunk)
            task.scores(found, sequences, steps).values["mse"].cpu()

    return torch.no_grad()(read)


def work(worker: str, args: argparse.Namespace, barrier, results) -> None:
    """A process: its role in the windows that name it."""
    study, device = load_params(args.params, args.preset), torch_device(args.device)
    once = prepared(worker.removesuffix(" again"), study, args)
    for _ in range(6):  # kernels are compiled, and a step is recorded
        once()
    for i, window in enumerate(WINDOWS):
        barrier.wait()
        if worker in window:
            begun, done = time.perf_counter(), 0
            while time.perf_counter() - begun < args.seconds:
                once()
                done += 1
                if done % 4 == 0:
                    synchronize(device)
            synchronize(device)
            results.put((i, worker, (time.perf_counter() - begun) / done))
        barrier.wait()


def measured(args: argparse.Namespace) -> list[dict[str, float]]:
    """Window -> worker -> seconds for what it does once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(len(WORKERS)), context.Queue()
    processes = [context.Process(target=work, args=(worker, args, barrier, results)) for worker in WORKERS]
    for process in processes:
        process.start()
    found: list[dict[str, float]] = [{} for _ in WINDOWS]
    for _ in range(sum(map(len, WINDOWS))):
        while results.empty():
            if broken := [process.exitcode for process in processes if process.exitcode]:
                for process in processes:
                    process.kill()
                raise SystemExit(f"a process ended with status {broken[0]}")
            time.sleep(0.05)
        i, worker, seconds = results.get()
        found[i][worker] = seconds
    for process in processes:
        process.join()
    return found


@contextmanager
def mps() -> Iterator[bool]:
    """Whether MPS runs for what is started in here."""
    control = shutil.which("nvidia-cuda-mps-control")
    with (
        tempfile.TemporaryDirectory() as folder,
        environment(CUDA_MPS_PIPE_DIRECTORY=folder, CUDA_MPS_LOG_DIRECTORY=folder),
    ):
        if control is None or subprocess.run([control, "-d"]).returncode:
            yield False
            return
        try:
            yield True
        finally:
            subprocess.run([control], input="quit\n", text=True)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def shares(found: list[dict[str, float]], alone: dict[str, float]) -> list[dict[str, float]]:
    """Window -> worker -> what it does in a second, as a share of what it does alone."""
    return [
        {name: alone[name.removesuffix(" again")] / seconds for name, seconds in window.items()} for window in found
    ]


def text(result: dict) -> str:
    """The page."""
    about, alone = result["about"], result["alone"]
    halves = [name for name in ("plain", "mps") if name in result]
    told = {"plain": "without MPS", "mps": "with MPS"}
    lines = [
        "# Programs that share a GPU",
        "",
        f"By `python benchmarks/shared_gpu.py --preset {about['preset']}` on {about['gpu']}, torch {about['torch']}, commit "
        f"`{about['commit'][:10]}`. train: {about['runs']} trainings of `{about['plain']}` side by side, a step in "
        f"{1e3 * alone['train']:.1f} ms alone; read: a batch of its readings, {1e3 * alone['read']:.0f} ms; told: the same of "
        f"`{about['told']}`, {1e3 * alone['told']:.0f} ms. Shares of the speed alone without MPS, and in bold their sum.",
        "",
        f"| at the same time | {' | '.join(told[name] for name in halves)} |",
        f"| --- |{' --- |' * len(halves)}",
    ]
    for i, window in enumerate(WINDOWS):
        cells = []
        for name in halves:
            found = result[name][i]
            parts = " + ".join(f"{found[worker]:.2f}" for worker in window)
            cells.append(f"{parts} = **{sum(found.values()):.2f}**" if len(window) > 1 else f"**{parts}**")
        lines.append(f"| {', '.join(worker.removesuffix(' again') for worker in window)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--plain", default="fixed_64", help="run that is trained and read")
    parser.add_argument("--told", default="adaptive_64", help="run that is told the length")
    parser.add_argument("--runs", type=int, default=9, help="trainings side by side")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a window")
    parser.add_argument("--device", default="cuda", help="cpu: to try the program, without MPS")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    args = parser.parse_args()
    device = torch_device(args.device)
    about = {name: getattr(args, name) for name in ("preset", "plain", "told", "runs", "seconds")}
    about |= {"torch": torch.__version__, "commit": git_state()["commit"] or "unknown", "gpu": "a CPU"}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name()
    plain = measured(args)
    alone = {window[0]: found[window[0]] for window, found in zip(WINDOWS, plain, strict=True) if len(window) == 1}
    result = {"about": about, "alone": alone, "plain": shares(plain, alone)}
    if device.type == "cuda":
        with mps() as runs:
            if runs:
                result["mps"] = shares(measured(args), alone)
    write_atomic(args.out / "shared_gpu.json", to_json(result))
    write_atomic(args.out / "shared_gpu.md", text(result))
    print(text(result))


if __name__ == "__main__":
    sys.exit(main())
