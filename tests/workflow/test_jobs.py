"""The jobs of a study: their lines, and which of their results are current."""

import os
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from lgmamba import keys
from lgmamba.config.files import Layout, frozen_files, frozen_path, remedy_file, write_config_files
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params, load_params
from lgmamba.jobs import Currency, JobName, jobs_of, keep_frames_job, stack_jobs
from tests.workflow.pretended import make

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch) -> Params:
    """The smoke study, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return configured()


def configured(**changes) -> Params:
    return load_params(ROOT / "params.yaml", preset="smoke", overrides=changes)


def stale(params: Params, *stages: str) -> dict[JobName, str]:
    jobs = jobs_of(params)
    look = Currency(jobs)
    return {name: reason for name in jobs if name[0] in stages and (reason := look.reason(name))}


READ = ("data", "train", "reconstruct", "remedy", "probes")


def test_what_was_made_is_current_and_what_follows_from_a_change_is_not(study):
    assert set(stale(study, *READ).values()) >= {"not there yet", "after data"}
    make(study, *READ)
    assert stale(study, *READ) == {}
    runs = study.model_dump(mode="json")["runs"]
    runs["fixed_16"] = {**(runs["fixed_16"] or {}), "train": {"weight_decay": 0.0123}}
    found = stale(configured(runs=runs), *READ)
    assert found["train", "fixed_16", "0"] == "other values"
    assert {name[1] for name in found} == {"fixed_16"}
    assert set(stale(configured(data={"max_images": 50}), *READ)) == {
        name for name in jobs_of(study) if name[0] in READ
    }


def test_a_damaged_checkpoint_is_made_again_with_what_follows(study):
    make(study, *READ)
    weights = jobs_of(study)["train", "uniform_16", "0"].out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    found = stale(study, *READ)
    assert "model.safetensors damaged" in found["train", "uniform_16", "0"]
    assert found["reconstruct", "uniform_16", "0"] == "after train uniform_16 0"
    assert {name[1] for name in found} == {"uniform_16"}


def test_other_code_is_noticed(study, monkeypatch):
    make(study, *READ)
    monkeypatch.setattr(
        keys, "_code", lambda stage: "x" * (stage == "remedy") or keys.code_digest(keys.ENTRY_MODULES[stage])
    )
    assert {name[0] for name in stale(study, *READ)} == {"remedy"}


def test_more_steps_to_look_at_touch_neither_remedies_nor_trainings(study):
    make(study, *READ)
    more = configured(evaluation={"extra_steps": [3, 5, 6]})
    assert {name[0] for name in stale(more, *READ)} == {"reconstruct"}
    run = next(iter(more.run_configs().values()))
    assert set(type(remedy_file(more, run).evaluation).model_fields) == {"split", "batch_images", "chunk", "precision"}


def test_where_things_lie_who_is_told_and_what_computes_change_no_number(study):
    make(study, *READ, "evaluate", "figure")
    assert stale(configured(device="cpu", tracking={"kind": "mlflow"}), *READ, "evaluate", "figure") == {}


def test_kept_frames_are_not_those_of_a_changed_study(study):
    make(study, *READ, "evaluate")
    job = keep_frames_job(study)

    def why(params: Params) -> str | None:
        asked = keep_frames_job(params)
        return Currency(jobs_of(params) | {asked.name: asked}).reason(asked.name)

    assert why(study) == "not there yet"
    shutil.copytree(Layout(study.outputs.results).frames, job.out)
    assert why(study) is None
    changed = configured(evaluation={"repeats": 2})
    assert why(changed) == "after evaluate"
    make(changed, "reconstruct")
    make(changed, "evaluate")
    assert "other values" in why(changed)
    shutil.rmtree(job.out)
    shutil.copytree(Layout(study.outputs.results).frames, job.out)
    assert why(changed) is None
    (job.out / "x").write_text("damaged")
    assert "x damaged" in why(changed)


@pytest.fixture
def images(study) -> Path:
    """A folder of four images in two classes."""
    for i in range(4):
        path = Path(f"photos/class{i % 2}/image{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * i).save(path)
    return Path("photos")


def of_folder(path: Path, **outputs) -> Params:
    return configured(data={"source": {"kind": "image_folder", "path": str(path)}}, outputs=outputs)


EDITS = {
    "added": lambda folder: Image.new("L", (8, 8), 9).save(folder / "class0/new.png"),
    "replaced": lambda folder: Image.new("L", (8, 8), 9).save(folder / "class0/image0.png"),
    "taken away": lambda folder: (folder / "class1/image3.png").unlink(),
    "renamed": lambda folder: (folder / "class1/image3.png").rename(folder / "class1/image4.png"),
    "a class added": lambda folder: (folder / "class0").rename(folder / "class2"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("outside", [False, True])
def test_an_edited_folder_of_images_is_noticed(images, tmp_path_factory, edit, outside):
    if outside:
        images = images.rename(tmp_path_factory.mktemp("outside") / "photos")
    params = of_folder(images)
    make(params, "data")
    assert stale(params, "data") == {}
    EDITS[edit](images)
    assert stale(params, "data") == {("data",): "other images"}


def test_images_that_were_only_touched_are_the_same(images):
    params = of_folder(images)
    make(params, "data")
    for path in images.rglob("*"):
        os.utime(path, (1, 1))
    assert stale(params, "data") == {}


@pytest.mark.parametrize("folder", ["my study", "a*c", "x$(touch gone)y", "it's;here"])
def test_lines_are_quoted(study, folder):
    params = configured(outputs={"data": f"data/{folder}", "results": f"results/{folder}"})
    for job in jobs_of(params).values():
        assert shlex.split(job.line) == ["python", "-m", *job.words]
        assert any(folder in word for word in job.words)


def test_planning_looks_at_each_run_a_few_times_however_many_there_are(monkeypatch):
    looked, L0 = [], RunConfig.L0.fget
    monkeypatch.setattr(RunConfig, "L0", property(lambda run: looked.append(run.run) or L0(run)))
    params = load_params(ROOT / "params.yaml", preset="mixers_digits")
    jobs = jobs_of(params)
    assert len(jobs) > 500
    assert len(looked) < 10 * len(jobs)


def test_every_job_finds_its_configuration_under_a_name_that_no_other_content_has(study):
    write_config_files(study)
    for job in jobs_of(study).values():
        options = dict(
            zip(job.words[2 + (job.stage == "figure") :: 2], job.words[3 + (job.stage == "figure") :: 2], strict=True)
        )
        config = next(
            Path(options[f"--{name}"]) for name in ("config", "run", "evaluation", "study") if f"--{name}" in options
        )
        assert config.is_file()
    before = {path: path.read_bytes() for path in Path("results/smoke/frozen").iterdir()}
    other = configured(train={"steps": 20})
    write_config_files(other)
    assert all(path.read_bytes() == content for path, content in before.items())
    layout = Layout(other.outputs.results)
    for file in frozen_files(other):
        if isinstance(file, RunConfig):
            assert frozen_path(layout, file).is_file()
            assert frozen_path(layout, file) not in before


def test_trainings_of_one_shape_are_one_call_side_by_side():
    params = configured(seeds=[0, 1])
    (plain, adaptive) = stack_jobs(params)
    assert plain.after == tuple(("train", run, seed) for run in ("uniform_16", "fixed_16") for seed in ("0", "1"))
    assert adaptive.after == (("train", "adaptive_16", "0"), ("train", "adaptive_16", "1"))
    folders = [str(Layout(params.outputs.results).run_dir(run, seed)) for _, run, seed in plain.after]
    assert plain.words[:2] == ("lgmamba", "train-stack")
    assert list(plain.words[2:6]) == folders
    assert plain.words[6:] == ("--data", str(params.outputs.data), "--device", params.device)
    assert [stack.after for stack in stack_jobs(configured(seeds=[0]))] == [
        (("train", "uniform_16", "0"), ("train", "fixed_16", "0"))
    ]


def test_on_several_gpus_a_stack_is_cut_into_parts_that_are_worth_a_call():
    params = configured(seeds=[0, 1, 2, 3, 4])  # ten plain trainings, and five of another shape
    sizes = {gpus: [len(stack.after) for stack in stack_jobs(params, gpus)] for gpus in (0, 1, 2, 4)}
    assert sizes == {0: [10, 5], 1: [10, 5], 2: [5, 5, 5], 4: [5, 5, 5]}
    whole, parts = (sorted(name for stack in stack_jobs(params, gpus) for name in stack.after) for gpus in (1, 4))
    assert parts == whole
    assert len({stack.name for stack in stack_jobs(params, 4)}) == 3


@pytest.mark.parametrize(("device", "stacks"), [("cuda", 2), ("cpu", 0)])
def test_without_snakemake_they_are_trained_before_their_chains_on_a_gpu_alone(device, stacks, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds to it
    script = runpy.run_path(str(ROOT / "workflow/scripts/without_snakemake.py"))
    params = configured(seeds=[0, 1], device=device)
    jobs = [job for job in jobs_of(params).values() if job.stage == "train"]
    chains = [script["Chain"](params, [job], 0.0) for job in jobs]
    assert [chain.jobs[0].name[0] for chain in script["stack_chains"](chains)] == ["train-stack"] * stacks
    assert len(script["stack_chains"](chains[:-1])) < max(stacks, 1)  # of a stack all have to be asked for
