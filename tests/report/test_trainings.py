"""What the report says of how single runs were trained, and with how many seeds, where that is not as the study's other runs."""

from pathlib import Path

import pytest

from lgmamba.analysis.families import describe_in
from lgmamba.config.study import load_params
from lgmamba.report.captions import SHARED, Sample, captions, seeds_drawn
from lgmamba.report.context import more_seeds
from lgmamba.report.method import method_lines

ROOT = Path(__file__).parents[2]
RUNS = {
    "plain": {},
    "more": {"more_seeds": [7, 8]},
    "quick": {"train": {"lr": 0.05}},
    "tuned": {"train": {"init_from": "plain", "batch_size": 4}},
    "shared": {"train": {"init_from": "weights/some.safetensors"}},
    "drawn": {"task": {"order": "replacement"}},
}


@pytest.fixture(scope="module")
def params():
    changes = {"runs": RUNS, "seeds": [0, 1], "claims": {"comparisons": [], "primary": []}}
    changes["remedy_evaluation"] = {"runs": ["plain"]}
    changes["probes"] = {"runs": ["plain", "more"], "kinds": ["read_outs"]}
    return load_params(ROOT / "params.yaml", "smoke", changes)


def test_runs_that_were_trained_in_another_way_say_so(params):
    said = {name: describe_in(params, name) for name in RUNS}
    lengths = said["plain"]
    assert said == {
        "plain": lengths,
        "more": lengths,
        "quick": f"{lengths}; peak learning rate 0.05",
        "tuned": f"{lengths}; from the weights of plain; 4 images a step",
        "shared": f"{lengths}; from given weights",
        "drawn": f"{lengths}; order replacement",
    }


@pytest.mark.parametrize(
    ("rates", "said"), [((0.01, 0.02), "a peak learning rate of its own"), ((None, 0.02), "rate 0.003.")]
)
def test_a_rate_that_no_run_has_is_not_named(rates, said):
    runs = {f"run_{k}": {} if rate is None else {"train": {"lr": rate}} for k, rate in enumerate(rates)}
    changes = {"runs": runs, "seeds": [0, 1], "claims": {"comparisons": [], "primary": []}, "train": {"lr": 0.003}}
    changes |= {"remedies": [], "remedy_evaluation": None, "probes": None}
    params = load_params(ROOT / "params.yaml", "smoke", changes)
    (training,) = (
        line for line in method_lines(params, Sample((2, 2), 24, "test", 1, "permutation")) if "Training" in line
    )
    assert said in training and ("0.003" in training) == (None in rates)


def test_seeds_of_single_runs_are_listed(params):
    assert more_seeds(params) == ["`more` 7 and 8"]


def test_figures_about_some_runs_count_the_trainings_of_these(params, tmp_path, monkeypatch):
    monkeypatch.setattr("lgmamba.report.captions.PAIRED", ())  # their frames say it
    drawn = seeds_drawn(params, tmp_path)
    assert drawn == {"remedies": (2, 2), "remedies_retention": (2, 2), "read_outs": (2, 4)}
    said = captions(params, Sample((2, 4), 24, "test", 1, "permutation"), "8 test images", drawn=drawn)
    assert "lowest to highest of 2 seeds" in said["remedies"]
    assert "mean over 2 to 4 seeds" in said["read_outs"] and "mean over 2 to 4 seeds" in said["curves"]
    assert not any(SHARED in said[figure] for figure in drawn)  # all trainings of these runs are in them
