"""The examples of docs/add_a_probe.md and docs/add_a_figure.md are run, and are what they say."""

import polars as pl
import torch

from lgmamba.config.files import ProbesFile
from lgmamba.config.probes import ProbesConfig
from lgmamba.figures.style import Style, use_style
from lgmamba.probe import probes
from lgmamba.probe.context import ProbeContext
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.registry import build_task
from tests.analysis.synthetic_probes import PROBES, noise
from tests.mixers.test_docs import run_page
from tests.train.tiny import tiny_run


def context() -> ProbeContext:
    run = tiny_run()
    torch.manual_seed(0)
    model = PatchMamba(run.model, (1, 8, 8), run.task.patch_size, run.L0).eval().requires_grad_(False)
    config = ProbesConfig.model_validate(PROBES | {"runs": [run.run]})
    file = ProbesFile(run=run, probes=config, split="test", steps=config.steps(run.L0))
    return ProbeContext(model, build_task(run, noise()), noise(), file)


def test_the_example_of_a_probe_makes_its_frame():
    page = run_page("add_a_probe")
    page.check(context())
    assert "growth" not in probes.PROBES  # an example, and no probe of the package


def test_the_example_of_a_figure_draws_its_frame():
    page = run_page("add_a_figure")
    rows = [
        {"run": run, "kind": "generalist", "L0": 4, "step": 4 * f, "factor": float(f), "delta": -0.5 * f}
        for run in ("one", "two")
        for f in (1, 2, 8)
    ]
    frame = page.lost_rows(pl.DataFrame(rows))
    assert frame["factor"].to_list() == [2.0, 8.0] * 2 and frame["lost"].to_list() == [1.0, 4.0] * 2
    use_style()
    page.check(frame, Style(["one", "two"]))
