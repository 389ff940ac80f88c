"""The files between configuration and stages: complete, exact, and rewritten only for a reason."""

import json
import os
from pathlib import Path

import pytest

from lgmamba.config.base import ConfigError
from lgmamba.config.files import (
    DataFile,
    EvaluationFile,
    Layout,
    TrackingFile,
    config_contents,
    read_config,
    write_config_files,
)
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from tests.config.studies import PRESETS, ROOT


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def test_every_file_reads_back_as_what_was_written(params, tmp_path):
    write_config_files(params, tmp_path)
    layout = Layout(tmp_path / params.outputs.results)
    assert read_config(layout.study, Params) == params
    assert read_config(layout.data, DataFile).data == params.data
    assert read_config(layout.tracking, TrackingFile).study == params.study
    for (name, seed), run in params.run_configs().items():
        assert read_config(layout.run_json(name, seed), RunConfig) == run
        evaluation = read_config(layout.evaluation_json(name, seed), EvaluationFile)
        assert (evaluation.run, evaluation.evaluation, evaluation.steps) == (
            run,
            params.evaluation,
            params.evaluation_steps(run),
        )


def test_a_second_call_writes_nothing(params, tmp_path):
    first = write_config_files(params, tmp_path)
    for path in first:
        os.utime(path, (1, 1))
    assert write_config_files(params, tmp_path) == []
    assert {path.stat().st_mtime for path in first} == {1.0}


def test_one_run_changed_changes_that_runs_files_alone(params, tmp_path):
    write_config_files(params, tmp_path)
    name = list(params.runs)[-1]
    runs = params.model_dump(mode="json")["runs"]
    runs[name] = (runs[name] or {}) | {"train": {**((runs[name] or {}).get("train") or {}), "weight_decay": 0.0123}}
    changed = write_config_files(load_params(ROOT / "params.yaml", overrides={"runs": runs}), tmp_path)
    layout = Layout(tmp_path / params.outputs.results)
    mine = {f(name, seed) for f in (layout.run_json, layout.evaluation_json) for seed in params.seeds}
    assert {path for path in changed if path.parent != layout.frozen} == mine | {layout.study}
    frozen = sorted(path.name.rsplit("-", 1)[0] for path in changed if path.parent == layout.frozen)
    stages = [f"{stage}-{name}-seed{seed}" for stage in ("reconstruct", "train") for seed in params.seeds]
    assert frozen == sorted([*stages, "study"])


def test_patch_sizes_of_all_runs_reach_the_data_stage(tmp_path):
    params = load_params(ROOT / "params.yaml", "digits")  # cells of a grid, which must fit
    contents = config_contents(params, Layout(tmp_path))
    sizes = sorted({run.task.patch_size for run in params.run_configs().values()})
    assert DataFile.model_validate_json(contents[Layout(tmp_path).data]).patch_sizes == sizes


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.json: no such file"):
        read_config(tmp_path / "gone.json", RunConfig)
    (tmp_path / "half.json").write_text('{"study": ')
    with pytest.raises(ConfigError, match=r"half\.json is not JSON"):
        read_config(tmp_path / "half.json", RunConfig)
    (tmp_path / "typo.json").write_text('{"studdy": "x"}')
    with pytest.raises(ConfigError, match=r"typo\.json is invalid"):
        read_config(tmp_path / "typo.json", RunConfig)


def test_the_folders_of_another_study_are_not_written_over(params, tmp_path):
    write_config_files(params, tmp_path)
    own = params.study
    photos = load_params(ROOT / "params.yaml", overrides={"study": "photos"})
    assert write_config_files(photos, tmp_path)  # folders of its own, named after it
    there = load_params(ROOT / "params.yaml", overrides={"study": "photos", "outputs": {"results": f"results/{own}"}})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(ConfigError, match=rf"outputs\.results: found results/{own}, which holds study '{own}'"):
        write_config_files(there, tmp_path)
    (tmp_path / "reports" / own).mkdir(parents=True)
    (tmp_path / "reports" / own / "headline.json").write_text(json.dumps({"study": own}))
    there = load_params(ROOT / "params.yaml", overrides={"study": "photos", "outputs": {"reports": f"reports/{own}"}})
    with pytest.raises(ConfigError, match=rf"outputs\.reports: found reports/{own}, which holds study '{own}'"):
        write_config_files(there, tmp_path)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_studies_that_share_a_folder_of_images_want_the_same_ones(params, tmp_path):
    """Else each would build it anew in its turn, and then train anew."""
    write_config_files(params, tmp_path)

    def other(**data) -> Params:
        values = {"study": "photos", "outputs": {"data": params.outputs.data}, "data": data}
        return load_params(ROOT / "params.yaml", overrides=values)

    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    told = rf"outputs\.data: found data/{params.study}, where study '{params.study}' has its images, which differ in "
    with pytest.raises(ConfigError, match=told + r"data\.max_images \(.*study\.json\)"):
        write_config_files(other(max_images=100), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    write_config_files(other(), tmp_path)
    own = load_params(ROOT / "params.yaml", overrides={"study": "own", "data": {"max_images": 100}})
    write_config_files(own, tmp_path)  # in a folder of its own
    for content in ("{", '{"study": "photos"}', "[]"):  # nothing that says what is wanted
        Layout(tmp_path / "results/photos").study.write_text(content)
        write_config_files(params, tmp_path)
    changed = load_params(ROOT / "params.yaml", overrides={"data": {"max_images": 100}})
    write_config_files(changed, tmp_path)  # the same study may want others


def test_presets_that_share_a_folder_of_images_want_the_same_ones():
    folders: dict[Path, dict[str, list[str]]] = {}
    for preset in (None, *PRESETS):
        study = load_params(ROOT / "params.yaml", preset)
        folders.setdefault(study.outputs.data, {}).setdefault(study.data.model_dump_json(), []).append(study.study)
    assert max(len(presets) for wanted in folders.values() for presets in wanted.values()) > 1
    assert {str(folder): list(wanted.values()) for folder, wanted in folders.items() if len(wanted) > 1} == {}
