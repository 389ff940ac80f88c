"""The workflow on a real SLURM, whose one node dies, and whose time limits end trainings.

    LGMAMBA_SLURM=1 python -m pytest tests/slurm                      several minutes
    LGMAMBA_SLURM=1 LGMAMBA_SLURM_LOG=slurm.log python -m pytest ...  and keeps what Snakemake printed

The cluster is private (`tests.slurm.instance`). Tests are in the order in which they build upon each other.
"""

import json
import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors import safe_open

from lgmamba.config.study import load_params
from tests.slurm.conftest import Submitting, ended
from tests.slurm.instance import missing
from tests.waiting import HANGS, until
from tests.workflow.checkouts import planned


def why_not() -> str | None:
    if os.environ.get("LGMAMBA_SLURM") != "1":
        return "starts a SLURM cluster for several minutes; set LGMAMBA_SLURM=1"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "not installed: snakemake-executor-plugin-slurm (pip install snakemake-executor-plugin-slurm)"
    return missing()


pytestmark = [
    pytest.mark.workflow,
    pytest.mark.slow,
    pytest.mark.timeout(HANGS),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

LONG = "train={steps: 600, log_every: 10, checkpoint_every_s: 0}"
"""Leaves a checkpoint every ten steps, so that there is one long before the end."""
VALIDATED = 20
"""The smoke study validates, and its log tells, every so many steps."""


@pytest.fixture
def training(submitting: Submitting):
    """Of the study with long trainings: target, and the folder of the first run; nothing of it is made yet."""
    params = load_params(submitting.path / "params.yaml")
    folder = submitting.path / params.outputs.results / "runs" / next(iter(params.runs)) / "seed0"
    shutil.rmtree(folder, ignore_errors=True)
    return str((folder / "train/record.json").relative_to(submitting.path)), folder


def model_of(folder: Path) -> bytes:
    return (folder / "train/model.safetensors").read_bytes()


def made_here(submitting: Submitting, target: str, folder: Path) -> bytes:
    """The model that the same training gives on this machine without SLURM and without a break."""
    shutil.rmtree(folder)
    submitting.checkout.snakemake("--config", LONG, "--", target)
    return model_of(folder)


def kept_step(folder: Path) -> int:
    """Of the checkpoint that a training goes on from; 0 where there is none."""
    path = folder / "work/resume.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["progress"])["step"]


def begun(folder: Path) -> bool:
    """Whether the training has a checkpoint from which the first step that its log tells is not that of a fresh one."""
    return kept_step(folder) >= VALIDATED


def told(submitting: Submitting) -> str:
    """The log of the training's last job; each writes it anew."""
    path = submitting.path / "results/small/logs/train/uniform_16/seed0.log"
    return path.read_text() if path.exists() else ""


def first_step_told(submitting: Submitting) -> int:
    return int(told(submitting).split(": step ")[1].split()[0])


def pid_of_training(submitting: Submitting) -> int | None:
    for pid in submitting.cluster.processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"-m" in words and b"lgmamba" in words and b"train" in words and b"snakemake" not in words:
            return pid
    return None


def test_a_study_runs_through_the_shipped_profile(submitting):
    out = submitting.run()
    jobs = submitting.cluster.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert len(submitting.jobs("train")) == 2
    train = submitting.jobs("train")[0]
    assert (train["TimeLimit"], train["MinMemoryNode"], train["NumCPUs"]) == ("12:00:00", "16000M", "1")
    assert "TresPerJob" not in train and "TresPerNode" not in train  # a CPU study asks for no GPU
    assert "Packages are loaded once" not in out  # such processes serve the machine that they run on
    assert (submitting.path / "reports/small/report.html").is_file()
    assert "60 of 60" in told(submitting)
    assert planned(submitting.checkout.snakemake("--dry-run")) == {}  # also without SLURM: records decide


def test_jobs_of_one_rule_can_be_one_array(submitting):
    submitting.run("--slurm-array-jobs", "reconstruct", "--forcerun", "reconstruct", "--until", "reconstruct")
    jobs = [job for job in submitting.cluster.jobs() if "ArrayJobId" in job]
    assert len({job["ArrayJobId"] for job in jobs}) == 1
    assert [job["JobState"] for job in jobs] == ["COMPLETED"] * 2


def test_models_ask_for_a_gpu_where_the_study_does(submitting, training):
    target, _ = training
    out = submitting.run("--retries", "0", "--config", "device=cuda", "--", target, ok=False)
    asked = submitting.jobs("train")[-1]
    assert "gpu:1" in asked.get("TresPerJob", asked.get("TresPerNode", ""))
    assert "torch finds no CUDA device" in out  # the pretended GPU was given; the job's own message is shown


def test_a_node_that_dies_takes_a_few_steps_of_a_training_with_it(submitting, training):
    target, folder = training
    call = submitting.start("--config", LONG, "--", target)
    until(lambda: begun(folder), "a checkpoint")
    submitting.cluster.kill_node()
    left = kept_step(folder)
    submitting.cluster.start_node()
    ended(call)
    assert first_step_told(submitting) > left
    assert submitting.states("train")[-2:] == ["NODE_FAIL", "COMPLETED"]
    assert model_of(folder) == made_here(submitting, target, folder)


def test_a_call_that_is_interrupted_cancels_its_jobs_and_the_next_one_goes_on(submitting, training):
    target, folder = training
    call = submitting.start("--config", LONG, "--", target)
    until(lambda: begun(folder), "a checkpoint")
    call.send_signal(signal.SIGINT)
    ended(call, ok=False)
    until(lambda: submitting.states("train")[-1] == "CANCELLED", "the job to be cancelled")
    left = kept_step(folder)
    submitting.run("--config", LONG, "--", target)
    assert submitting.states("train")[-2:] == ["CANCELLED", "COMPLETED"]
    assert first_step_told(submitting) > left >= VALIDATED


def test_jobs_of_a_call_that_was_killed_go_on_and_the_next_call_takes_what_they_make(submitting, training):
    target, folder = training
    call = submitting.start("--config", LONG, "--", target)
    until(lambda: begun(folder), "a checkpoint")
    pid = pid_of_training(submitting)
    os.kill(pid, signal.SIGSTOP)  # so that the next call's job meets it, on however fast a machine
    call.kill()
    call.communicate()
    assert "--unlock" in submitting.run("--config", LONG, "--", target, ok=False)
    submitting.run("--config", LONG, "--unlock", "--", target)
    call = submitting.start("--config", LONG, "--", target)
    until(lambda: "another process is making" in told(submitting), "the second job to wait for the first")
    os.kill(pid, signal.SIGCONT)
    ended(call)
    assert submitting.states("train")[-2:] == ["COMPLETED", "COMPLETED"]
    assert "nothing to do" in told(submitting)
    assert model_of(folder) == made_here(submitting, target, folder)


def test_a_training_over_its_time_limit_goes_on_in_the_next_job(submitting, training):
    target, folder = training
    own = submitting.own_profile("own_profile", {"slurm_partition": "other"}, train={"runtime": 1})
    call = submitting.start("--config", LONG, "--", target, profile=own)
    until(lambda: begun(folder), "a checkpoint")
    pid = pid_of_training(submitting)
    os.kill(pid, signal.SIGSTOP)  # from now on it takes for ever, on however fast a machine
    left = kept_step(folder)
    ended(call)
    assert first_step_told(submitting) > left
    assert submitting.states("train")[-2:] == ["TIMEOUT", "COMPLETED"]
    asked = submitting.jobs("train")[-1]
    assert (asked["TimeLimit"], asked["Partition"], asked["MinMemoryNode"]) == ("00:01:00", "other", "16000M")
    assert model_of(folder) == made_here(submitting, target, folder)
