"""The probe of modes: the account, which of them break the model, and which remedy touches them.

Glossary: `lgmamba.probe`; D channels, N modes.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgmamba.mixers.contract import Hook
from lgmamba.probe.account import ACCOUNTS, ESTIMATORS, Account, explained, growth, mode_account
from lgmamba.probe.dynamics import GROUPS
from lgmamba.probe.groups import clamp_inflation, group_norms, hold_at_L0, size_at_L0
from lgmamba.probe.of_layers import ProbeContext, columns_of
from lgmamba.probe.remedy_effects import REMEDIES, Remedies, remedy_effect
from lgmamba.probe.stops import level_of, stops

ORDERS = 2
"""Visiting orders of each image over which mean states are taken."""
ALL = "all"


def modes(context: ProbeContext) -> dict[str, dict[str, Any]]:
    """Frames modes, explained, groups and remedy_effects."""
    images = context.config.probes.images
    batches = [context.held_out, *(context.sequences(images, repeat) for repeat in range(1, ORDERS))]
    account = mode_account(context.model, batches, context.steps, context.chunk)
    return {
        "modes": _modes(account, context.steps),
        "explained": columns_of(_explained(account, context.steps[1:])),
        "groups": columns_of(_groups(context, account)),
        "remedy_effects": columns_of(_remedy_effects(context, account)),
    }


def _modes(account: Account, steps: list[int]) -> dict[str, Any]:
    """One row for every layer, channel, mode and step; float32 but for the forecast's own numbers."""
    blocks = []
    for layer, memory in enumerate(account.memory):
        D, N = memory.tau.shape
        for T in steps:
            numbers = {
                "predicted": account.predicted(layer, T, "memory"),
                "with_writes": account.predicted(layer, T, "writes"),
                "measured": account.measured(layer, T, "mean"),
                "measured_rms": account.measured(layer, T, "rms"),
                "distance": account.distances[T][layer],
            }
            blocks.append(
                {
                    "layer": np.full(D * N, layer),
                    "channel": np.repeat(np.arange(D), N),
                    "mode": np.tile(np.arange(N), D),
                    "step": np.full(D * N, T),
                    "group": np.array(GROUPS)[memory.group(account.L0).flatten().cpu().numpy()],
                    "rho": _flat(memory.rho),
                    "tau": _flat(memory.tau),
                    "weight": _flat(account.weight(layer, "mean")),
                    "energy": _flat(account.weight(layer, "rms")),
                    "tested": _flat(account.tested(layer)),
                }
                | {name: _flat(values.float()) for name, values in numbers.items()}
            )
    return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}


def _flat(values: Tensor) -> np.ndarray:
    return values.flatten().cpu().numpy()


def _explained(account: Account, steps: list[int]) -> Iterator[dict[str, Any]]:
    """Layer -1: all layers together, each with the same weight."""
    for T, estimator, name in itertools.product(steps, ESTIMATORS, ACCOUNTS):
        parts = []
        for layer in range(len(account.memory)):
            tested = account.tested(layer)
            numbers = (
                account.measured(layer, T, estimator),
                account.predicted(layer, T, name),
                account.weight(layer, estimator),
            )
            parts.append(tuple(v[tested] for v in numbers))
        together = tuple(torch.cat(v) for v in zip(*parts, strict=True))
        for layer, (measured, predicted, weight) in ((-1, together), *enumerate(parts)):
            for weighting, w in (("even", torch.ones_like(weight)), ("energy", weight)):
                found = explained(measured, predicted, w)
                yield {
                    "layer": layer,
                    "step": T,
                    "estimator": estimator,
                    "account": name,
                    "weighting": weighting,
                    "share": found.share,
                    "correlation": found.correlation,
                    "modes": found.modes,
                    "of": sum(m.tau.numel() for i, m in enumerate(account.memory) if layer in (-1, i)),
                }


def _groups(context: ProbeContext, account: Account) -> Iterator[dict[str, Any]]:
    """Every intervention on every group of all layers together; and the size of every group of each single layer."""
    model, L0 = context.model, account.L0
    every = max(1, round(context.config.probes.read_every * L0))
    (at_L0,) = stops(model, context.fitted, [L0], context.chunk)
    plain = _read(context, None)
    for layer in (-1, *range(len(account.memory))):
        for number, group in (*enumerate(GROUPS), (-1, ALL)):
            masks = [
                ((m.group(L0) == number) | (number < 0)) & (layer in (-1, i)) for i, m in enumerate(account.memory)
            ]
            norms = [group_norms(h, mask).mean() for h, mask in zip(at_L0.h, masks, strict=True)]
            hooks = {"size": size_at_L0(masks, norms, L0, every)}
            if layer < 0:
                hooks |= {
                    "clamp": clamp_inflation(masks, account.memory, L0, every),
                    "hold": hold_at_L0(masks, L0, every),
                }
            share = [float((account.weight(i, "rms") * mask).sum()) for i, mask in enumerate(masks)]
            about = {
                "layer": layer,
                "group": group,
                "modes": int(sum(mask.sum() for mask in masks)),
                "energy": sum(share) / max(1, sum(1 for mask in masks if layer < 0 or mask.any())),
            }
            for name, hook in hooks.items():
                read = _read(context, hook) if about["modes"] else plain
                yield from (
                    about | {"intervention": name, "step": T, "psnr": read[T], "plain": plain[T]}
                    for T in context.steps[1:]
                )


def _read(context: ProbeContext, hook: Hook | None) -> dict[int, float]:
    """PSNR at every step, dB."""
    reached = stops(context.model, context.held_out, context.steps, context.chunk, hook)
    return {stop.t: level_of(context.task, context.model, stop, context.held_out) for stop in reached}


def _remedy_effects(context: ProbeContext, account: Account) -> Iterator[dict[str, Any]]:
    """Medians over the modes of a group; growth is that of tested modes, against L0 without the remedy."""
    model, L0 = context.model, account.L0
    remedies = Remedies.of(model, context.fitted, account, context.chunk)
    (at_L0,) = stops(model, context.held_out, [L0], context.chunk)
    best = level_of(context.task, model, at_L0, context.held_out)
    for T in context.steps[1:]:
        for name in REMEDIES:
            found = remedy_effect(model, context.held_out, T, context.chunk, *remedies.hook(name, T), account)
            psnr = level_of(context.task, model, found.stop, context.held_out)
            for layer, memory in enumerate(account.memory):
                measured = growth(found.moments[layer], account.moments[L0][layer], "mean")
                for number, group in enumerate(GROUPS):
                    here = memory.group(L0) == number
                    tested = here & account.tested(layer)
                    yield {
                        "remedy": name,
                        "step": T,
                        "layer": layer,
                        "group": group,
                        "modes": int(here.sum()),
                        "tested": int(tested.sum()),
                        "tau": _median(found.tau[layer][here]),
                        "tau_plain": _median(memory.tau[here]),
                        "predicted": _median(found.predicted[layer][tested]),
                        "measured": _median(measured[tested]),
                        "psnr": psnr,
                        "psnr_L0": best,
                    }


def _median(values: Tensor) -> float | None:
    """None of nothing, or where it is infinite."""
    middle = float(values.median()) if values.numel() else None
    return middle if middle is not None and abs(middle) != float("inf") else None
