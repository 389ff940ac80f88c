"""Studies load, expand into runs, survive a round trip, and agree with the tables that implement them."""

import json
import re
from itertools import pairwise
from typing import get_args

import pytest

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig, ScanBackend
from lgmamba.config.study import Params, load_params
from lgmamba.mixers import kernels
from lgmamba.scan.api import BACKENDS
from lgmamba.tasks.draw.config import OrderName
from lgmamba.tasks.draw.orders import ORDERS
from tests.config.studies import ADAPTIVE, PARAMS, PRESETS, ROOT, error, study, values

LENGTHS = {
    "fixed": {"kind": "fixed", "value": 9},
    "log_uniform": {"kind": "log_uniform", "low": 2, "high": 9},
    "choice": {"kind": "choice", "weights": {4: 1, 16: 2.5}},
    "geometric": {"kind": "geometric", "mean": 3.5, "max": 12},
    "mixture": {"kind": "mixture", "parts": [{"weight": 1, "lengths": {"kind": "fixed", "value": 12}}]},
    "curriculum": {
        "kind": "curriculum",
        "start": {"kind": "choice", "weights": {1: 1, 3: 1}},
        "end": {"kind": "uniform", "low": 1, "high": 8},
        "over": 0.5,
    },
}


def test_runs_of_one_name_are_the_same_training_in_every_study_on_cifar10():
    """Presets repeat a few runs of `cifar10`; their reports compare them as if they were one."""
    first = load_params(PARAMS, "cifar10")
    grid, shared = first.run_configs(), 0
    for preset in (name for name in PRESETS if name.startswith("cifar10_")):
        study = load_params(PARAMS, preset)
        anywhere = {"path": "", "test_path": ""}  # the same files, from the hub or a folder
        sources = [params.data.source.model_copy(update=anywhere) for params in (study, first)]
        assert study.data.model_copy(update={"source": sources[0]}) == first.data.model_copy(
            update={"source": sources[1]}
        )
        for key, run in study.run_configs().items():
            if key in grid:
                same = {"study": "cifar10", "images": grid[key].images}
                assert run.model_copy(update=same) == grid[key], (preset, key)
                shared += 1
    assert shared >= 4


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_params_and_presets_load_and_expand(preset):
    params = load_params(PARAMS, preset)
    assert set(params.run_configs()) == {(name, seed) for name in params.runs for seed in params.seeds_of(name)}
    assert all((run.run, run.seed) == key for key, run in params.run_configs().items())
    assert params.L0 == max(run.L0 for run in params.runs_by_name().values())


@pytest.mark.parametrize("preset", ["mixers_digits", "mixers_omniglot", "mixers_cifar10"])
def test_runs_that_contrasts_of_mixers_judge_have_the_trainings_for_a_verdict(preset):
    params = load_params(PARAMS, preset)
    sides = [side for contrast in params.claims.primary for side in (contrast.of, contrast.minus)]
    judged = {run for side in sides for run in side.runs}
    assert {name for name in params.runs if name.endswith("_uniform")} <= judged
    assert all(len(params.seeds_of(name)) >= params.claims.seeds for name in judged)


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_dump_and_validate_are_inverse_for_params_and_runs(preset):
    params = load_params(PARAMS, preset)
    assert validate(Params, json.loads(params.model_dump_json()), "json") == params
    for run in params.run_configs().values():
        assert validate(RunConfig, json.loads(run.model_dump_json()), "json") == run


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_dump_and_validate_are_inverse_for_every_kind_of_length(lengths):
    params = study(task={"lengths": lengths}, runs={"plain": None, "told": {"model": {"adaptive": ADAPTIVE}}})
    assert validate(Params, json.loads(params.model_dump_json()), "json") == params
    for run in params.run_configs().values():
        assert run.task.lengths == params.task.lengths
        assert validate(RunConfig, json.loads(run.model_dump_json()), "json") == run


def test_each_run_is_the_base_with_its_own_overrides():
    runs = study().runs_by_name()
    assert [runs[name].L0 for name in ("fixed_4", "fixed_12", "plain", "told")] == [4, 12, 16, 16]
    assert runs["plain"].model.adaptive is None
    assert runs["told"].model.adaptive.model_dump() == ADAPTIVE
    assert runs["told"].model.model_copy(update={"adaptive": None}) == runs["plain"].model
    assert {(run.task.order, run.train) for run in runs.values()} == {(study().task.order, study().train)}


def test_probe_steps_are_powers_of_two_all_training_lengths_and_multiples_of_the_own_one():
    params = study()
    runs = params.runs_by_name()
    # each: powers of two, every L0, extra, 25 x the largest L0 | length_ratios, far_length_ratios and max_length_ratio x its own L0
    common = {1, 2, 4, 8, 16, 32, 64, 128, 256} | {4, 12, 16} | {3} | {400}
    assert params.evaluation_steps(runs["plain"]) == sorted(common | {20, 24, 32, 64, 128, 256} | {80} | {400})
    assert params.evaluation_steps(runs["fixed_12"]) == sorted(common | {15, 18, 24, 48, 96, 192} | {60} | {300})
    assert params.evaluation_steps(runs["fixed_4"]) == sorted(common | {5, 6, 8, 16, 32, 64} | {20} | {100})


def test_pictures_are_kept_at_sixty_steps_evenly_apart_on_a_log_scale_and_the_same_for_every_run():
    steps = study().panel_steps()
    assert len(steps) == 60
    assert {1, 2, 4, 8, 16, 32, 64, 128, 256, 12, 3, 20, 24, 400} < set(steps)
    assert steps[:16] == [*range(1, 17)]  # all of them while they are few
    assert max(b / a for a, b in pairwise(steps[15:])) < 1.13
    few = {"max_length_ratio": 2, "length_ratios": [2], "extra_steps": [3]}
    assert study(evaluation=few, claims={"far_length_ratios": [2]}).panel_steps() == [*range(1, 33)]


def test_probe_steps_end_at_the_largest_factor():
    params = study(
        evaluation={"max_length_ratio": 3, "length_ratios": [2, 4], "extra_steps": [47, 48, 49]},
        claims={"far_length_ratios": [2]},
    )
    steps = params.evaluation_steps(params.runs_by_name()["plain"])
    assert steps == [1, 2, 4, 8, 12, 16, 32, 47, 48]


def test_merging_goes_key_by_key_and_changes_neither_side():
    base, overlay = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": {"z": 5}}, "c": 4}
    assert merge(base, overlay) == {"a": {"x": 1, "y": {"z": 5}}, "b": 3, "c": 4}
    assert (base, overlay) == ({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": {"z": 5}}, "c": 4})


def test_merging_replaces_runs_weights_and_mappings_of_another_kind_whole():
    assert merge({"runs": {"a": {}, "b": {}}}, {"runs": {"c": None}}) == {"runs": {"c": None}}
    weighted = {"kind": "choice", "weights": {"4": 1.0, "16": 1.0}}
    assert merge({"lengths": weighted}, {"lengths": {"weights": {8: 1}}})["lengths"]["weights"] == {8: 1}
    uniform, fixed = {"kind": "uniform", "low": 1, "high": 4}, {"kind": "fixed", "value": 4}
    assert merge({"lengths": uniform}, {"lengths": fixed}) == {"lengths": fixed}
    assert merge({"lengths": uniform}, {"lengths": {"high": 9}}) == {"lengths": uniform | {"high": 9}}
    assert merge({"lengths": uniform}, {"lengths": {"kind": "uniform", "high": 9}}) == {
        "lengths": uniform | {"high": 9}
    }
    assert merge({"adaptive": ADAPTIVE}, {"adaptive": None}) == {"adaptive": None}
    assert merge({"adaptive": None}, {"adaptive": ADAPTIVE}) == {"adaptive": ADAPTIVE}


def test_overrides_go_over_the_preset_which_goes_over_params(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("study: mine\ntrain: {lr: 0.5, grad_clip: 7}\n")
    base, params = load_params(PARAMS), load_params(PARAMS, str(overlay), {"train": {"lr": 0.25}})
    assert (params.study, params.train.lr, params.train.grad_clip) == ("mine", 0.25, 7)
    assert params.train.betas == base.train.betas


def test_every_choice_of_the_configuration_is_implemented_and_back():
    assert tuple(ORDERS) == get_args(OrderName)
    assert set(get_args(ScanBackend)) == {"auto", *BACKENDS, kernels.NAME}


def test_the_comment_on_scan_backend_lists_the_backends_that_exist():
    line = next(line for line in PARAMS.read_text().splitlines() if line.strip().startswith("scan_backend:"))
    listed = re.findall(r"\w+", line.partition("#")[2].partition(";")[0])
    assert set(listed) == {"auto", *BACKENDS, kernels.NAME}


def test_derived_sizes():
    model = study(model={"d_model": 50, "mixer": {"expand": 1.51, "dt_rank": "auto"}}).model
    assert (model.channels, model.mixer.rank(model)) == (75, 4)
    model = study(model={"mixer": {"dt_rank": 7}}).model
    assert model.mixer.rank(model) == 7


def test_a_study_without_state_passing_is_written_as_before_there_was_any():
    run = study().runs_by_name()["plain"]
    assert "state_passing" not in run.model_dump_json()
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    passing = {"kind": "noise", "max_factor": 4.0, "share": 0.5}
    runs = {"plain": {"train": {"state_passing": None}}, "passed": None, "told": {"model": {"adaptive": ADAPTIVE}}}
    runs["told"]["train"] = {"state_passing": None}
    params = study(train={"state_passing": passing}, runs=runs).runs_by_name()
    assert params["passed"].train.state_passing.model_dump() == passing
    assert params["plain"].train.state_passing is None
    assert RunConfig.model_validate_json(params["passed"].model_dump_json()) == params["passed"]


def test_lengths_that_are_looked_into_begin_with_L0():
    found = study(probes={"runs": ["plain"], "length_ratios": [25, 1.01, 2]})
    assert found.probes.steps(16) == [16, 17, 32, 400]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"runs": ["gone"]}, "probes.runs.0: found 'gone', expected: one of the runs"),
        ({"runs": ["plain", "plain"]}, "runs with each entry once; got ['plain', 'plain']"),
        ({"length_ratios": [2, 2]}, "length_ratios with each entry once; got [2.0, 2.0]"),
        ({"length_ratios": [1]}, "probes.length_ratios.0: found 1, expected: greater than 1"),
        ({"images": 1}, "probes.images: found 1, expected: greater than or equal to 2"),
    ],
)
def test_a_wrong_look_is_refused(given, line):
    assert line in error(values(probes=given))


def test_folders_are_named_after_the_study_unless_they_are_given():
    def outputs(**changes):
        found = load_params(ROOT / "params.yaml", overrides=changes).outputs
        return str(found.data), str(found.results), str(found.reports)

    assert outputs(study="photos") == ("data/photos", "results/photos", "reports/photos")
    assert outputs(study="photos", outputs={"data": "data/mine"}) == ("data/mine", "results/photos", "reports/photos")


@pytest.mark.parametrize("path", ["/tmp/x", "../x", "results/../../x"])
@pytest.mark.parametrize("section, key", [("outputs", "data"), ("outputs", "reports"), ("tracking", "store")])
def test_folders_outside_the_repository_are_refused_unless_it_is_said(path, section, key):
    changes = {section: {key: path}}
    with pytest.raises(
        ConfigError, match=rf"{section}\.{key}: found '{path}', expected: a folder below the repository"
    ):
        load_params(ROOT / "params.yaml", overrides=changes)
    load_params(ROOT / "params.yaml", overrides=merge(changes, {"outputs": {"outside": "allow"}}))
