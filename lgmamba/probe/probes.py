"""Looking into one trained run: what its layers attend to, how far back, what their states hold and how they grow beyond L0.

    probes.json               what was looked at, with which checkpoint and images
    attention.parquet          one image, L = 2 L0: layer, row, column -> weight
    distance.parquet           layer, step, form, aggregation -> mean distance of the attention, reach of 90 % of it
    receptive_field.parquet    kind, layer, step, age_low, age_high -> share, change, gain, count
    memory.parquet             layer, step, quantity -> quantiles over channels or modes
    states.parquet             layer, step -> norms, drift, z-scores, share beyond the range of training
    cycles.parquet             layer, cycle -> observed and predicted contraction on a cycled order
    content.parquet            layer, step, read_out -> psnr
    read_outs.parquet          step, read_out -> psnr, penalty
    told_lengths.parquet       step, told -> level of a run that is told its own length, told another
    modes.parquet              layer, channel, mode, step -> rho, tau, predicted and measured growth, mean distance
    explained.parquet          layer, step, estimator, account, weighting -> share of variance explained
    groups.parquet             layer, group, intervention, step -> psnr with it and without
    remedy_effects.parquet     remedy, step, layer, group -> tau, predicted and measured growth; psnr

Steps are L0 and multiples of it; of read-outs those of `read_out_at`, of told lengths 1, 2, 4, ... and L0. A length-adaptive model is told
L0 all the way, for read-outs T.
Which of them are there is `probes.kinds`. Glossary: `lgmamba.probe`.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.files import ProbesFile
from lgmamba.config.probes import why_not, why_not_task
from lgmamba.data.dataset import load_dataset
from lgmamba.devices import matrix_products
from lgmamba.files import remove_parts, to_json, write_atomic
from lgmamba.frames import write_columns
from lgmamba.keys import reading_key
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.of_layers import attention, content, distance, memory, receptive_field, states
from lgmamba.probe.of_modes import modes
from lgmamba.probe.of_read_outs import read_outs
from lgmamba.probe.of_told_lengths import told_lengths
from lgmamba.records import begin, finish
from lgmamba.tasks.registry import build_task
from lgmamba.train.checkpoint import check_trained_on, load_model_of

log = logging.getLogger(__name__)

PROBES: dict[str, Callable[[ProbeContext], dict[str, dict[str, Any]]]] = {
    "attention": attention,
    "distance": distance,
    "receptive_field": receptive_field,
    "memory": memory,
    "states": states,
    "content": content,
    "modes": modes,
    "read_outs": read_outs,
    "told_lengths": told_lengths,
}
"""Probe -> frames by name, as columns."""
WHAT = (*PROBES, "all")


def run_probes(
    config: ProbesFile, train: Path, data: Path, out: Path, device: torch.device, what: str = "all"
) -> dict[str, Any]:
    """Look into one trained run and write the files above that are asked for, or the frames of one probe alone.

    Args:
        config: the run, which probes, and the steps.
        train: folder written by `lgmamba train`.
        data: folder of the image artefact.
        out: folder of the results.
        what: one of `WHAT`; a single probe leaves probes.json and the record, which speak for all that are configured, as they are.
    Returns:
        what probes.json holds, or would.
    Raises:
        ArtefactError: the checkpoint is missing, damaged, or trained on other images.
        ConfigError: unknown probe; the checkpoint is another run's; or a split holds too few images.
        DataError: the images cannot be used.
    """
    if what not in WHAT:
        raise ConfigError(f"--what: found {what!r}, expected one of {', '.join(WHAT)}")
    kinds = [kind for kind in PROBES if (kind in config.probes.kinds if what == "all" else kind == what)]
    for kind in kinds:
        if reason := why_not_task(kind, config.run.task) or why_not(kind, config.run.model):
            raise ConfigError(f"--what: found {what!r}, but {reason}")
    begun = time.monotonic()
    torch.set_num_threads(config.run.train.cpu_threads)
    dataset = load_dataset(data, device, config.run.images)
    model = load_model_of(config.run, train, device)
    model.requires_grad_(False)
    weights = check_trained_on(train, dataset)
    made_from = reading_key(config, dataset.digest, weights)
    if what == "all":
        begin(out)
    context = ProbeContext(model, build_task(config.run, dataset), dataset, config)
    name = {"run": config.run.run, "seed": config.run.seed, "L0": model.L0}
    seconds, written = {}, []
    for kind in kinds:
        started = time.monotonic()
        with matrix_products("fp32"):
            frames = PROBES[kind](context)
        for frame, columns in frames.items():
            write_columns(out / f"{frame}.parquet", name | columns)
            written.append(f"{frame}.parquet")
        seconds[kind] = round(time.monotonic() - started, 3)
        log.info("%s seed %d: %s, %.1f s", config.run.run, config.run.seed, kind, seconds[kind])
    about = {
        **name,
        "steps": config.steps,
        "images": len(context.rows()),
        "fit_images": len(context.rows("train")),
        "wall_s": time.monotonic() - begun,
        "seconds": seconds,
        "attention_error": context.attention_error,
        "data_digest": dataset.digest,
        "checkpoint_digest": weights,
        "code_digest": made_from.code,
        "probes": config.probes.model_dump(mode="json"),
        "split": config.split,
    }
    if what == "all":
        write_atomic(out / "probes.json", to_json(about))
        finish(made_from, out, ["probes.json", *written])
        remove_parts(out)
    return about
