"""The probes of attention, receptive fields, memory, states and content: from a model to columns.

Glossary: `lgmamba.probe`; B samples, L steps, D channels, N modes.
"""

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lgmamba.mixers.mamba.attention import attention_rows, attention_tiles, mixer_rows
from lgmamba.probe.attention import AGGREGATIONS, aggregate, mean_distance, reach
from lgmamba.probe.content import fit_read_out, psnr, restore_norm
from lgmamba.probe.context import Columns, ProbeContext, columns_of
from lgmamba.probe.memory import cumulative_steps, horizons, survival
from lgmamba.probe.receptive_field import gradient_sizes, swap_patches
from lgmamba.probe.states import cycle_contraction, norms, state_numbers
from lgmamba.probe.stops import LayerTrace, layer_traces, level_of, stops
from lgmamba.scan import selective_scan

REACH = 0.9
"""Share of a row's attention whose reach is reported."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_CYCLES = 5
"""Cycles of a cycled order that are read, at least."""
SHORT = 8
"""Steps of a piece where the states of every step are made."""


def last_rows(T: int, n: int) -> list[int]:
    """At most n rows, 0-based, evenly over the last tenth of T steps, the last one included."""
    first = T - max(1, math.ceil(T / 10))
    n = min(n, T - first)
    return sorted({T - 1 - round(k * (T - 1 - first) / max(1, n - 1)) for k in range(n)})


def attention(context: ProbeContext) -> dict[str, Columns]:
    """The whole map of one image up to 2 L0, tile by tile; and how far its product with the input is from the scan's output."""
    L = 2 * context.L0
    rows = []
    for layer, one in enumerate(layer_traces(context.model, context.held_out[:1], min(L, context.steps[-1]))):
        made = []
        for tile, block in attention_tiles(one.call, list(range(one.call.dt.shape[1])), span=15):
            weight = aggregate(block, "abs")[0]
            made.append(torch.einsum("rdj,jd->rd", block[0], one.call.x[0, : block.shape[3]].double()))
            for r, i in enumerate(tile):
                rows += [
                    {"layer": layer, "row": i + 1, "column": j + 1, "weight": w}
                    for j, w in enumerate(weight[r, : i + 1].tolist())
                ]
        call = one.call
        y = selective_scan(call.x, call.dt, call.A, call.Bmat, call.Cmat, torch.zeros_like(call.A[:, 0]))[0].double()
        error = (torch.cat(made) - y).abs().max() / y.abs().max()
        context.attention_error = max(context.attention_error, float(error))
    return {"attention": columns_of(rows)}


def distance(context: ProbeContext) -> dict[str, Columns]:
    """Mean over images and rows, of the scan alone and of the whole mixer, with every aggregation."""
    rows = []
    for T in context.steps:
        at = last_rows(T, context.config.probes.attention_rows)
        for layer, one in enumerate(context.layer_traces):
            found: dict[tuple[str, str], list[Tensor]] = {}
            for b in range(len(context.attention_batch)):  # image by image: a row is (D, L) numbers
                for form, weight in _weights(context, layer, one, b, T, at).items():
                    for how in AGGREGATIONS:
                        map_ = aggregate(weight, how)[0]
                        numbers = torch.stack([mean_distance(map_, at), reach(map_, at, REACH).double()])
                        found.setdefault((form, how), []).append(numbers.mean(1))
            for (form, how), parts in found.items():
                mean, far = torch.stack(parts).mean(0).tolist()
                rows.append(
                    {
                        "layer": layer,
                        "step": T,
                        "form": form,
                        "aggregation": how,
                        "mean_distance": mean,
                        "reference": sum(at) / len(at) / 2,
                        "reach": far,
                        "rows": f"{len(at)} in {at[0] + 1}..{at[-1] + 1}",
                        "images": len(context.attention_batch),
                    }
                )
    return {"distance": columns_of(rows)}


def _weights(context: ProbeContext, layer: int, one: LayerTrace, b: int, T: int, at: list[int]) -> dict[str, Tensor]:
    call, span = one.upto(b, T), T
    mixer = context.model.blocks[layer].mixer
    return {
        "scan": attention_rows(call.call, at, span),
        "mixer": mixer_rows(mixer, call.u, call.call, at, span)[0],
    }


def receptive_field(context: ProbeContext) -> dict[str, Columns]:
    """Shares by octaves of age: of each layer's attention, of the gradient, and what swapped patches do."""
    rows = []
    for T in context.steps:
        for layer, one in enumerate(context.layer_traces):
            parts = [attention_rows(one.upto(b, T).call, [T - 1]) for b in range(len(context.attention_batch))]
            weight = torch.cat([aggregate(part, "rownorm")[:, 0] for part in parts])  # (B, T)
            rows += _octaves("attention", layer, T, weight / weight.sum(1, keepdim=True))
        slopes = gradient_sizes(context.model, context.attention_batch, T, context.config.probes.gradient_probes)
        rows += _octaves("gradient", -1, T, slopes / slopes.sum(1, keepdim=True))
        rows += _swapped(context, T)
    return {"receptive_field": columns_of(rows)}


def _octaves(kind: str, layer: int, T: int, share: Tensor) -> list[dict[str, Any]]:
    """Mean over images of the share of weight (B, T) in each octave of age: 0, 1-2, 3-6, ..."""
    by_age = share.mean(0).flip(0).tolist()
    return [
        {
            "kind": kind,
            "layer": layer,
            "step": T,
            "age_low": low,
            "age_high": min(high, T - 1),
            "share": sum(by_age[low : high + 1]),
            "change": None,
            "gain": None,
            "count": len(share),
        }
        for low, high in octaves(T)
    ]


def octaves(T: int) -> list[tuple[int, int]]:
    """First and last age of each octave below T: (0, 0), (1, 2), (3, 6), ..."""
    return [(2**k - 1, 2 ** (k + 1) - 2) for k in range(T.bit_length()) if 2**k - 1 < T]


def _swapped(context: ProbeContext, T: int) -> list[dict[str, Any]]:
    """change: RMS change of the cell, in units of that of the patch; gain: what share of the new patch is drawn."""
    swaps = swap_patches(context.model, context.held_out, T, context.config.probes.swaps, context.chunk)
    rows = []
    for low, high in octaves(T):
        here = (swaps.age >= low) & (swaps.age <= high)
        given = float(swaps.given[here].sum())
        if given > 0:
            rows.append(
                {
                    "kind": "swap",
                    "layer": -1,
                    "step": T,
                    "age_low": low,
                    "age_high": min(high, T - 1),
                    "share": None,
                    "change": math.sqrt(float(swaps.change[here].sum()) / given),
                    "gain": float(swaps.along[here].sum()) / given,
                    "count": int(here.sum()),
                }
            )
    return rows


def memory(context: ProbeContext) -> dict[str, Columns]:
    """Quantiles over channels (and images) of S(T) / S(L0), over modes of what survives of the first state, and of horizons."""
    rows = []
    for layer, one in enumerate(context.layer_traces):
        total, rates = cumulative_steps(one.call), one.call.rates()
        for T in context.steps:
            for quantity, values in (
                ("cumulative_step", total[:, T - 1] / total[:, context.L0 - 1]),
                ("survival", survival(total, rates, T)),
                ("horizon", horizons(total, rates, T)),
            ):
                ordered = values.flatten().sort().values
                at = [ordered[min(len(ordered) - 1, int(q * len(ordered)))].item() for q in QUANTILES]
                quantiles = {
                    f"q{round(100 * q):02d}": v if math.isfinite(v) else None
                    for q, v in zip(QUANTILES, at, strict=True)
                }
                endless = float(values.isinf().double().mean())
                rows.append({"layer": layer, "step": T, "quantity": quantity, **quantiles, "endless": endless})
    return {"memory": columns_of(rows)}


def states(context: ProbeContext) -> dict[str, Columns]:
    """Numbers of states on the way to the longest length, and contraction on a cycled order."""
    lag = max(1, context.L0 // 8)
    longest = context.steps[-1]
    early = {max(1, round(context.L0 * f)) for f in (0.25, 0.5, 0.75)}
    at = sorted(early | set(context.steps) | {min(longest, context.L0 * 2**k) for k in range(longest.bit_length())})
    rows, before = [], {}
    for stop in stops(
        context.model, context.held_out, sorted({t - lag for t in at if t > lag} | set(at)), context.chunk
    ):
        if stop.t in at:
            rows += [
                {"layer": layer, "step": stop.t, "lag": lag}
                | state_numbers(h, before[stop.t - lag][layer] if stop.t > lag else None, known)
                for layer, (h, known) in enumerate(zip(stop.h, context.training, strict=True))
            ]
        before[stop.t] = stop.h
    G = context.held_out.n_cells
    cycles = max(LEAST_CYCLES, longest // G)
    cycled = context.sequences(context.config.probes.images, order="cycle", steps=cycles * G)
    found = cycle_contraction(context.model, cycled, cycles, context.chunk)
    return {"states": columns_of(rows), "cycles": columns_of(asdict(row) for row in found)}


def content(context: ProbeContext) -> dict[str, Columns]:
    """PSNR of a linear read-out fitted at L0, on states as they are and scaled back to the mean norm at L0; of one fitted at T; and of
    the model, as it is and with every state read at the mean norm at L0.
    """
    rows, fixed = [], []
    norm = [known.norm for known in context.training]
    fits = stops(context.model, context.fitted, context.steps, context.chunk)
    tests = stops(context.model, context.held_out, context.steps, context.chunk)
    for fit, test in zip(fits, tests, strict=True):
        here = [fit_read_out(h, context.fitted.targets) for h in fit.h]
        fixed = fixed or here
        for layer, h in enumerate(test.h):
            predictions = {
                "fixed": fixed[layer](h),
                "restored": fixed[layer](h * (norm[layer] / norms(fit.h[layer]).mean())),
                "refit": here[layer](h),
            }
            rows += [
                {"layer": layer, "step": test.t, "read_out": name, "psnr": psnr(image, context.held_out.targets)}
                for name, image in predictions.items()
            ]
        rows.append(
            {
                "layer": -1,
                "step": test.t,
                "read_out": "model",
                "psnr": level_of(context.task, context.model, test, context.held_out),
            }
        )
    hook = restore_norm([float(p) for p in norm], context.L0)
    rows += [
        {
            "layer": -1,
            "step": stop.t,
            "read_out": "model_restored",
            "psnr": level_of(context.task, context.model, stop, context.held_out),
        }
        for stop in stops(context.model, context.held_out, context.steps, SHORT, hook)
    ]
    return {"content": columns_of(rows)}
