"""These studies in Snakemake: what is planned, and what is refused before any job."""

import pytest

from lgmamba.tradeoff.config import load_tradeoff
from lgmamba.tradeoff.jobs import FIGURES
from tests.workflow.checkouts import ROOT, copy_repository

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_every_job_of_the_preset_is_planned_and_wrong_values_stop_before(tmp_path):
    checkout = copy_repository(tmp_path / "repository")
    stacks = load_tradeoff("tradeoff", root=ROOT).stacks()
    expected = {"data": 1, "train": len(stacks), "evaluate": 1, "figure": len(FIGURES), "report": 1}
    assert checkout.planned("--config", "preset=tradeoff") == expected
    text = checkout.snakemake("--config", "preset=tradeoff", "tradeoff={weights: [0, 2, 1]}", ok=False)
    assert "tradeoff.weights.1: found 2" in text and "Traceback" not in text
    assert not (checkout.path / "results").exists()
