"""The table of docs/workflow.md: what of the default study runs again after a change, asked of the digests as Snakemake asks."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lgmamba.config.study import Params, load_params
from lgmamba.jobs import Currency, jobs_of
from tests.workflow.pretended import make

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/workflow.md"
Values = dict[str, Any]


def run_changed(values: Values) -> Values:
    return {"runs": values["runs"] | {"fixed_8": values["runs"]["fixed_8"] | {"train": {"lr": 0.02}}}}


def run_added(values: Values) -> Values:
    return {"runs": values["runs"] | {"fixed_16": {"task": {"lengths": {"kind": "fixed", "value": 16}}}}}


def remedy_changed(values: Values) -> Values:
    first, *others = values["remedies"]
    return {"remedies": [first | {"name": "renamed"}, *others]}


def claim_changed(values: Values) -> Values:
    first, *others = values["claims"]["primary"]
    return {"claims": {"primary": [first | {"claim": "In other words"}, *others]}}


CHANGES: dict[str, Callable[[Values], Values]] = {
    "nothing": lambda values: {},
    "`train.steps`, for all runs": lambda values: {"train": {"steps": values["train"]["steps"] + 1}},
    "`train.lr` of one run": run_changed,
    "a run more": run_added,
    "a seed more": lambda values: {"seeds": [*values["seeds"], 5]},
    "a step more at which is read (`evaluation.extra_steps`)": lambda values: {"evaluation": {"extra_steps": [7]}},
    "one remedy": remedy_changed,
    "how remedies are tried (`remedy_evaluation`)": lambda values: {"remedy_evaluation": {"repeats": 2}},
    "one claim, or its margin": claim_changed,
    "the report's title": lambda values: {"report": {"title": "Another"}},
    "which runs are drawn one by one (`report.shown`)": lambda values: {"report": {"shown": ["fixed_8", "uniform_32"]}},
    "where to record (`tracking`)": lambda values: {"tracking": {"kind": "none"}},
    "images (`data`)": lambda values: {"data": {"max_images": 500}},
}


def configured(changes: Values) -> Params:
    return load_params(ROOT / "params.yaml", overrides=changes)


def again(params: Params) -> str:
    """`train 5, evaluate, report`; of stages with several jobs how many, of all that there are."""
    jobs = jobs_of(params)
    look = Currency(jobs)
    every, found = Counter(name[0] for name in jobs), Counter(name[0] for name in jobs if look.reason(name))
    words = [f"{stage} {n} of {every[stage]}" if every[stage] > 1 else stage for stage, n in found.items()]
    return ", ".join(words) or "nothing"


def written() -> dict[str, str]:
    """Change -> what the page says of it."""
    rows = PAGE.read_text(encoding="utf-8").split("| changed | runs again |\n")[1].split("\n\n")[0].splitlines()[1:]
    return {change.strip(): said.strip() for _, change, said, _ in (row.split("|") for row in rows)}


def test_the_page_has_every_change_once():
    assert list(written()) == list(CHANGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the default study is finished."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make(configured({}))
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_what_runs_again_after_a_change(change, finished, monkeypatch):
    monkeypatch.chdir(finished)
    values = configured({}).model_dump(mode="json", exclude_unset=True)
    assert again(configured(CHANGES[change](values))) == written()[change]
