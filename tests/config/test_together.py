"""What can be known from the configuration is said before any job: bounds, and what sections must agree on."""

import re

import pytest

from lgmamba.config.base import ConfigError
from lgmamba.config.lengths import Geometric
from lgmamba.config.overlays import overlaid
from lgmamba.config.report import ReportConfig
from lgmamba.config.study import load_params
from tests.config.studies import ADAPTIVE, PARAMS, error, study, values

LONGMAMBA = {"name": "lm", "kind": "longmamba", "threshold": "as_released", "mode": "prefix"}
CALIBRATED = {"name": "mult", "kind": "spectrum", "form": "mult", "calibrate": "gradient", "mode": "prefix"}
FREE = {"name": "running", "kind": "step_size", "form": "power", "mode": "stream"}
FOLDER = {"kind": "image_folder", "path": "a", "test_path": "b"}

READ_OUT = {
    "name": "C5",
    "claim": "c",
    "claimed": "below",
    "of": {"run": "plain", "at": "4 L0", "method": "refitted"},
    "minus": {"run": "plain", "at": "L0", "method": "refitted"},
}


def claimed(of: dict, minus: dict | None = None, **overrides) -> dict:
    """A study with one claim about run plain."""
    at = "4 L0" if "remedy" in of else "L0"
    sides = {"of": {"run": "plain", "at": at} | of, "minus": {"run": "plain", "at": at} | (minus or {})}
    return overrides | {"claims": {"primary": [{"name": "C", "claim": "c", "claimed": "above"} | sides]}}


WRONG = {
    "a claim about a run that is told another length in the test": (
        claimed({"run": "told", "told": "shuffled"}),
        "claims.primary.0.of.told: found 'shuffled', expected: null: in the test a run is told T (mode: prefix) or L0 (mode: stream)",
    ),
    "a claim about an order that is not read": (
        claimed({"order": "raster"}, evaluation={"orders": ["permutation"]}),
        "claims.primary.0.of.order: found raster, expected: one of evaluation.orders, ['permutation']",
    ),
    "a claim about a remedy in an order in which none is read": (
        claimed({"remedy": "freeze"}, {"remedy": "vanilla"}, remedy_evaluation={"orders": ["raster"]}),
        "claims.primary.0.of.order: found permutation, expected: one of remedy_evaluation.orders, ['raster']",
    ),
    "a claim about a remedy in a mode in which it is not read": (
        claimed({"remedy": "lm", "mode": "stream"}, {"remedy": "vanilla"}, remedies=[LONGMAMBA]),
        "claims.primary.0.of.mode: found stream, expected: prefix, or nothing, since 'lm' is read in its own mode",
    ),
    "a claim against a baseline of another task": (
        claimed({}, {"method": "nearest"}),
        "claims.primary.0.minus.method: found nearest, expected: one of ['model', 'mean_image', 'paste'], which task draw has",
    ),
    "a claim of nothing": (
        claimed({}, {}),
        "claims.primary.0.minus: found what of is, expected: another side; the difference of these is always 0",
    ),
    "a claim of nothing in other words": (
        claimed(
            {"at": ["L0", "1 L0"]}, {"at": "1.0 L0", "order": "permutation"}, evaluation={"orders": ["permutation"]}
        ),
        "claims.primary.0.minus: found what of is, expected: another side; the difference of these is always 0",
    ),
    "a claim of a change from a length to itself": (
        claimed({"at": "2 L0", "less": "2.0 L0"}),
        "claims.primary.0.of.less: found ['2.0 L0'], expected: other steps than those of at, ['2 L0']; this change is always 0",
    ),
    "a claim at a length of no step": (
        claimed({"at": "0 L0"}),
        "claims.primary.0.of.at.0: found '0 L0', expected: a length",
    ),
    "a day that is a number": (
        {"claims": {"fixed": 0}},
        "claims.fixed: found 0, expected: a day such as 2026-11-26, or null",
    ),
    "images and report in one folder": (
        {"outputs": {"data": "a/b", "reports": "a/./b"}},
        "outputs.reports: found 'a/b', which is outputs.data, expected: a folder of its own",
    ),
    "images in the repository itself": (
        {"outputs": {"data": "a/..", "outside": "allow"}},
        "outputs.data: found 'a/..', the repository itself, expected: a folder below it",
    ),
    "no factor at which remedies are judged": (
        {"remedy_evaluation": {"length_ratios": [1, 1.5]}},
        "remedy_evaluation.length_ratios: found [1.0, 1.5], expected: one of 2 or more, from where on remedies are judged",
    ),
    "no validation images": (
        {"data": {"splits": {"val": 0}}},
        "data.splits.val: found 0, expected: more than 0, since trainings are watched on it",
    ),
    "no test images": (
        {"data": {"splits": {"test": 0}}},
        "data.splits.test: found 0, expected: more than 0, since evaluation.split reads it",
    ),
    "no calibration images": (
        {"data": {"splits": {"calib": 0}}, "remedies": [CALIBRATED]},
        "data.splits.calib: found 0, expected: more than 0, since remedies are calibrated on it",
    ),
    "every step clamped": (
        {"remedies": [LONGMAMBA | {"clamp": 0.97}]},
        "remedies.0.clamp: found 0.97, expected: a share that leaves one of the L0 = 16 steps of run 'plain'",
    ),
    "a seed of 64 bits": ({"seeds": [1 << 63]}, "seeds.0: found 9223372036854775808, expected: less"),
    "a claim at L0 against L0": ({"claims": {"far_length_ratios": [1]}}, "claims.far_length_ratios.0: found 1"),
    "slower than anything": (
        {"model": {"adaptive": ADAPTIVE | {"beyond": "rescale", "slowest": 1e300}}},
        "model.adaptive.slowest: found 1e+300, expected: less than or equal to 1000000",
    ),
    "a sequence without end": (
        {"evaluation": {"max_length_ratio": 1e300}},
        "evaluation.max_length_ratio: found 1e+300",
    ),
    "a sequence of a hundred million": (
        {"evaluation": {"max_length_ratio": 999_999}},
        "evaluation.max_length_ratio: found 999999, expected: sequences of at most 1,000,000 patches; with L0 = 16 they would have 15,999,984",
    ),
    "remedies on such a sequence": (
        {"remedy_evaluation": {"length_ratios": [999_999]}},
        "remedy_evaluation.length_ratios: found 999999",
    ),
    "a look at such a sequence": ({"probes": {"length_ratios": [999_999]}}, "probes.length_ratios: found 999999"),
    "read-outs of such a sequence": (
        {"probes": {"kinds": ["read_outs"], "read_out_at": ["L0", "2000000"]}},
        "probes.read_out_at: found 125000, expected: sequences of at most 1,000,000 patches",
    ),
    "a read-out beside what was read on other images": (
        {"claims": {"primary": [READ_OUT | {"minus": {"run": "plain", "at": "L0"}}]}},
        "claims.primary.0.minus.method: found model, expected refitted or trained",
    ),
    "a read-out at a length where none is fitted": (
        {"probes": {"kinds": ["read_outs"], "read_out_at": ["L0"]}, "claims": {"primary": [READ_OUT]}},
        "claims.primary.0.of.at: found 64 steps, expected: one of probes.read_out_at, [16]",
    ),
    "a training length without end": (
        {"task": {"lengths": {"kind": "fixed", "value": 10**12}}},
        "task.lengths.value: found 1000000000000, expected: less than or equal to 100000",
    ),
    "a state passed without end": (
        {"train": {"state_passing": {"kind": "noise", "max_factor": 999_999, "share": 0.5}}},
        "train.state_passing: expected: max_factor x L0 of at most 1,000,000 steps",
    ),
    "threads that no machine has": ({"train": {"cpu_threads": 1_000_000}}, "train.cpu_threads: found 1000000"),
    "a run's name of 300 characters": ({"runs": {"r" * 300: None}}, "at most 64"),
    "a study's name of 300 characters": ({"study": "s" * 300}, "at most 64"),
    "a remedy's name of 300 characters": ({"remedies": [FREE | {"name": "n" * 300}]}, "at most 64"),
    "a folder's name of 300 characters": ({"outputs": {"results": "r/" + "s" * 300}}, "names of at most 200 bytes"),
    "braces, which Snakemake fills": (
        {"outputs": {"results": "results/{run}"}},
        "Snakemake takes braces for wildcards",
    ),
    "a folder over two lines": ({"outputs": {"data": "data/a\nb"}}, "without braces and control characters"),
    "a model of a million layers": ({"model": {"n_layer": 10**6}}, "model.n_layer: found 1000000"),
    "a wide model": ({"model": {"d_model": 10**9}}, "model.d_model: found 1000000000"),
    "images larger than any that is decoded": (
        {"data": {"image_size": 6000, "fit": "resize"}},
        "image_size: found 6000 x 6000 pixels, expected: at most max_pixels, 25,000,000",
    ),
    "weights without end": (
        {"task": {"lengths": {"kind": "choice", "weights": {4: 1e308, 8: 1e308}}}},
        "task.lengths.weights.4: found 1e+308",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_would_fail_after_training_is_said_before(kind):
    overrides, message = WRONG[kind]
    if "runs" in overrides:
        overrides = {"runs": values()["runs"] | overrides["runs"]}
    assert message in error(values(**overrides))


def test_a_split_that_nothing_reads_may_be_empty():
    assert study(data={"splits": {"calib": 0}}, remedies=[FREE]).data.splits.calib == 0
    assert study(data={"splits": {"test": 0}}, evaluation={"split": "val"}).data.splits.test == 0
    assert study(data={"splits": {"test": 0}, "source": FOLDER}).data.splits.test == 0


def test_an_image_size_may_be_quoted():
    assert study(data={"image_size": "8"}).data.size == (8, 8)


def test_true_and_false_are_no_numbers():
    assert "train: expected: a number or a text for warmup_steps, which is no switch" in error(
        values(train={"warmup_steps": False})
    )


@pytest.mark.parametrize(("mean", "most"), [(1.0, 9), (3.5, 12), (6.5, 12), (20.25, 64)])
def test_a_geometric_law_stops_looking_where_nothing_changes_any_more(mean, most):
    """The same numbers as after 200 halvings."""
    low, high = 0.0, 1.0
    for _ in range(200):
        r = (low + high) / 2
        weights = [r ** (T - 1) for T in range(1, most + 1)]
        found = sum(T * w for T, w in enumerate(weights, start=1)) / sum(weights)
        low, high = (r, high) if found < mean else (low, r)
    law = Geometric(kind="geometric", mean=mean, max=most).pmf()
    assert law == [0.0] + [w / sum(weights) for w in weights]


SOME = {"a": None, "b": {}, "c": {}}


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (["a", "d"], "report.shown.1: found 'd', expected: one of the runs ['a', 'b', 'c']"),
        (["a", "a"], "report.shown.1: found 'a' twice, expected: each run once"),
        ([], "report.shown"),
    ],
)
def test_runs_that_are_shown_exist_and_are_there_once(shown, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_params(PARAMS, None, {"study": "mine", "runs": SOME, "report": {"shown": shown}})


def test_shown_runs_leave_the_figures_of_remedies_one():
    params = load_params(PARAMS, "digits")
    left = next(name for name in params.runs if name not in params.the_remedy_evaluation.runs)
    with pytest.raises(
        ConfigError, match=r"report\.shown: found \['\w+'\], expected: among them one of remedy_evaluation\.runs"
    ):
        load_params(PARAMS, "digits", {"report": {"shown": [left]}})


def test_shown_runs_that_are_still_there_stay_and_files_without_any_stay_what_they_are():
    first = {"study": "mine", "runs": SOME, "report": {"shown": ["a", "b"]}}
    base = load_params(PARAMS, None, first).model_dump(mode="json")
    assert overlaid(base, {"runs": {"b": {}, "c": {}}})["report"]["shown"] == ["b"]
    assert overlaid(base, {"runs": {"c": {}}})["report"]["shown"] is None
    assert "shown" not in load_params(PARAMS).model_dump(mode="json")["report"]


def test_runs_of_ones_own_need_nothing_else():
    """Three plain runs over another study: no comparison, contrast, remedy or look is asked for, and it has words of its own."""
    for preset in (None, "digits"):
        params = load_params(PARAMS, preset, {"study": "mine", "runs": {"a": None, "b": {}, "c": {}}})
        assert (params.claims.comparisons, params.remedies, params.remedy_evaluation, params.probes) == (
            [],
            [],
            None,
            None,
        )
        assert (params.claims.primary, params.claims.fixed, params.report) == ([], None, ReportConfig())


def test_contrasts_of_runs_that_are_still_there_stay_with_their_day_in_the_same_study():
    both = load_params(PARAMS)
    kept = {name: both.runs[name] for name in ("fixed_32", "uniform_32")}
    claims = load_params(PARAMS, overrides={"runs": kept}).claims
    sides = {side.run for contrast in claims.primary for side in (contrast.of, contrast.minus)}
    assert sides == set(kept) and claims.fixed == both.claims.fixed is not None
    assert [c for c in both.claims.primary if {c.of.run, c.minus.run} <= set(kept)] == claims.primary


def test_what_is_inherited_about_runs_that_are_still_there_stays():
    both = load_params(PARAMS, "digits")
    kept = {name: both.runs[name] for name in ("uniform_4", "uniform_16", "adaptive_16")}
    params = load_params(PARAMS, "digits", {"runs": kept})
    assert params.claims == both.claims
    assert (params.remedy_evaluation, params.probes, params.remedies) == (
        both.remedy_evaluation,
        both.probes,
        both.remedies,
    )
    one = load_params(PARAMS, "digits", {"runs": {"uniform_16": {}}})
    assert one.claims.comparisons == []
    assert one.remedy_evaluation.runs == one.probes.runs == ["uniform_16"]


@pytest.mark.parametrize("odd", [1.0, "a", [1], [[1]], [{"generalist": ["a"]}], {"a": 1}, None], ids=repr)
@pytest.mark.parametrize("section", ["claims.comparisons", "probes.runs", "remedy_evaluation.runs"])
def test_what_is_inherited_and_wrong_is_refused_with_its_key(section, odd):
    name, _, key = section.partition(".")
    base = values()
    base[name][key] = odd
    message = error(overlaid(base, {"runs": {"mine": {}}}))
    assert f"{section}" in message


def test_what_an_overlay_says_itself_is_never_left_out():
    base = {"runs": {"a": {}}, "remedy_evaluation": {"runs": ["a"], "images": 3}, "remedies": [1], "probes": None}
    named = overlaid(base, {"runs": {"b": {}}, "remedy_evaluation": {"runs": ["c"]}})
    assert named["remedy_evaluation"] == {"runs": ["c"], "images": 3}
    with_remedies = overlaid(base, {"runs": {"b": {}}, "remedies": [2]})
    assert with_remedies["remedy_evaluation"] == base["remedy_evaluation"]  # whose runs are then named as missing
    assert overlaid(base, {"study": "x"}) == base | {"study": "x"}
