"""The probes of a model on a GPU give what they give on a CPU."""

import dataclasses

import numpy as np
import pytest
import torch

from lgmamba.config.files import ProbesFile
from lgmamba.config.probes import ProbesConfig
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.probes import PROBES as KINDS
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.registry import build_task
from tests.analysis.synthetic_probes import PROBES, noise
from tests.train.tiny import tiny_run

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytestmark = [pytest.mark.gpu, pytest.mark.skip(reason="no GPU")]

COUNTED = ("beyond", "tested", "modes", "endless", "q999", "reach", "penalty")
RATIOS = ("measured", "measured_rms", "share", "correlation")
"""Of mean states that may be near zero, in float32; and what is made of them."""


def context(device: str) -> ProbeContext:
    run = tiny_run()
    torch.manual_seed(0)
    model = PatchMamba(run.model, (1, 8, 8), run.task.patch_size, run.L0).to(device).eval().requires_grad_(False)
    images = noise()
    moved = {
        field.name: value.to(device)
        for field in dataclasses.fields(images)
        if isinstance(value := getattr(images, field.name), torch.Tensor)
    }
    config = ProbesConfig.model_validate(PROBES | {"runs": [run.run]})
    file = ProbesFile(run=run, probes=config, split="test", steps=config.steps(run.L0))
    dataset = dataclasses.replace(images, **moved)
    return ProbeContext(model, build_task(run, dataset), dataset, file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_on_a_gpu_sees_what_it_sees_on_a_cpu(kind: str):
    on_gpu, on_cpu = (KINDS[kind](context(device)) for device in ("cuda", "cpu"))
    assert on_gpu.keys() == on_cpu.keys()
    for frame, columns in on_cpu.items():
        for name, values in columns.items():
            if name in COUNTED:  # one entry on the other side of a threshold is another number
                continue
            for got, want in zip(on_gpu[frame][name], values, strict=True):
                if isinstance(want, float | np.floating):
                    assert got == pytest.approx(want, rel=1e-2 if name in RATIOS else 2e-3, abs=1e-4), (frame, name)
                else:
                    assert got == want, (frame, name)
