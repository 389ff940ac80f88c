"""`lgmamba new`: a minimal study of one's own loads, is shown, and runs from images to report by the command line alone."""

import shlex

import pytest

from lgmamba.analysis import figures_of
from lgmamba.config.study import load_params
from tests.data.samples import write_folder
from tests.figures.thumbnails import thumbnails
from tests.workflow.checkouts import ROOT

TINY = (
    "{train: {steps: 4, warmup_steps: 1, batch_size: 4, log_every: 2, validate_every: 2, validate_images: 4}, "
    "model: {d_model: 8, n_layer: 1, mixer: {d_state: 2}, decoder: {hidden: 8}}, "
    "evaluation: {images: 4, panel_images: 2}, tracking: {kind: none}, device: cpu, "
    "data: {image_size: 16, fit: resize}, task: {lengths: {high: 16}}, "
    "runs: {fixed_16: {task: {lengths: {kind: fixed, value: 16}}}, uniform_16: {}, uniform_4: {task: {lengths: {high: 4}}}}}"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_new_study_of_ones_own_images_runs_from_images_to_report(lgmamba, here):
    write_folder(here, {"photos": 60})
    made = lgmamba("new", "mine", "photos", "--params", ROOT / "params.yaml")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith(
        "photos: 60 images\nwrote studies/mine.yaml; next:\n  lgmamba show --preset studies/mine.yaml"
    )
    study = (ROOT / "params.yaml", "--preset", "studies/mine.yaml")
    shown = lgmamba("show", *study)
    assert (shown.code, shown.err) == (0, "")
    written = lgmamba("show", *study, "--override", TINY, "--write", "--commands")
    lines = [shlex.split(line) for line in written.out.splitlines()]
    params = load_params(ROOT / "params.yaml", "studies/mine.yaml")
    drawn = ["figure"] * len(figures_of(params))
    assert [words[3] for words in lines] == ["data", *["train", "reconstruct"] * 3, "evaluate", *drawn, "report"]
    with thumbnails(laid_out=False):
        for words in lines:
            ended = lgmamba(*words[3:])
            assert ended.code == 0, ended.err
    assert "Study `mine`: 3 runs" in (here / "reports/mine/report.md").read_text(encoding="utf-8")


def test_a_new_study_without_images_is_about_the_digits(lgmamba, here):
    assert lgmamba("new", "mine", "--params", ROOT / "params.yaml").code == 0
    params = load_params(ROOT / "params.yaml", "studies/mine.yaml")
    assert (params.data.source.kind, params.L0, list(params.runs)) == (
        "digits",
        16,
        ["fixed_16", "uniform_16", "uniform_4"],
    )
    assert (params.claims.comparisons, params.remedies, params.remedy_evaluation, params.probes) == (
        [],
        [],
        None,
        None,
    )


def test_a_folder_with_a_name_of_any_kind_is_quoted(lgmamba, here):
    name = "mine: [ü] \"{x}\" #1 'y'"
    write_folder(here, {name: 3})
    assert lgmamba("new", "mine", name, "--params", ROOT / "params.yaml").code == 0
    assert load_params(ROOT / "params.yaml", "studies/mine.yaml").data.source.path == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a b",), "study: found 'a b'"),
        (("../up",), "study: found '../up'"),
        (("x" * 300,), "at most 64"),
        (("mine", "gone"), "gone does not exist"),
        (("mine", "empty"), "empty: no image; expected empty/<class>/<image> or empty/<image>"),
        (("mine", "--out", "there.yaml"), "there.yaml is there already"),
        (("mine", "--params", "gone.yaml"), "gone.yaml: no such file"),
    ],
    ids=["a space", "a path", "a long name", "no folder", "no image", "a file that is there", "no params.yaml"],
)
def test_what_cannot_become_a_study_leaves_no_file(lgmamba, here, words, message):
    (here / "empty").mkdir()
    (here / "there.yaml").write_text("study: old\n")
    ended = lgmamba("new", *words, *([] if "--params" in words else ["--params", ROOT / "params.yaml"]))
    assert ended.code == 1
    assert message in ended.err
    assert sorted(p.name for p in here.iterdir()) == ["empty", "there.yaml"]
    assert (here / "there.yaml").read_text() == "study: old\n"


def test_a_file_with_spaces_is_named_so_that_its_lines_can_be_pasted(lgmamba, here):
    out = "my dir/it's.yaml"
    made = lgmamba("new", "mine", "--params", ROOT / "params.yaml", "--out", out)
    shown, run = made.out.splitlines()[-2:]
    assert shlex.split(shown) == ["lgmamba", "show", "--preset", out]
    assert shlex.split(run)[-1] == f"preset={out}"
    above = (here / out).read_text(encoding="utf-8")
    assert all(line.strip() in above for line in (shown, run))
