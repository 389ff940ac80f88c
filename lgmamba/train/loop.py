"""Training of one run with one seed, top to bottom. Glossary: `lgmamba.train`."""

import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import PassOtherImage, RunConfig
from lgmamba.data.dataset import load_dataset
from lgmamba.files import file_digest, remove_parts, to_json, write_atomic
from lgmamba.keys import train_key
from lgmamba.model import PatchMamba
from lgmamba.provenance import describe
from lgmamba.records import begin, finish
from lgmamba.scan import resolve_backend
from lgmamba.task.patches import grid_shape
from lgmamba.track import Tracker
from lgmamba.train.batch import BatchSampler, seed_of
from lgmamba.train.checkpoint import RESUME, Progress, resume, save_model, save_progress
from lgmamba.train.history import History
from lgmamba.train.optimizer import build_optimizer, learning_rate, set_learning_rate
from lgmamba.train.progress import training_progress
from lgmamba.train.step import TrainStep
from lgmamba.train.validation import Validation


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names run, seed and step."""


def train(run: RunConfig, data: Path, out: Path, work: Path, device: torch.device, tracker: Tracker) -> dict[str, Any]:
    """Train one run, resuming an interrupted attempt, and write run.json, history.parquet, model.safetensors,
    train.json, and last the record of them all.

    On a CPU the result depends on `run`, the images and the code alone: a training that was killed at any moment and
    called again ends with the same bits.

    Args:
        run: what is trained.
        data: folder of the image artefact.
        out: folder of the results.
        work: folder of the resume checkpoint; emptied of it at the end.
        device: where to train.
        tracker: told about every logged step.
    Returns:
        what train.json holds.
    Raises:
        TrainingError: the loss or the gradient is NaN or infinite.
        ConfigError: the images do not fit the configuration.
        DataError: the images cannot be used.
    """
    config = run.train
    torch.set_num_threads(config.cpu_threads)
    dataset = load_dataset(data, device, run.images)
    if not len(dataset.split("val")):
        raise ConfigError(f"{data}: found no image in split val, expected some to watch training (data.splits.val > 0)")
    begin(out)
    model = build_model(run, dataset.image_shape).to(device)
    optimizer = build_optimizer(model, config)
    on_cuda = device.type == "cuda"
    bf16 = config.precision == "bf16" or (config.precision == "auto" and on_cuda)
    rows = dataset.split("train")
    if isinstance(config.state_passing, PassOtherImage) and len(rows) < 2:
        raise ConfigError(f"{data}: found {len(rows)} training image, expected 2 for train.state_passing other_image")
    sampler = BatchSampler(
        run.task,
        rows,
        model.grid,
        config.batch_size,
        run.seed,
        config.steps,
        on_cuda,
        config.state_passing,
        config.length_power,
    )
    train_step = TrainStep(model, optimizer, dataset.images, config.grad_clip, bf16, graph=on_cuda)
    validation = Validation(dataset, run.task.order, run.task.patch_size, model.grid, run.L0, config.validate_images)

    made_from = train_key(run, dataset.manifest.sha256)
    key = {"made from": made_from.digest, "device": device.type}
    start = resume(work, key, model, optimizer)
    history = History(run, tracker, list(start.history))
    seen = torch.zeros(config.log_every, 2, device=device)  # loss and gradient norm of the steps since the last row
    begun = checkpointed = logged = time.monotonic()

    with training_progress(f"{run.run} seed {run.seed}", start.step, config.steps) as show:
        for step in range(start.step, config.steps):
            lr = learning_rate(step, config)
            set_learning_rate(optimizer, lr)
            loss, norm = train_step(sampler.draw(step))
            seen[step % config.log_every] = torch.stack([loss, norm])
            done = step + 1
            if done % config.log_every and done < config.steps:
                continue

            recent = seen[: step % config.log_every + 1]
            check_finite(recent, done, run)
            images_per_s = len(recent) * config.batch_size / (time.monotonic() - logged)
            values = {"loss": recent[:, 0].mean().item(), "lr": lr, "grad_norm": norm.item()}
            history.add(done, values | {"images_per_s": images_per_s} | memory(device))
            val_psnr = {}
            if done // config.validate_every > (done - len(recent)) // config.validate_every or done == config.steps:
                val_psnr = validation.psnr(model)
                history.add_by_length(done, "val_psnr", val_psnr)
            show(done, values["loss"], images_per_s, val_psnr)
            logged = time.monotonic()  # validation and what follows are not training time
            if done < config.steps and logged - checkpointed >= config.checkpoint_every_s:
                elapsed = start.elapsed_s + logged - begun
                save_progress(work, Progress(done, elapsed, tuple(history.rows)), key, model, optimizer)
                checkpointed = logged = time.monotonic()

    write_atomic(out / "run.json", to_json(run.model_dump(mode="json")))
    history.write(out / "history.parquet")
    save_model(model, run, out / "model.safetensors")
    about = {
        **origin(run, model, device),
        "wall_s": start.elapsed_s + time.monotonic() - begun,
        "images_per_s": history.median("images_per_s"),
        "precision": "bf16" if bf16 else "fp32",
        **memory(device),
        "data_digest": dataset.manifest.sha256,
        "code_digest": made_from.code,
        "checkpoint_digest": file_digest(out / "model.safetensors"),
        "final": {"loss": values["loss"], "val_psnr": {str(T): v for T, v in val_psnr.items()}},
    }
    write_atomic(out / "train.json", to_json(about))
    finish(made_from, out, ["run.json", "history.parquet", "model.safetensors", "train.json"])
    tracker.finish(out)
    (work / RESUME).unlink(missing_ok=True)
    for folder in (out, work):
        remove_parts(folder)
    return about


def build_model(run: RunConfig, image_shape: tuple[int, int, int]) -> PatchMamba:
    """The untrained model; its weights depend on the run's seed alone.

    Raises:
        ConfigError: the run's patches do not fit the images.
    """
    try:
        grid_shape(*image_shape[1:], run.task.patch_size)
    except ValueError as e:
        raise ConfigError(f"run {run.run!r} does not fit the images: {e}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(run.seed, "model"))
        return PatchMamba(run.model, image_shape, run.task.patch_size, run.L0)


def check_finite(seen: Tensor, done: int, run: RunConfig) -> None:
    """Stop at the first step whose loss or gradient is NaN or infinite.

    Args:
        seen: (n, 2) loss and gradient norm of the steps done - n + 1 .. done.
    """
    bad = (~seen.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise TrainingError(
            f"run {run.run!r}, seed {run.seed}: the {('loss', 'gradient norm')[column]} at step {done - len(seen) + row + 1} is "
            f"{seen[row, column].item()}; a lower train.lr or train.grad_clip, or longer train.warmup_steps may help"
        )


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory of this process so far, MB (2^20 bytes)."""
    values = {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        values["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return values


def origin(run: RunConfig, model: PatchMamba, device: torch.device) -> dict[str, Any]:
    """What was trained, where, by which versions."""
    here = describe()
    return {
        "run": run.run,
        "seed": run.seed,
        "study": run.study,
        "L0": run.L0,
        "steps": run.train.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": device.type,
        "device_name": here["gpu"] if device.type == "cuda" else here["cpu"],
        "backend": resolve_backend(run.model.scan_backend, device.type),
        "git": here["git"],
        "versions": here["packages"],
    }
