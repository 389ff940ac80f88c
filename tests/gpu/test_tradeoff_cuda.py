"""Stacks of encoders on a GPU do what they do on a CPU, and the stage trains, probes and writes there, in bfloat16 too."""

import json

import pytest
import torch

from lgmamba.data.build import build_dataset
from lgmamba.tradeoff.stage import stack_files, train_stack
from lgmamba.tradeoff.training import Split
from tests.tradeoff.studies import images, stack, study
from tests.tradeoff.test_stacked import ENCODERS, trained

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_stack_is_trained_as_on_a_cpu(kind):
    file, split = stack(encoder=ENCODERS[kind]), images()
    here, seen = trained(file, split)
    there, seen_there = trained(file, Split(split.images.cuda(), split.labels.cuda()), device="cuda")
    for part, other in zip(here.parts, there.parts, strict=True):
        for name, value in part.parameters.items():
            torch.testing.assert_close(other.parameters[name].cpu(), value, rtol=1e-7, atol=1e-9)
    for step, other in zip(seen, seen_there, strict=True):
        for name, value in step.items():
            torch.testing.assert_close(other[name].cpu(), value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stage_runs_there(precision, tmp_path):
    params, file = study(), stack()
    build_dataset(params.data, params.patch_sizes, tmp_path / "data", workers=1, progress=False)
    file = file.model_copy(update={"train": file.train.model_copy(update={"precision": precision})})
    about = train_stack(file, tmp_path / "data", tmp_path / "out", torch.device("cuda"))
    assert (about["device"], about["bf16"]) == ("cuda", precision == "bf16")
    written = json.loads((tmp_path / "out" / "stack.json").read_text())
    assert written["counts"] == about["counts"]
    assert set(stack_files(file)) <= {path.name for path in (tmp_path / "out").iterdir()}
