"""Remedies in params.yaml: every form loads in the modes of the table and in no other, and what is wrong is named."""

import re
from typing import get_args

import pytest

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.remedies import ORACLES, RESERVED, mode_of
from lgmamba.config.study import Params, load_params
from lgmamba.remedies.configs import MODES
from lgmamba.tasks.configs import Kinds
from tests.config.studies import PARAMS, ROOT, error, study, values
from tests.remedies.contract import ALL, FORMS
from tests.remedies.contract import values as entry

BOTH = ("prefix", "stream")
SPECTRUM = ("spectrum", "mult")
RUNNING = entry(("step_size", "power"), "stream", name="running")
RETAIN = entry(("retain_insert", "gains"), "stream", name="retain")


def test_every_kind_and_form_is_tested():
    assert set(FORMS) == set(MODES)


@pytest.mark.parametrize(("key", "mode"), ALL, ids=str)
def test_every_form_loads_in_its_modes_and_survives_a_round_trip(key, mode):
    params = study(remedies=[entry(key, mode)])
    (found,) = params.remedies
    assert (found.kind, found.form_name, found.mode) == (*key, mode)
    assert found.description
    again = validate(Params, params.model_dump(mode="json"), "study.json")
    assert again == params


@pytest.mark.parametrize(("key", "modes"), MODES.items(), ids=str)
def test_another_mode_is_refused_with_the_one_that_works(key, modes):
    for mode in set(BOTH) - set(modes):
        message = error(values(remedies=[entry(key, mode)]))
        assert "remedies.0" in message
        assert f"remedy 'tried': found mode: {mode}" in message
        assert f"expected mode: {modes[0]}" in message


def test_bounds_stand_in_files_only_where_they_are_set():
    plain, bounded = study(
        remedies=[entry(SPECTRUM, "prefix"), entry(SPECTRUM, "prefix", name="b", bounds=[0.01, 1])]
    ).remedies
    assert "bounds" not in plain.model_dump(mode="json")
    assert bounded.model_dump(mode="json")["bounds"] == [0.01, 1.0]
    assert bounded.description == plain.description + ", s from 0.01 to 1"


def test_a_combination_has_the_mode_of_its_parts_and_needs_no_kind():
    params = study(remedies=[RUNNING, RETAIN, {"name": "both", "combine": ["running", "retain"]}])
    assert params.remedies[2].combine == ["running", "retain"]
    assert mode_of(params.remedies[2], params.remedies) == "stream"
    assert validate(Params, params.model_dump(mode="json"), "study.json") == params


WRONG = {
    "a name twice": ([RUNNING, RUNNING], ["remedies.1.name: found 'running'", "another entry has"]),
    "a name that is taken": ([RUNNING | {"name": "freeze"}], ["remedies.0.name: found 'freeze'", "always there"]),
    "no name": ([{k: v for k, v in RUNNING.items() if k != "name"}], ["remedies.0.name: required key is missing"]),
    "a name with a space": ([RUNNING | {"name": "a b"}], ["remedies.0.name: found 'a b', expected: letters (a to z, A to Z), digits and _"]),
    "an unknown kind": ([RUNNING | {"kind": "stepsize"}], ["remedies.0.kind: found 'stepsize'", "assemble", "did you mean 'step_size'"]),
    "an unknown form": ([RUNNING | {"form": "powr"}], ["remedies.0.form: found 'powr'", "'power'"]),
    "a typo": ([RUNNING | {"pp": 1}], ["remedies.0.pp: unknown key (value 1); did you mean 'p'?"]),
    "a switch": ([RUNNING | {"p": True}], ["remedies.0", "p: true"]),
    "neither factor nor calibration": (
        [entry(SPECTRUM, "prefix", calibrate="none")],
        ["remedies.0", "a factor or a way to calibrate one", "factor: null"],
    ),
    "factor and calibration": ([entry(SPECTRUM, "prefix", factor=2.0)], ["got factor: 2.0, calibrate: gradient"]),
    "factor 0": ([entry(SPECTRUM, "prefix", calibrate="none", factor=0)], ["remedies.0.factor: found 0"]),
    "a closed form of modes": ([entry(SPECTRUM, "prefix", start="closed_form", scope="mode")], ["found form: mult, scope: mode"]),
    "a start of no search": (
        [entry(("step_size", "layer"), "prefix", start="closed_form")],
        ["start: closed_form with calibrate: closed_form"],
    ),
    "a start of a power": ([RUNNING | {"calibrate": "gradient", "start": "closed_form"}], ["closed_form knows form: layer; found form: power"]),
    "a closed form of channels": (
        [entry(("step_size", "channel"), "prefix", calibrate="closed_form", factor=None)], ["closed_form knows form: layer; found form: channel"],
    ),
    "bounds of a power": ([RUNNING | {"bounds": [0.5, 2]}], ["bounds belong to the factors of forms layer and channel"]),
    "bounds without 1": ([entry(SPECTRUM, "prefix", bounds=[0.1, 0.5])], ["low <= 1 <= high", "bounds: [0.1, 0.5]"]),
    "bounds of a given factor": (
        [entry(SPECTRUM, "prefix", calibrate="none", factor=0.5, bounds=[0.1, 1])], ["of a calibrated factor", "calibrate: none"],
    ),
    "bounds of a band": ([entry(("spectrum", "clip"), "prefix", bounds=[0.1, 1])], ["leave out calibrate, factor and bounds"]),
    "no band": ([entry(("spectrum", "clip"), "prefix", band=None)], ["form clip expects band: [low, high]"]),
    "an empty band": ([entry(("spectrum", "clip"), "prefix", band=[0.5, 0.5])], ["low < high", "(0.5, 0.5)"]),
    "a power of the sum": ([entry(("step_size", "norm"), "prefix", p=1.0)], ["p belongs to forms uniform and power"]),
    "a factor of a power": ([RUNNING | {"factor": 2.0}], ["factor belongs to forms layer and channel"]),
    "a calibrated L0/T": ([entry(("step_size", "uniform"), "prefix", calibrate="gradient")], ["calibrate: gradient with form: uniform"]),
    "a layer that no run has": (
        [entry(("decimamba", "step_size"), "prefix", layers=[0, 2])],
        ["remedies.0.layers: found [0, 2]", "layers 0..1 of run 'plain'"],
    ),
    "layers that descend": ([entry(("decimamba", "step_size"), "prefix", layers=[1, 0])], ["layers ascending", "[1, 0]"]),
    "two layers in a stream": ([entry(("decimamba", "step_size"), "stream", layers=[0, 1])], ["in stream mode one layer decimates"]),
    "random steps of a bound": (
        [entry(("longmamba", "bound"), "prefix", steps="random")],
        ["random steps are kept at the rate of closed_form", "threshold: bound"],
    ),
    "a clamp of a closed form": ([entry(("longmamba", "closed_form"), "prefix", clamp=0.1)], ["clamp belongs to as_released"]),
    "a short window in a stream": ([entry(("window", "exact"), "stream", r=0.5)], ["found r: 0.5 in stream mode", "expected r >= 1"]),
    "groupings in a stream": (
        [entry(("assemble", "consecutive"), "stream", groupings=4)], ["found groupings: 4 with mode: stream", "mode: prefix"]
    ),
    "groupings of the newest": (
        [entry(("assemble", "cover"), "prefix", groupings=4, take="newest")], ["take: newest; expected mode: prefix and take: mean"]
    ),
    "a schedule that knows T": ([entry(("schedule", "modes"), "prefix")], ["schedule of form modes runs in stream mode only"]),
    "several groupings in a stream": (
        [entry(("assemble", "consecutive"), "stream", groupings=3)],
        ["found groupings: 3 with mode: stream", "expected mode: prefix"],
    ),
    "a horizon of one step": ([RETAIN | {"horizon": 1}], ["remedies.0.horizon: found 1"]),
    "a combination of nothing known": (
        [RUNNING, {"name": "two", "combine": ["running", "retain"]}],
        ["remedies.1.combine: found 'retain'", "['running']"],
    ),
    "a combination of one": ([RUNNING, {"name": "two", "combine": ["running"]}], ["remedies.1.combine: found ['running']"]),
    "a combination of two modes": (
        [RUNNING, entry(("step_size", "uniform"), "prefix", name="uniform"), {"name": "two", "combine": ["running", "uniform"]}],
        ["remedies.2.combine", "running: stream, uniform: prefix", "one mode"],
    ),
    "a combination with windows of its own": (
        [RUNNING, entry(("assemble", "consecutive"), "stream", name="windows"), {"name": "two", "combine": ["running", "windows"]}],
        ["remedies.2.combine: found 'windows' of kind assemble", "cannot be combined"],
    ),
    "a combination of two scans": (
        [RETAIN, entry(("window", "exact"), "stream", name="window"), {"name": "two", "combine": ["window", "retain"]}],
        ["remedies.2.combine", "two replace the scan"],
    ),
    "a typo in a combination": (
        [RUNNING, RETAIN, {"name": "two", "combine": ["running", "retain"], "moode": "stream"}],
        ["remedies.2.moode: unknown key"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("remedies", "parts"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_named_with_what_was_found_and_expected(remedies, parts):
    message = error(values(remedies=remedies))
    for part in parts:
        assert part in message


def test_a_combination_of_entries_that_are_not_there_is_told_before_claims_are_looked_at():
    sides = {"of": {"run": "plain", "at": "L0"}, "minus": {"run": "told", "at": "L0"}}
    claim = {"name": "C1", "claim": "One is better", "claimed": "above"} | sides
    both = {"name": "both", "combine": ["gone", "away"]}
    message = error(values(remedies=[both], claims={"primary": [claim]}))
    assert "remedies.0.combine: found 'gone', expected names of other entries that are no combinations: []" in message


def test_every_row_that_is_always_there_keeps_its_name():
    for name in RESERVED:
        assert f"found '{name}'" in error(values(remedies=[RUNNING | {"name": name}]))


@pytest.mark.parametrize(
    ("remedy_evaluation", "parts"),
    [
        ({"runs": ["plain", "gone"]}, ["remedy_evaluation.runs.1: found 'gone'", "one of the runs"]),
        ({"runs": ["plain", "plain"]}, ["remedy_evaluation.runs.1: found 'plain' twice"]),
        ({"runs": []}, ["remedy_evaluation.runs: found []"]),
        ({"length_ratios": [0.5]}, ["remedy_evaluation.length_ratios.0: found 0.5"]),
        ({"images": 0}, ["remedy_evaluation.images: found 0"]),
        ({"orders": ["zigzag"]}, ["remedy_evaluation.orders.0: found 'zigzag'"]),
        ({"calibration": {"images": 1}}, ["remedy_evaluation.calibration.images: found 1"]),
        ({"calibration": {"lengths": [1]}}, ["remedy_evaluation.calibration.lengths.0: found 1", "greater than 1"]),
        ({"calibration": {"lengths": [4, 2]}}, ["remedy_evaluation.calibration.lengths: found [4, 2]", "ascending"]),
    ],
)
def test_how_remedies_are_tried_is_checked(remedy_evaluation, parts):
    message = error(values(remedy_evaluation=remedy_evaluation))
    for part in parts:
        assert part in message


def test_remedies_need_to_be_told_where_they_are_tried_and_a_study_needs_neither():
    wrong = values(remedies=[RUNNING])
    wrong["remedy_evaluation"] = None
    assert "remedy_evaluation: required where remedies are listed" in error(wrong)
    assert validate(Params, wrong | {"remedies": []}, "params.yaml").remedy_evaluation is None
    assert (
        validate(Params, {k: v for k, v in wrong.items() if k not in ("remedies", "remedy_evaluation")}, "p").remedies
        == []
    )


def test_steps_are_multiples_of_L0_and_a_few_up_to_it():
    remedy_evaluation = study(remedy_evaluation={"length_ratios": [1, 1.5, 2, 25]}).remedy_evaluation
    assert remedy_evaluation.steps(16) == [4, 8, 16, 24, 32, 400]
    assert remedy_evaluation.steps(1) == [1, 2, 25]


def test_entries_are_told_apart_by_words():
    entries = [entry(key, mode, name=f"e{i}") for i, (key, mode) in enumerate(ALL)]
    description = {(e.description, e.mode) for e in study(remedies=entries).remedies}
    assert len(description) == len(entries)


def test_the_documentation_names_every_kind_with_its_forms_and_modes():
    table = (ROOT / "docs" / "remedies.md").read_text().split("| kind | form")[1].split("\n\n")[0]
    documented, kind = {}, ""
    for line in table.splitlines()[2:]:
        names, forms, modes, _ = (cell.strip() for cell in line.strip("|").split("|"))
        kind = names.strip("`") or kind
        for form in re.findall(r"`(?:\w+: )?(\w+)`", forms):
            form = "random_steps" if forms == "`steps: random`" else form
            documented.setdefault((kind, form), set()).update(BOTH if modes == "both" else {modes})
    assert documented == {key: set(modes) for key, modes in MODES.items()}


def test_no_remedy_has_the_name_of_what_a_task_knows_best():
    """Such a row stands beside the remedies, and is none of them."""
    oracles = {task.ORACLE for task in get_args(Kinds) if task.ORACLE is not None}
    assert oracles == set(ORACLES) <= set(RESERVED)


def test_an_overlay_replaces_the_list_and_merges_how_it_is_tried():
    base = load_params(PARAMS)
    params = load_params(PARAMS, overrides={"remedies": [], "remedy_evaluation": {"images": 7}})
    assert params.remedies == []
    assert params.remedy_evaluation == base.remedy_evaluation.model_copy(update={"images": 7})
    with pytest.raises(ConfigError, match=r"remedy_evaluation\.imagez: unknown key"):
        load_params(PARAMS, overrides={"remedy_evaluation": {"imagez": 7}})
