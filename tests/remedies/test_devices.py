"""Remedies in float32, on a CPU and on a GPU, give what they give in double precision."""

from collections.abc import Callable

import pytest
import torch

from lgmamba.remedies.assemble.remedy import assemble
from lgmamba.remedies.base import beyond, chain, follow_length, power_schedule
from lgmamba.remedies.closed_form import StateRecorder, closed_form_factors
from lgmamba.remedies.decimamba.remedy import decimate
from lgmamba.remedies.decimamba.stream import norm_thresholds, read_decimated
from lgmamba.remedies.longmamba.filters import (
    StepSizeRecorder,
    calibrate,
    keep_to_budget,
    mask_random_steps,
    mask_steps,
    thresholds,
)
from lgmamba.remedies.normalise_state.remedy import StateNormRecorder, normalise_state
from lgmamba.remedies.retain_insert.remedy import retain_and_insert
from lgmamba.remedies.schedule.remedy import GainSchedule
from lgmamba.remedies.spectrum.remedy import clip_spectrum, scale_spectrum
from lgmamba.remedies.step_size.remedy import cumulative_steps, norm_step_sizes, scale_step_sizes
from lgmamba.remedies.window.remedy import sliding_window
from tests.model.models import L0, along, exact, fresh, moved, sequence

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
"""float32 against float64: outputs leave a norm, so they are of size 1."""
T = 40


def recorded(model, recorder):
    """A recorder after a pass over sequences of the training length."""
    patches, cells = sequence(model, B=16, L=L0, seed=5)
    device = model.embed_patch.weight.device
    model.encode(model.embed(patches.to(device), cells.to(device)), hook=recorder)
    return recorder


def long_mamba(model):
    tables = thresholds(calibrate(recorded(model, StepSizeRecorder()), L0), L0, [2 * L0, T])
    return mask_steps(tables, [f.long_memory for f in calibrate(recorded(model, StepSizeRecorder()), L0)])


def gains(model):
    schedule = GainSchedule.of(model, [2.0, 4.0], "channels")
    noise = torch.randn(schedule.n_factors, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return schedule.hook(noise.mul(0.3).exp())


def budget(model):
    return cumulative_steps(recorded(model, StepSizeRecorder()).step_sizes, L0)


PLANS: dict[str, Callable] = {
    "power": lambda model: scale_step_sizes(power_schedule(L0, 1.0), [torch.linspace(0.5, 1, 24), torch.ones(24)]),
    "norm": lambda model: norm_step_sizes(budget(model)),
    "spectrum by t": lambda model: follow_length(
        L0, 4, lambda t: scale_spectrum("mult", [torch.full((4,), L0 / t), 1.0])
    ),
    "clip": lambda model: beyond(L0, clip_spectrum(0.2, 0.8)),
    "closed form": lambda model: scale_spectrum(
        "mult", closed_form_factors(recorded(model, StateRecorder()), "spectrum", L0, T)
    ),
    "retain": lambda model: retain_and_insert(0.8, 0.9, after=L0),
    "normalise": lambda model: normalise_state(recorded(model, StateNormRecorder("channel")).thresholds(0.5), 3, L0),
    "both": lambda model: chain(normalise_state([0.5, 0.5], 4), retain_and_insert(0.9, after=L0)),
    "window": lambda model: sliding_window(L0),
    "overlap": lambda model: sliding_window(L0, "overlap"),
    "longmamba": long_mamba,
    "random steps": lambda model: mask_random_steps([torch.full((24,), 0.5)] * 2, 3, after=L0),
    "bound": lambda model: keep_to_budget([2 * q for q in budget(model)]),
    "decimamba": lambda model: decimate([0, 1], base=L0, beta=0.8),
    "gains": gains,
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def models(request):
    """In double precision on the CPU, and with the same weights in float32 on a device."""
    return exact(), moved(fresh()).to(request.param)


def single(model, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Where the model is, and as precise."""
    device = model.embed_patch.weight.device
    return [v.to(device, torch.float32) if v.is_floating_point() else v.to(device) for v in tensors]


@pytest.mark.parametrize("make", PLANS.values(), ids=PLANS)
def test_a_plan(models, make):
    double, float32 = models
    patches, cells = sequence(double, L=T)
    want, _ = double.encode(double.embed(patches, cells), hook=make(double))
    got, _ = float32.encode(float32.embed(*single(float32, patches, cells)), hook=make(float32))
    torch.testing.assert_close(got.double().cpu(), want, **CLOSE)


@pytest.mark.parametrize("form", ["consecutive", "cover"])
def test_assembled_images(models, form):
    double, float32 = models
    patches, _ = sequence(double, L=6)
    cells = torch.randint(6, (3, T), generator=torch.Generator().manual_seed(0))
    steps = [3, L0, 2 * L0 + 1, T]
    want = assemble(double, along(patches, cells), steps, "prefix", form, groupings=2)
    got = assemble(float32, along(*single(float32, patches, cells)), steps, "prefix", form, groupings=2)
    torch.testing.assert_close(got.double().cpu(), want, **CLOSE)


def test_decimation_in_a_stream(models):
    double, float32 = models
    patches, _ = sequence(double, L=6)
    cells = torch.randint(6, (3, T), generator=torch.Generator().manual_seed(0))
    want, got = (
        read_decimated(
            model, along(p, c), [5, 20, T], 1, norm_thresholds(recorded(model, StepSizeRecorder()), 1, L0, [2 * L0, T])
        )
        for model, p, c in ((double, patches, cells), (float32, *single(float32, patches, cells)))
    )
    torch.testing.assert_close(got.double().cpu(), want, **CLOSE)
