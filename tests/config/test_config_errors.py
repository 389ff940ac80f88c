"""What a configuration may not say; every message names the key, what was found and what was expected."""

import json
import math
import re

import pytest

from lgmamba.config.base import ConfigError, _at, _renamed_at, validate
from lgmamba.config.files import read_config
from lgmamba.config.study import Params, load_params
from tests.config.studies import ADAPTIVE, PARAMS, PRESETS, at, changed, dotted, error, leaves, mappings, study, values

PASSING = {"kind": "same_image", "max_factor": 4, "share": 0.5}
POST = {"kind": "mamba2", "d_state": 4, "head": 8, "post": {"length": 16}}
COMPARISON = {"generalist": "plain", "adaptive": "told"}
OPTIONAL = {"data.n_classes", "data.max_images", "tracking.store", "evaluation.precision"}
OPTIONAL |= {
    "claims",
    *(f"claims.{key}" for key in ("comparisons", "fixed", "margin", "level", "seeds", "primary", "far_length_ratios")),
    "probes",
    *(
        f"probes.{key}"
        for key in ("length_ratios", "attention_images", "attention_rows", "gradient_probes", "swaps", "read_every")
    ),
    "remedies",
    "remedy_evaluation",
    "remedy_evaluation.repeats",
    "remedy_evaluation.calibration.order",
    "train.length_power",
    "data.resampling",
    "task.kind",
    "model.mixer.conv",
}
JARGON = re.compile(
    r"[Ii]nput|\btag\b|discriminator|[Dd]ictionar|instance|[Tt]uple|\bvalid |parse|after validation|should|constrained|literal|<class|"
    r"\b(None|True|False)\b"
)
"""Words of pydantic and of Python."""
NEEDED_BY_TASK = {"model.position", "model.decoder"}
"""Null for other tasks; each run says that its own needs them."""
WRONG = {
    "bad order": ({"task": {"order": "zigzag"}}, ["task.order", "'zigzag'", "'hilbert'"]),
    "bad kind of length": ({"task": {"lengths": {"kind": "unifor"}}}, ["task.lengths", "'unifor'", "'uniform'"]),
    "bad kind of mixer": (
        {"model": {"mixer": {"kind": "mamba9"}}},
        ["model.mixer.kind: found 'mamba9'", "mamba2", "gru", "did you mean 'mamba'"],
    ),
    "bad backend": ({"model": {"scan_backend": "cud"}}, ["model.scan_backend", "'cud'", "'cpu_numba'"]),
    "low above high": ({"task": {"lengths": {"low": 20}}}, ["task.lengths:", "low <= high", "low=20", "high=16"]),
    "length 0": ({"task": {"lengths": {"low": 0}}}, ["task.lengths.low", "found 0", "equal to 1"]),
    "patch size 0": ({"task": {"patch_size": 0}}, ["task.patch_size", "found 0", "equal to 1"]),
    "half a patch": ({"task": {"patch_size": 1.5}}, ["task.patch_size", "found 1.5", "a whole number"]),
    "no supervised step": ({"task": {"supervision": {"kind": "random_k", "k": 0}}}, ["task.supervision.k", "found 0"]),
    "warm-up to the end": ({"train": {"warmup_steps": 100}}, ["train:", "warmup_steps < steps", "100 and 100"]),
    "betas above 1": ({"train": {"betas": [0.9, 2]}}, ["train.betas.1", "found 2", "less than 1"]),
    "seeds twice": ({"seeds": [3, 4, 3]}, ["seeds", "[3, 4, 3]", "each seed once"]),
    "no seeds": ({"seeds": []}, ["seeds", "found []", "at least 1"]),
    "no runs": ({"runs": {}}, ["runs", "found {}", "at least 1"]),
    "inner width 0": ({"model": {"d_model": 4, "mixer": {"expand": 0.1}}}, ["model:", "mixer.expand", "0.1 x 4"]),
    "dt_min above dt_max": ({"model": {"mixer": {"dt_min": 2}}}, ["model.mixer:", "dt_min < dt_max", "got 2.0"]),
    "factor below 1": (
        {"evaluation": {"length_ratios": [0.5]}},
        ["evaluation.length_ratios.0", "found 0.5", "equal to 1"],
    ),
    "length of weight 0": (
        {"task": {"lengths": {"kind": "choice", "weights": {4: 0}}}},
        ["task.lengths.weights.4", "found 0", "greater than 0"],
    ),
    "no lengths": ({"task": {"lengths": {"kind": "choice", "weights": {}}}}, ["task.lengths.weights", "found {}"]),
    "unreachable mean": (
        {"task": {"lengths": {"kind": "geometric", "mean": 6.5, "max": 11}}},
        ["task.lengths:", "mean <= (max + 1) / 2", "6.0", "got 6.5"],
    ),
    "curriculum within a curriculum": (
        {
            "task": {
                "lengths": {"kind": "curriculum", "start": {"kind": "curriculum"}, "end": {"kind": "fixed", "value": 1}}
            }
        },
        ["task.lengths.start.kind: found 'curriculum'", "fixed, uniform, log_uniform", "task.lengths.over: required"],
    ),
    "state passing without a kind": (
        {"train": {"state_passing": {"max_factor": 4, "share": 0.5}}},
        ["train.state_passing.kind: required key is missing; expected one of same_image, other_image, noise"],
    ),
    "bad kind of state passing": (
        {"train": {"state_passing": {"kind": "same", "max_factor": 4, "share": 0.5}}},
        ["train.state_passing.kind: found 'same'", "one of same_image, other_image, noise"],
    ),
    "nothing to pass": (
        {"train": {"state_passing": PASSING | {"max_factor": 0}}},
        ["train.state_passing.max_factor", "found 0", "greater than 0"],
    ),
    "a share above 1": (
        {"train": {"state_passing": PASSING | {"share": 1.5}}},
        ["train.state_passing.share", "found 1.5", "less than or equal to 1"],
    ),
    "no sequence has its share": (
        {"train": {"state_passing": PASSING | {"share": 0.001}}},
        ["train: expected", "state_passing.share x batch_size >= 1 with kind same_image", "got 0.001 x 64"],
    ),
    "noise of one state": (
        {"train": {"state_passing": PASSING | {"kind": "noise"}, "batch_size": 2}},
        ["train: expected", "state_passing.share x batch_size >= 2 with kind noise", "got 0.5 x 2"],
    ),
    "false for 0": ({"train": {"warmup_steps": False}}, ["train:", "warmup_steps: false", "a number"]),
    "true in a list": ({"seeds": [True]}, ["seeds: [true]", "a number"]),
}


@pytest.mark.parametrize(("overrides", "parts"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named_with_what_was_found_and_expected(overrides, parts):
    message = error(values(**overrides))
    assert message.startswith("params.yaml is invalid:\n  ")
    for part in parts:
        assert part in message


def test_all_problems_are_told_at_once_a_line_each():
    runs = {"a": {"train": {"lr": -1}}, "b": {"task": {"ordr": "snake"}}, **values()["runs"]}
    assert len(error(values(runs=runs)).splitlines()) == 3
    assert len(error(values(seeds=[-1], device="tpu", train={"lr": 0})).splitlines()) == 4


def test_every_key_misspelt_is_answered_with_the_right_one():
    tree = values(model={"adaptive": ADAPTIVE})
    del tree["runs"]
    checked = 0
    for path in mappings(tree):
        for key in at(tree, path):
            typo = key[:-1] + "_" + key[-1]
            message = error(changed(values(model={"adaptive": ADAPTIVE}), (*path, typo), 1))
            assert f"{dotted((*path, typo))}: unknown key (value 1); did you mean {key!r}?" in message
            checked += 1
    assert checked > 60


def test_an_old_name_of_a_key_is_answered_with_the_new_one_and_a_file_that_has_it_is_understood(tmp_path):
    tree, checked = values(), 0
    for path in ((), *mappings(tree)):
        known = tree if path == () else at(tree, path)
        for old, new in _renamed_at(_at(Params, path)).items():
            if new not in known:
                continue
            assert old not in known
            written = changed({key: value for key, value in tree.items()}, (*path, old), known[new])
            del at(written, path)[new]
            assert f"{dotted((*path, old))}: unknown key" in (message := error(written))
            assert f"; it is called {new!r} now" in message
            (tmp_path / "study.json").write_text(json.dumps(written))
            assert read_config(tmp_path / "study.json", Params) == study()
            checked += 1
    assert checked >= 5


def test_a_key_like_no_other_is_answered_with_all_that_exist():
    message = error(values(task={"supervision": {"zzz": 1}}))
    assert "task.supervision.zzz: unknown key (value 1); known keys here: kind" in message


def test_every_missing_key_is_named_unless_it_has_a_default():
    tree, optional = values(model={"adaptive": ADAPTIVE}), set()
    for path in mappings(tree):
        for key in at(tree, path) if path[:1] not in (("runs",), ("remedies",)) else ():
            broken = changed(tree, (*path, key), None)
            del at(broken, path)[key]
            if dotted((*path, key)) in OPTIONAL:
                optional.add(dotted((*path, key)))
                continue
            message = error(broken)
            if dotted((*path, key)) in NEEDED_BY_TASK:
                assert f"{dotted((*path, key))}: found null, expected: a value, which task draw needs" in message
                continue
            if path == ("model",) and key in ("position", "decoder"):  # of some tasks alone
                assert f"model.{key}: found null, expected: a value, which task draw needs" in message
            else:
                assert f"{dotted((*path, key))}: required key is missing" in message
    assert optional == OPTIONAL


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            {"model": {"adaptive": ADAPTIVE}, "train": {"state_passing": PASSING}},
            "found same_image, expected: null for a length-adaptive model (model.adaptive is set)",
        ),
        (
            {
                "task": {"lengths": {"kind": "fixed", "value": 1}},
                "train": {"state_passing": PASSING | {"max_factor": 0.4}},
            },
            "expected: max_factor x L0 >= 1 step; got 0.4 x 1",
        ),
        (
            {"model": {"mixer": POST}, "train": {"state_passing": PASSING}},
            "found same_image, expected: null with mixer mamba2, since its decays hang on the number of the step (post), and steps before",
        ),
    ],
    ids=["length-adaptive", "less than a step", "steps counted"],
)
def test_state_passing_that_does_not_fit_the_run_is_refused(override, line):
    message = error(values(runs=values()["runs"] | {"passed": override}))
    assert "runs.passed" in message
    assert f"train.state_passing: {line}" in message


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_no_number_may_be_nan_or_infinite(bad):
    dumped = study(model={"adaptive": ADAPTIVE}, task={"lengths": {"kind": "choice", "weights": {4: 1}}}).model_dump()
    numbers = [path for path, value in leaves(dumped) if isinstance(value, int | float) and path[0] != "runs"]
    assert len(numbers) > 40
    for path in numbers:
        assert f"{dotted(path)}" in (message := error(changed(dumped, path, bad)))
        assert f"found {bad}" in message
    runs = values()["runs"] | {"plain": {"train": {"lr": bad}}}
    assert f"runs.plain.train.lr: found {bad}, expected: a finite number" in error(values(runs=runs))


@pytest.mark.parametrize(
    ("comparison", "parts"),
    [
        (
            COMPARISON | {"adaptive": "tod"},
            [".adaptive: found 'tod'", "one of the runs", "'fixed_12', 'fixed_4', 'plain'"],
        ),
        (COMPARISON | {"generalist": "nobody"}, [".generalist: found 'nobody'", "one of the runs"]),
        (
            COMPARISON | {"adaptive": "fixed_4"},
            [".adaptive: found 'fixed_4'", "adaptive is null", "a length-adaptive run"],
        ),
        (COMPARISON | {"generalist": "told"}, [".generalist: found 'told'", "adaptive is set", "a plain run"]),
    ],
    ids=["unknown adaptive", "unknown generalist", "plain as adaptive", "adaptive as generalist"],
)
def test_a_comparison_names_runs_that_exist_and_play_their_part(comparison, parts):
    message = error(values(claims={"comparisons": [COMPARISON, comparison]}))
    assert "claims.comparisons.1" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["fixed-4", "4_fixed", "a b", "a/b", "", "a\n", "ä"])
def test_a_run_name_with_another_character_is_refused(name):
    message = error(values(runs=values()["runs"] | {name: None}))
    assert (
        f"runs.{name}: found {name!r}, expected: letters (a to z, A to Z), digits and _; starts with a letter"
        in message
    )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ({"train": {"lr": -1}}, "runs.odd.train.lr: found -1, expected: greater than 0"),
        ({"train": {"lrr": 1}}, "runs.odd.train.lrr: unknown key (value 1); did you mean 'lr'?"),
        ({"task": {"lengths": {"hihg": 4}}}, "runs.odd.task.lengths.hihg: unknown key (value 4); did you mean 'high'?"),
        ({"task": {"lengths": {"low": 99}}}, "runs.odd.task.lengths: expected: low <= high; got low=99, high=16"),
        ({"modl": {}}, "runs.odd.modl: unknown key (value {}); did you mean 'model'?"),
        ({"seed": 3}, "runs.odd.seed: unknown key (value 3); known keys here: model, more_seeds, note, task, train"),
        (
            {"study": "x"},
            "runs.odd.study: unknown key (value 'x'); known keys here: model, more_seeds, note, task, train",
        ),
        ({"data": {"image_size": 4}}, "runs.odd.data: unknown key (value {image_size: 4}); known keys here"),
        ({"task": None}, "runs.odd.task: found null"),
        (3, "runs.odd: found 3"),
    ],
    ids=["value", "typo", "typo below a kind", "rule", "typo of a section", "seed", "study", "data", "null", "number"],
)
def test_a_wrong_run_override_names_the_run_and_the_key(override, line):
    message = error(values(runs=values()["runs"] | {"odd": override}))
    assert line in message
    assert len(message.splitlines()) == 2
    assert "digits" not in message  # nothing of the rest of the study is quoted


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"task": {"kind": "drew"}}, "task.kind: found 'drew', expected one of draw, queried, "),
        ({"task": {"kind": "drew"}}, "; did you mean 'draw'?"),
        ({"task": {"lengths": {"kind": 3}}}, "task.lengths.kind: found 3, expected one of fixed, uniform, "),
        ({"task": {"lengths": 3}}, "task.lengths: found 3, expected: keys with values"),
        ({"model": {"mixer": {"kind": "zz"}}}, "model.mixer.kind: found 'zz', expected one of mamba, mamba2, "),
        (
            {"remedies": [{"name": "a"}]},
            "remedies.0.kind: required key is missing; expected one of step_size, spectrum, ",
        ),
        ({"remedies": [7]}, "remedies.0: found 7, expected: keys with values"),
        ({"data": 3}, "data: found 3, expected: keys with values"),
        ({"evaluation": {"precision": "bf16"}}, "evaluation.precision: found 'bf16', expected: 'fp32' or 'tf32'"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_should_have_a_kind_or_keys_is_told_in_the_files_own_words(changes, line):
    message = error(values(**changes))
    assert line in message
    assert not JARGON.search(message)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"model": {"mixer": {"dt_rank": "big"}}},
            "model.mixer.dt_rank: found 'big', expected: a whole number or 'auto'",
        ),
        (
            {"model": {"mixer": {"dt_rank": None}}},
            "model.mixer.dt_rank: found null, expected: a whole number or 'auto'",
        ),
        (
            {"data": {"image_size": [1]}},
            "data.image_size: found [1], expected: a whole number or a list of at least 2 entries",
        ),
        ({"data": {"image_size": ["a", 8]}}, "data.image_size.0: found 'a', expected: a whole number"),
        ({"train": {"betas": [0.9]}}, "train.betas: found [0.9], expected: a list of 2 entries"),
        ({"train": {"betas": [0.9, 0.9, 0.9]}}, "train.betas: found [0.9, 0.9, 0.9], expected: a list of 2 entries"),
        ({"train": {"betas": 0.9}}, "train.betas: found 0.9, expected: a list of 2 entries"),
        ({"train": {"lr": "fast"}}, "train.lr: found 'fast', expected: a number"),
        ({"model": {1: 2}}, "model.1: unknown key; known keys here: adaptive, class_head, d_model, "),
        ({"train": {"init_from": 3}}, "train.init_from: found 3, expected: a text"),
        ({"tracking": {"store": 3}}, "tracking.store: found 3, expected: a path"),
        ({"evaluation": {"orders": []}}, "evaluation.orders: found [], expected: a list of at least 1 entry"),
        ({"claims": {"fixed": "2026-13-45"}}, "claims.fixed: found '2026-13-45', expected: a day such as 2026-11-26"),
        ({"task": {"kind": None}}, "task.kind: found null, expected one of draw, "),
        ({"task": {"kind": ["draw"]}}, "task.kind: found ['draw'], expected one of draw, "),
        (
            {"model": {"mixer": "gru"}},
            "model.mixer: found 'gru', expected: keys with values; did you mean {kind: gru}?",
        ),
        (
            {"task": {"lengths": {"kind": "choice", "weights": {4: True}}}},
            "task.lengths.weights.4: found true, expected: a number",
        ),
    ],
)
def test_a_value_of_another_type_is_told_under_its_key_in_words_of_yaml(changes, line):
    message = error(values(**changes))
    assert f"  {line}" in message
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize("wrong", [None, True, "x", 3.5, [], [None], {}, {"x": 1}], ids=str)
def test_no_message_has_words_of_python_or_pydantic_whatever_stands_wherever(wrong):
    tree = values(model={"adaptive": ADAPTIVE})
    paths = {path[:i] for path, _ in leaves(tree) for i in range(1, len(path) + 1)}
    refused = 0
    for path in paths:
        try:
            validate(Params, changed(tree, path, wrong), "params.yaml")
        except ConfigError as e:
            refused += 1
            assert not JARGON.search(str(e)), (path, str(e))
    assert refused > len(paths) / 2


def test_unreadable_studies_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        load_params(tmp_path / "gone.yaml")


def test_an_unknown_preset_is_answered_with_those_that_exist():
    with pytest.raises(ConfigError) as e:
        load_params(PARAMS, "smok")
    assert "'smok'" in str(e.value)
    assert str(PRESETS) in str(e.value)


def test_the_message_says_where_the_values_came_from():
    with pytest.raises(ConfigError, match=r"params\.yaml with .*smoke\.yaml with values given by hand is invalid"):
        load_params(PARAMS, "smoke", {"device": "tpu"})
