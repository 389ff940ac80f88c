"""The workflow as a person runs it. One small study runs to the end; the rest asks what a further call would do."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lgmamba.analysis import figures_of
from lgmamba.analysis.titles import titles
from lgmamba.config.files import Layout, frozen_path
from lgmamba.config.study import load_params
from lgmamba.jobs import jobs_of
from tests.workflow import served
from tests.workflow.checkouts import ROOT, Checkout, copy_repository, environment, planned

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def only_run(checkout: Checkout) -> tuple[str, str]:
    """The generalist and the other run of the small study."""
    names = list(load_params(checkout.path / "params.yaml").runs)
    return names[0], names[1]


def home(checkout: Checkout, run: str) -> Path:
    """Folder of a run's first seed, relative to the checkout."""
    params = load_params(checkout.path / "params.yaml")
    return Layout(params.outputs.results).run_dir(run, params.seeds[0])


def params_with(checkout: Checkout, **changes) -> str:
    values = yaml.safe_load((checkout.path / "params.yaml").read_text())
    for key, value in changes.items():
        values[key] = value
    return yaml.safe_dump(values, sort_keys=False)


def test_dry_run_on_the_real_parameters_lists_every_job(checkout):
    params = load_params(checkout.path / "params.yaml")
    n = len(params.run_configs())
    expected = {
        "data": 1,
        "train": n,
        "reconstruct": n,
        "evaluate": 1,
        "remedy": len(params.remedy_evaluation.runs) * len(params.seeds),
        "figure": len(figures_of(params)),
        "report": 1,
    }
    if params.probes is not None:
        expected["probes"] = len(params.probes.runs) * len(params.seeds)
    if params.tracking.kind == "mlflow":
        expected["track_report"] = 1
    assert checkout.planned() == expected


PLANNED = ("bytes", "digits", "omniglot", "read_outs", "repairs", "smoke")
"""Presets that the workflow lays out in different ways: without images, with every stage, with images that lie somewhere, with looks
alone, with trainings that begin from others, small. That every preset loads, tests/config shows."""
PLAN_ALL = """
import os, sys
import snakemake.cli
from lgmamba.config.files import ENTRY_MODULES
from lgmamba.config.study import load_params
from lgmamba.provenance import code_digest

for module in ENTRY_MODULES.values():  # read once for all
    code_digest(module)

for preset in sys.argv[2:]:
    sys.stdout.flush()
    if os.fork() == 0:
        print("preset:", preset, flush=True)
        os.dup2(1, 2)
        snakemake.cli.main(["--cores", "4", "--dry-run", "--config", f"preset={preset}"])
    os.wait()
"""
"""`snakemake`, called once for each preset by copies of a process that has its packages loaded."""


@pytest.fixture(scope="module")
def plans(checkout) -> dict[str, str]:
    """Preset -> what a dry run of it says."""
    raw = checkout.path / "data" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "test"):  # files that a preset expects a person to have put there, not read by planning
        (raw / f"omniglot-{split}.parquet").touch()
    (checkout.path / "plan_all.py").write_text(PLAN_ALL)
    asked = served.python("-m", "plan_all", "--cores", *PLANNED)
    said = checkout.run(*asked, LGMAMBA_PRELOADED=served.folder("snakemake"))
    (checkout.path / "plan_all.py").unlink()
    shutil.rmtree(checkout.path / "data")
    return dict(text.split("\n", 1) for text in said.split("preset: ")[1:])


@pytest.mark.parametrize("preset", PLANNED)
def test_presets_plan_their_jobs(plans, preset):
    expected = Counter(name[0] for name in jobs_of(load_params(ROOT / "params.yaml", preset=preset)))
    said = planned(plans[preset])
    said.pop("track_report", None)  # Snakemake's alone
    assert said == expected


def test_a_typo_stops_before_any_job_and_names_the_nearest_key(checkout):
    text = checkout.snakemake("--config", "train={stepz: 3}", ok=False)
    assert "train.stepz: unknown key" in text
    assert "did you mean 'steps'" in text
    text = checkout.snakemake("--config", "prest=smoke", ok=False)
    assert "prest: unknown key (value 'smoke'); did you mean 'preset'?" in text
    assert not (checkout.path / "results").exists()
    assert "Traceback" not in text


def test_values_given_by_hand_are_typed(checkout):
    values = {"train": {"steps": 777, "warmup_steps": 7}, "seeds": [5]}
    params = load_params(checkout.path / "params.yaml", overrides=values)
    text = checkout.snakemake("--dry-run", "--config", "train={steps: 777, warmup_steps: 7}", "seeds=[5]")
    for run in params.run_configs().values():
        assert f"--run {frozen_path(Layout(params.outputs.results), run)} " in text


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file but Snakemake's own, with its time stamp and content."""
    found = [
        path for path in folder.rglob("*") if path.is_file() and not {".snakemake", "__pycache__"} & set(path.parts)
    ]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dry-run", "--config", "train={steps: 20, warmup_steps: 5}"], "This was a dry-run"),
        (["--summary"], "output_file"),
        (["--lint"], "your workflow is in a good condition"),
    ],
    ids=str,
)
def test_reading_the_workflow_changes_nothing(checkout, options, said):
    """Nor what another call, in another terminal, is reading at that moment."""
    before = tree(checkout.path)
    assert said in checkout.snakemake(*options)
    assert tree(checkout.path) == before


def test_a_folder_that_holds_another_study_is_refused(finished):
    params = load_params(finished.path / "params.yaml")
    outputs = f"outputs={{results: {params.outputs.results}, reports: {params.outputs.reports}}}"
    text = finished.snakemake("--dry-run", "--config", "study=photos", outputs, ok=False)
    assert f"outputs.results: found {params.outputs.results}, which holds study 'small'" in text
    assert "Traceback" not in text


def test_outputs_outside_the_repository_are_refused_unless_it_is_said(checkout, tmp_path):
    text = checkout.snakemake("--dry-run", "--config", f"outputs={{results: {tmp_path}/x}}", ok=False)
    assert f"outputs.results: found '{tmp_path}/x', expected: a folder below the repository" in text
    assert checkout.planned("--config", f"outputs={{results: {tmp_path}/x, outside: allow}}")


def test_any_name_of_a_folder_works_and_none_is_run(tmp_path):
    checkout = copy_repository(tmp_path / "repository")
    results = "results/my study $(touch gone);'x"
    data = results.replace("results/", "data/")
    outputs = "outputs=" + json.dumps({"results": results, "data": data})
    checkout.snakemake("--until", "data", "--config", "preset=smoke", outputs)
    assert (checkout.path / results / "logs/data.log").is_file()
    assert (checkout.path / data / "record.json").is_file()
    assert not (checkout.path / "gone").exists()
    assert {path.name for path in (checkout.path / "results").iterdir()} == {Path(results).name}


def test_canonical_command_runs_without_conda(finished):
    assert shutil.which("conda", path=environment()["PATH"]) is None
    text = (finished.path / "first_run.txt").read_text()
    assert "no conda on PATH" in text
    assert "(100%) done" in text
    if sys.platform == "linux":
        assert "Packages are loaded once for all jobs of a kind: figures, models." in text
    params = load_params(finished.path / "params.yaml")
    assert f"Report of study small: {params.outputs.reports}/report.html" in text
    assert (finished.path / params.outputs.reports / "report.html").is_file()
    for figure in figures_of(params):
        for suffix in ("png", "pdf", "csv"):
            assert (finished.path / params.outputs.reports / "figures" / f"{figure}.{suffix}").stat().st_size > 0


def test_every_job_left_a_log_and_a_benchmark(finished):
    params = load_params(finished.path / "params.yaml")
    results = finished.path / params.outputs.results
    logs = {p.relative_to(results / "logs").with_suffix("") for p in (results / "logs").rglob("*.log")}
    times = {p.relative_to(results / "benchmarks").with_suffix("") for p in (results / "benchmarks").rglob("*.tsv")}
    assert logs == times
    assert len(logs) == sum(planned((finished.path / "first_run.txt").read_text()).values())
    said = "".join(p.read_text() for p in (results / "logs" / "figure").glob("*.log"))
    assert said == ""  # in particular nothing that other packages have to say about their fonts


def test_second_call_does_nothing_and_says_so(finished):
    for options in ([], ["--use-conda"]):
        assert "Nothing to be done" in finished.snakemake(*options)


def test_without_its_records_a_second_call_does_nothing(finished):
    os.rename(finished.path / ".snakemake", finished.path / "moved")
    try:
        assert finished.planned() == {}
    finally:
        shutil.rmtree(finished.path / ".snakemake")
        os.rename(finished.path / "moved", finished.path / ".snakemake")


def test_time_stamps_decide_nothing(spoilable):
    """With results dated in the future, what is not current is made again, and with any other time stamps nothing else is."""
    shutil.rmtree(spoilable.path / ".snakemake")
    params = load_params(spoilable.path / "params.yaml")
    results = [p for p in (spoilable.path / params.outputs.results).rglob("*") if p.is_file()]
    for time in (1, 2**32):
        for path in results:
            os.utime(path, (time, time))
        assert spoilable.planned() == {}
    evaluation = spoilable.path / home(spoilable, next(iter(params.runs))) / "evaluation"
    (evaluation / "retention.parquet").write_bytes(b"half of it")
    text = spoilable.snakemake("--until", "reconstruct")
    assert planned(text) == {"reconstruct": 1}
    assert "retention.parquet damaged" in text
    assert spoilable.planned("--until", "reconstruct") == {}


def test_one_run_changed_reruns_that_run_alone(finished, edited):
    first, other = only_run(finished)
    values = yaml.safe_load((finished.path / "params.yaml").read_text())
    runs = values["runs"] | {other: (values["runs"][other] or {}) | {"train": {"weight_decay": 0.0123}}}
    edited(finished.path / "params.yaml", params_with(finished, runs=runs))
    text = finished.snakemake("--dry-run")
    jobs = planned(text)
    assert (jobs["train"], jobs["reconstruct"], jobs["evaluate"]) == (1, 1, 1)
    assert f"Train {other}, seed" in text
    assert f"Train {first}, seed" not in text
    assert "data" not in jobs


def test_tracking_turned_off_retrains_nothing(finished, edited):
    edited(finished.path / "params.yaml", params_with(finished, tracking={"kind": "none", "store": "mlflow"}))
    assert not {"data", "train", "reconstruct"} & set(finished.planned())


def test_comment_reruns_nothing_but_a_changed_formula_does(finished, edited):
    source = finished.path / "lgmamba" / "train" / "optimizer.py"
    code = source.read_text()
    edited(source, code + "\n# a thought\n")
    assert finished.planned() == {}
    assert "math.cos(math.pi * done)" in code
    edited(source, code.replace("math.cos(math.pi * done)", "math.cos(math.pi * done**2)"))
    jobs = finished.planned()
    assert jobs["train"] == jobs["reconstruct"] > 0
    assert "data" not in jobs
    edited(source, code)
    assert finished.planned() == {}


def test_lost_tracking_store_retrains_nothing(finished):
    os.rename(finished.path / "mlflow", finished.path / "lost")
    try:
        assert finished.planned() == {}
    finally:
        os.rename(finished.path / "lost", finished.path / "mlflow")


ASK_STORE = """
import json
from lgmamba.config.study import load_params
from lgmamba.track import store
params = load_params("params.yaml")
client = store.client(params.tracking.store)
runs = client.search_runs([client.get_experiment_by_name(params.study).experiment_id])
print(json.dumps([[r.data.tags["stage"], r.info.status, sorted(r.data.metrics), len(r.data.params)] for r in runs]))
"""


def test_tracked_runs_are_found_by_study(finished):
    (finished.path / "ask_store.py").write_text(ASK_STORE)
    asked = served.python("-m", "ask_store", "track")  # in a process that has MLflow loaded, as stages that track have
    printed = finished.run(*asked, LGMAMBA_PRELOADED=served.folder("models"))
    (finished.path / "ask_store.py").unlink()
    runs = json.loads(printed.strip().splitlines()[-1])
    trainings = [r for r in runs if r[0] == "train"]
    assert len(trainings) == len(load_params(finished.path / "params.yaml").run_configs())
    params = load_params(finished.path / "params.yaml")
    remedies = [r for r in runs if r[0] == "remedy"]
    assert len(remedies) == len(params.remedy_evaluation.runs) * len(params.seeds)
    assert all(
        status == "FINISHED" and any(m.startswith("psnr/") for m in metrics) for _, status, metrics, _ in remedies
    )
    assert len(runs) == len(trainings) + len(remedies) + 1  # and the report
    for _, status, metrics, n_params in trainings:
        assert status == "FINISHED"
        assert n_params > 30
        assert any(m.startswith("system/") for m in metrics)
        assert any(not m.startswith("system/") for m in metrics)


def test_snakemake_report(finished):
    finished.snakemake("--report", "report.html")
    page = (finished.path / "report.html").read_text()
    results, categories = (
        json.loads(re.search(rf'^ *var {name} = (\{{".*\}});?$', page, re.MULTILINE)[1])
        for name in ("results", "categories")
    )
    params = load_params(finished.path / "params.yaml")
    figures = {Path(name).stem: shown["labels"]["figure"] for name, shown in results.items() if name.endswith(".png")}
    assert figures == titles(params)
    assert all(len(shown["caption"]) > 40 for shown in results.values())  # of the explorer too
    assert {category: len(within["Other"]) for category, within in categories.items()} == {
        "Figures": len(figures),
        "Step by step": 1,
    }
