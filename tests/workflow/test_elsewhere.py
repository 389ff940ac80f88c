"""Results made on a machine without Snakemake, and carried from there without weights."""

import filecmp
import json
import math
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import psutil
import pytest
import yaml

from lgmamba.analysis.collect import collect_runs, load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.image_errors import image_error_frames
from lgmamba.config.study import load_params
from lgmamba.jobs import Job, jobs_of
from lgmamba.tasks.batch import passed_steps_pmf
from tests.analysis.synthetic_study import make_study, study_values
from tests.config.studies import ROOT
from tests.config.studies import study as small_study
from tests.data.samples import encode, pixels
from tests.records import record_again
from tests.waiting import until
from tests.workflow import served
from tests.workflow.checkouts import environment

SCRIPTS = ROOT / "workflow" / "scripts"
KEYS = ["mode", "order", "method", "repeat", "image", "step"]


@pytest.fixture
def loaded(monkeypatch) -> dict:
    """The names of without_snakemake.py, which finds this package by itself: the path of later tests stays as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(SCRIPTS / "without_snakemake.py"))


def script(name: str, *words: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / name), *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment() | variables, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("jobs", "environ", "places"),
    [
        (12, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, "3"),
        (3, {"CUDA_VISIBLE_DEVICES": "0"}, "3"),
        (5, {"CUDA_VISIBLE_DEVICES": "0,1"}, "3"),
        (1, {"CUDA_VISIBLE_DEVICES": "0,1"}, "1"),
        (8, {"CUDA_VISIBLE_DEVICES": "0", "LGMAMBA_JOBS_PER_GPU": "2"}, "2"),
        (8, {"CUDA_VISIBLE_DEVICES": ""}, None),
    ],
)
def test_as_many_jobs_find_a_place_on_a_gpu_as_were_asked_for(jobs, environ, places, loaded):
    loaded["share_gpus"](jobs, environ)
    assert environ.get("LGMAMBA_JOBS_PER_GPU") == places


def test_what_a_stack_has_trained_is_read_before_other_trainings_begin_and_the_longest_begin_first(loaded):
    def chain(stage: str, *name: str, cost: float = 0.0, after: tuple = ()):
        return loaded["Chain"](study, [Job((stage, *name), ("x",), ROOT, after, dict)], cost)

    study, ran = object(), []
    alone = chain("train", "gru", "0", cost=5), chain("train", "lstm", "0", cost=30)
    side_by_side = [chain("train", "mamba", str(seed), cost=10) for seed in range(2)]
    others = [chain("train", "s4d", str(seed), cost=1) for seed in range(3)]
    names = [tuple(chain.jobs[0].name for chain in part) for part in (side_by_side, others)]
    stacks = chain("train-stack", "mamba", "0", after=names[0]), chain("train-stack", "s4d", "0", after=names[1])

    def run(chain) -> bool:
        ran.append(chain.jobs[0].name)
        return chain is not side_by_side[1]

    done = loaded["run_chains"](run, [*others, *alone, *side_by_side], list(stacks), 1)
    stacked = [("train-stack", "mamba", "0"), *names[0]], [("train-stack", "s4d", "0"), *names[1]]
    assert ran == [("train", "lstm", "0"), *stacked[0], ("train", "gru", "0"), *stacked[1]]
    assert done == [
        True,
        True,
        False,
        True,
        True,
        True,
        True,
    ]  # of chains alone: a stack may leave its trainings to them


def test_a_training_that_starts_from_states_of_long_sequences_begins_before_a_plain_one(loaded):
    def asked(**passing) -> dict:
        return {"train": {"state_passing": {"kind": "same_image", "max_factor": 25, **passing}}}

    runs = {"plain": {}, "half": asked(share=0.5), "all": asked(share=1.0), "shorter": asked(share=1.0, max_factor=1)}
    only = {"claims": {"comparisons": []}, "remedies": [], "remedy_evaluation": None, "probes": None}
    params = small_study(runs=runs, seeds=[0], **only)
    configs = {name: run for (name, _), run in params.run_configs().items() if name in runs}
    cost = {name: loaded["patches_read"](params, run) for name, run in configs.items()}
    for name, run in configs.items():
        passing, more = run.train.state_passing, 0.0
        if passing is not None:
            mean = sum(n * p for n, p in enumerate(passed_steps_pmf(passing, run.L0)))
            more = run.train.steps * passing.sequences(run.train.batch_size) * mean  # without gradients: once
        assert cost[name] - cost["plain"] == pytest.approx(more, rel=1e-9)  # rounding of float64

    ran, jobs = [], jobs_of(params)
    chains = [loaded["Chain"](params, [jobs["train", name, "0"]], cost[name]) for name in runs]
    loaded["run_chains"](lambda chain: ran.append(chain.jobs[0].name[1]) or True, chains, [], 1)
    assert ran == ["all", "half", "shorter", "plain"]


@pytest.mark.parametrize(
    "asked, override, told",
    [
        ("smoke:0,7", None, "error: --study smoke:0,7, seeds: found '7', expected some of 0"),
        ("smoke:0:uniform", None, "runs: found 'uniform', expected some of uniform_16, adaptive_16, fixed_16"),
        ("smoke::fixed_16,", None, "runs: found '', expected some of "),
        ("gone", None, "error: preset 'gone': neither one of "),
        ("smoke", "train: {steps: 0}", "train.steps: found 0, expected"),
        ("smoke", "[", "error: "),
    ],
)
def test_what_there_is_not_ends_it_before_anything_is_written(loaded, monkeypatch, tmp_path, asked, override, told):
    monkeypatch.chdir(tmp_path)
    options = SimpleNamespace(params=ROOT / "params.yaml", override=override, stages="train")
    with pytest.raises(SystemExit) as ended:
        loaded["chains_of"](asked, options)
    assert told in str(ended.value) and not list(tmp_path.iterdir())


def test_a_stage_that_there_is_not_ends_it(loaded, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["without_snakemake.py", "--study", "smoke", "--stages", "data,training"])
    with pytest.raises(
        SystemExit, match="error: --stages: found 'training', expected some of data, train, reconstruct"
    ):
        loaded["parse"]()


def test_classes_that_cannot_be_told_apart_end_it_before_any_job(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encode(pixels(0)))
    changed = yaml.safe_dump({"data": {"source": {"kind": "image_folder", "path": str(tmp_path / "images")}}})
    words = ("--study", "classified_digits", "--params", ROOT / "params.yaml", "--override", changed)
    ended = script("without_snakemake.py", *words, cwd=tmp_path)
    assert ended.returncode == 1 and "found 1 class, expected: at least 2" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_what_was_packed_is_unpacked_but_for_the_weights(tmp_path):
    study_json, results = make_study(tmp_path)
    done = script("results_without_weights.py", "pack", "--results", results, "--to", tmp_path / "packed", "--mb", 0.2)
    assert done.returncode == 0, done.stderr
    packed = sorted((tmp_path / "packed").iterdir())
    assert len(packed) > 1
    assert all(path.stat().st_size < 0.25 * 2**20 for path in packed)
    members = []
    for path in packed:
        with tarfile.open(path) as tar:
            members += tar.getnames()
    assert len(members) == len(set(members))
    assert not [name for name in members if name.endswith("model.safetensors")]

    elsewhere = tmp_path / "elsewhere" / results.name
    done = script("results_without_weights.py", "unpack", "--results", elsewhere, "--from", tmp_path / "packed")
    assert done.returncode == 0, done.stderr
    files = [f for f in results.glob("runs/*/seed*/*/*") if f.name != "model.safetensors"]
    assert len(files) >= 7 * 2 * 6
    for mine in files:
        other = elsewhere / mine.relative_to(results)
        if mine.name == "steps.parquet":
            a, b = (pl.read_parquet(f).sort(KEYS) for f in (mine, other))
            assert a.equals(b)
        elif mine.name == "panel.safetensors" and "seed0" not in mine.parts:
            assert not other.exists()  # pictures are shown of the first seed
        else:
            assert mine.name == "record.json" or filecmp.cmp(mine, other, shallow=False), mine
    evaluate(study_json, elsewhere, tmp_path / "frames")  # every digest is that of the file that came here
    params = load_study(study_json)
    for name, frame in image_error_frames(params, collect_runs(params, results / "runs")).items():
        assert len(frame) and pl.read_parquet(tmp_path / f"frames/{name}.parquet").equals(frame)


def test_pictures_of_the_seed_that_the_study_names_first_are_packed(tmp_path):
    study_json, results = make_study(tmp_path, study_values(seeds=[1, 0]))
    done = script("results_without_weights.py", "pack", "--results", results, "--to", tmp_path / "packed")
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path / "elsewhere" / results.name
    done = script("results_without_weights.py", "unpack", "--results", elsewhere, "--from", tmp_path / "packed")
    assert done.returncode == 0, done.stderr
    assert {path.parts[-3] for path in elsewhere.glob("runs/*/*/evaluation/panel.safetensors")} == {"seed1"}
    params = load_study(study_json)
    assert len(collect_runs(params, elsewhere / "runs")) == 2 * len(params.runs)


def test_every_measured_column_and_method_of_a_frame_is_packed(tmp_path, monkeypatch):
    """Shares of wrong classes, which only the model has, baselines of any task, a level that is not the PSNR."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    tool = runpy.run_path(str(SCRIPTS / "results_without_weights.py"))
    keys = pl.DataFrame({"mode": ["stream", "prefix"]}).join(pl.DataFrame({"order": ["a", "b"]}), how="cross")
    keys = keys.join(pl.DataFrame({"method": ["model", "white"]}), how="cross").with_columns(repeat=pl.lit(0))
    keys = keys.join(pl.DataFrame({"image": [7, 3]}), how="cross").join(pl.DataFrame({"step": [1, 4]}), how="cross")
    random = pl.Series(np.random.default_rng(0).random(len(keys), np.float32))
    frame = keys.select(pl.lit("r").alias("run"), pl.lit(1).alias("seed"), pl.all()).with_columns(
        mse=random, psnr=3 * random
    )
    wrong = pl.when(pl.col("method") == "model").then((random > 0.5).cast(pl.Float32))
    for made in (frame, frame.with_columns(error_rate=wrong)):
        steps, part = tmp_path / "steps.parquet", tmp_path / "errors.parquet"
        made.write_parquet(steps)
        part.write_bytes(tool["errors"](steps))
        steps.unlink()
        tool["rebuild"](part)
        again = pl.read_parquet(steps)
        assert again.columns == made.columns
        assert again.sort(KEYS).equals(made.sort(KEYS).with_columns(pl.col("run").cast(again.schema["run"])))


def test_a_run_without_all_its_errors_is_not_packed_in_part(tmp_path):
    _, results = make_study(tmp_path)
    steps = next(results.glob("runs/*/seed*/evaluation/steps.parquet"))
    pl.read_parquet(steps)[1:].write_parquet(steps)
    record_again(steps.parent)
    done = script("results_without_weights.py", "pack", "--results", results, "--to", tmp_path / "packed")
    assert done.returncode != 0
    assert "steps.parquet has holes" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="processes are served on Linux alone")
@pytest.mark.parametrize("room", [True, False])
def test_packages_are_loaded_once_from_the_first_job_on_that_needs_them(loaded, monkeypatch, room):
    started = []

    def start(names, python_path):
        started.append((names, python_path))
        if not room:
            raise OSError("no space left")
        monkeypatch.setenv("LGMAMBA_PRELOADED", "/there")
        return []

    monkeypatch.setattr(loaded["preloaded"], "start", start)
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.setenv("LGMAMBA_PRELOADED", "")  # so that it is put back
    monkeypatch.delenv("LGMAMBA_PRELOADED")
    study = load_params(ROOT / "params.yaml", "smoke")
    jobs = {job.stage: job for job in jobs_of(study).values()}
    runner = loaded["Runner"](math.inf)
    for stage, times in [("data", 0), ("train", 1), ("reconstruct", 1)]:
        runner._serve(jobs[stage])
        assert started == times * [(["models"], f"{ROOT}:mine")]


@pytest.mark.workflow
@pytest.mark.slow
def test_a_study_without_snakemake(tmp_path):
    for name in ("lgmamba", "workflow", "params.yaml"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    there = {"cwd": tmp_path, "LGMAMBA_PRELOADED": served.folder("models")}  # which each job would load for itself
    one = ("without_snakemake.py", "--study", "smoke:0:uniform_16")
    call = ("without_snakemake.py", "--study", "smoke:0:uniform_16,fixed_16", "--jobs", 2, "--stages")
    first = script(*call, "data,train", **there)
    assert first.returncode == 0, first.stdout + first.stderr
    runs = tmp_path / "results/smoke/runs"
    assert {p.parts[-4] for p in runs.glob("*/seed0/train/train.json")} == {"uniform_16", "fixed_16"}
    assert (tmp_path / "results/smoke/logs/train/uniform_16/seed0.log").is_file()
    weights = runs / "uniform_16/seed0/train/model.safetensors"
    before = weights.stat().st_mtime_ns

    late = script(*one, "--stages", "reconstruct", "--minutes", 0, **there)  # no time: nothing is begun
    assert late.returncode == 1
    assert not list(runs.glob("*/seed0/evaluation/evaluation.json"))
    second = script(*one, "--stages", "data,train,reconstruct", **there)
    assert second.returncode == 0, second.stdout + second.stderr
    assert weights.stat().st_mtime_ns == before  # what is current is not made again
    assert [p.parts[-4] for p in runs.glob("*/seed0/evaluation/evaluation.json")] == ["uniform_16"]

    changed = "{train: {steps: 70}, runs: {uniform_16: {}, tuned_16: {train: {init_from: uniform_16}}}, claims: {comparisons: [], primary: []}}"
    two = ("without_snakemake.py", "--study", "smoke:0:tuned_16,uniform_16", "--jobs", 2, "--stages", "data,train")
    longer = script(*two, "--override", changed, **there)
    assert longer.returncode == 0, longer.stdout + longer.stderr
    assert (
        "smoke train tuned_16 0 (not there yet): done" in longer.stdout
    )  # it waited for the weights that it starts from
    assert "smoke train uniform_16 0 (other values): done" in longer.stdout
    assert json.loads((weights.parent / "train.json").read_text())["steps"] == 70


@pytest.mark.thorough
@pytest.mark.workflow
@pytest.mark.slow
def test_children_end_with_the_script_and_their_trainings_go_on_later(tmp_path):
    for name in ("lgmamba", "workflow", "params.yaml"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    command = [
        sys.executable,
        str(SCRIPTS / "without_snakemake.py"),
        "--study",
        "smoke:0:uniform_16",
        "--stages",
        "data,train",
    ]
    command += ["--override", "{train: {steps: 5000}}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "results/smoke/runs/uniform_16/seed0/work/resume.safetensors"
    until(lambda: checkpoint.exists() or process.poll() is not None, "a checkpoint", every_s=0.01)
    assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    said = process.communicate()[0]
    assert process.returncode == 1
    assert "smoke train uniform_16 0 (not there yet): stopped" in said
    assert not psutil.wait_procs(children, timeout=60)[1]  # the one that has packages loaded ends by itself
