"""Frames kept in git beside the report: figures and report are made from them in a clone that has no run."""

import json
import shutil
from pathlib import Path

import pytest

from lgmamba.analysis import FOR_READERS, figures_of, kept_frames
from lgmamba.analysis.kept import check_kept
from lgmamba.config.base import ConfigError
from lgmamba.config.study import Params, load_params
from lgmamba.files import to_json
from lgmamba.records import checked_all, find_record
from tests.workflow.checkouts import Checkout

ROOT = Path(__file__).parents[2]
TRADEOFFS = {path.stem for path in ROOT.glob("workflow/tradeoff/*.yaml")}
"""Studies of another kind: tests/tradeoff/test_kept.py."""
KEPT = [path.parent for path in sorted(ROOT.glob("reports/*/frames/study.json")) if path.parts[-3] not in TRADEOFFS]
MEGABYTES = 3.0
IMAGE_ERRORS = 4.0
"""Megabytes of errors of single images, beside them."""


@pytest.fixture(scope="module")
def keeper(finished, tmp_path_factory) -> Checkout:
    """A copy of the finished study that has kept its frames, and committed them with its report."""
    copy = Checkout(tmp_path_factory.mktemp("kept") / "repository")
    shutil.copytree(finished.path, copy.path, symlinks=True)
    assert "keep_frames" not in copy.planned()
    assert copy.planned("--", "keep_frames") == {"keep_frames": 1}
    assert "total" in copy.snakemake("--", "keep_frames")
    assert copy.planned("--", "keep_frames") == {}
    assert copy.planned("--config", "report={title: Another}", "--", "keep_frames")["keep_frames"] == 1
    copy.commit("report and frames")
    return copy


@pytest.fixture(scope="module")
def clone(keeper) -> Checkout:
    """A clone of it: reports, and no results."""
    path = keeper.path.with_name("clone")
    keeper.git("clone", "--quiet", ".", str(path))
    return Checkout(path)


def made(checkout: Checkout) -> dict[str, bytes]:
    """Every file of the report and of its figures."""
    reports = checkout.path / load_params(checkout.path / "params.yaml").outputs.reports
    found = [path for path in reports.rglob("*") if path.is_file() and path.parent.name != "frames"]
    return {str(path.relative_to(reports)): path.read_bytes() for path in found}


@pytest.mark.thorough
@pytest.mark.workflow
@pytest.mark.slow
def test_figures_and_report_are_the_same_without_any_run(keeper, clone):
    params = load_params(clone.path / "params.yaml")
    reports, before = params.outputs.reports, made(keeper)
    kept = {"study.json", *kept_frames(params), *FOR_READERS}
    assert set(find_record(keeper.path / reports / "frames").files) == kept
    assert {path.name for path in (clone.path / reports / "frames").iterdir()} == {"record.json", *kept}
    assert {f"figures/{name}.pdf" for name in figures_of(params)} | {"report.md", "report.html"} < set(before)
    assert not (clone.path / params.outputs.results).exists()
    for name in before:
        (clone.path / reports / name).unlink()

    assert clone.planned("--config", "frames=kept") == {"figure": len(figures_of(params)), "report": 1}
    said = clone.snakemake("--config", "frames=kept")
    assert said.count(f"made from the frames kept in {reports}/frames") == 1
    assert made(clone) == before
    assert clone.git("status", "--short") == ""
    assert not (clone.path / params.outputs.data).exists()
    assert not (clone.path / params.tracking.store).exists()
    assert "Nothing to be done" in clone.snakemake("--config", "frames=kept")


@pytest.mark.thorough
@pytest.mark.workflow
@pytest.mark.slow
def test_frames_of_another_configuration_are_refused_and_each_key_is_named(clone):
    params = load_params(clone.path / "params.yaml")
    said = clone.snakemake("--config", "frames=kept", "train={weight_decay: 0.0123}", ok=False)
    assert f"train.weight_decay: found {params.train.weight_decay}, expected 0.0123" in said
    assert "Traceback" not in said
    said = clone.snakemake("--config", "frames=keep", ok=False)
    assert "frames: found 'keep', expected: kept" in said


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def test_other_folders_and_another_device_are_no_other_configuration(params, tmp_path):
    values = params.model_dump(mode="json")
    values |= {"device": "cuda", "tracking": {"kind": "none", "store": "x"}}
    values["outputs"] = values["outputs"] | {"results": "elsewhere"}
    (tmp_path / "study.json").write_text(to_json(values))
    check_kept(params, tmp_path)


def test_every_other_value_is(params, tmp_path):
    values = json.loads(params.model_dump_json())
    values["seeds"] = [*values["seeds"], 17]
    values["evaluation"]["max_length_ratio"] += 1
    (tmp_path / "study.json").write_text(to_json(values))
    with pytest.raises(
        ConfigError,
        match=r"evaluation\.max_length_ratio: found 26\.0, expected 25\.0\n  seeds: found \[.*17\], expected",
    ):
        check_kept(params, tmp_path)


def test_a_configuration_of_another_version_is_named(params, tmp_path):
    values = json.loads(params.model_dump_json())
    del values["evaluation"]["repeats"]
    (tmp_path / "study.json").write_text(to_json(values))
    with pytest.raises(ConfigError, match=r"study\.json is invalid:\s+evaluation\.repeats"):
        check_kept(params, tmp_path)


def test_nothing_kept_is_said(params, tmp_path):
    with pytest.raises(ConfigError, match=rf"study\.json: no such file; study '{params.study}' has kept no frames"):
        check_kept(params, tmp_path)


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.parent.name)
def test_frames_in_git_are_those_of_their_preset_whole_and_small(folder):
    study = folder.parent.name
    preset = study if (ROOT / "workflow/presets" / f"{study}.yaml").is_file() else None
    params = load_params(ROOT / "params.yaml", preset)
    check_kept(params, folder)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    by_image = {name: files.pop(name) for name in FOR_READERS if name in files}
    assert set(by_image) in (set(), set(FOR_READERS))  # older ones have none
    assert set(files) == {"study.json", "record.json", *kept_frames(params)}
    checked_all(folder, (*kept_frames(params), *by_image), "evaluate")
    assert sum(files.values()) < MEGABYTES * 1e6
    assert sum(by_image.values()) < IMAGE_ERRORS * 1e6
