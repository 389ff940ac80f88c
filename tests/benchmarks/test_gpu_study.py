"""What benchmarks/gpu_study.py makes of the logs of a GPU machine. The logs are made up: a study of five runs with two seeds each."""

import importlib
import io
import json
import re
import sys
import tarfile
from types import ModuleType

import pytest

from lgmamba.config.study import Params
from tests.config.studies import ROOT, SMALL
from tests.config.studies import study as small_study

RUNS = SMALL["runs"] | {
    "passed": {"train": {"state_passing": {"kind": "same_image", "max_factor": 25, "share": 0.5}}},
}
STACKS = {"fixed_4": 10.0, "fixed_12": 20.0, "plain": 30.0, "told": 40.0}
"""Trainings of both seeds side by side; state passing is trained alone."""
MACHINE = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-01ab)\n0123456789 What was changed\n16 CPU cores, driver 580\n"
HEADLINE = {
    "psnr": [{"run": "plain", "psnr": {"1": 20.0, "2": 18.0, "25": 11.0}}, {"run": "told", "psnr": {"1": 19.0}}]
}
ALONE = [("train plain 0", 12.5), ("reconstruct plain 0", 3.5)]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """benchmarks/gpu_study.py, which imports what lies beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("gpu_study")


@pytest.fixture(scope="module")
def study() -> Params:
    return small_study(runs=RUNS)


def log(*jobs: tuple, total: float, study: str = "digits") -> str:
    """What without_snakemake.py prints of jobs (name, seconds) that were done, or (name, seconds, what became of them)."""
    lines = []
    for name, seconds, *rest in jobs:
        what, reason = (*rest, "done")[0], "not there yet" if name.startswith("train") else "after data"
        lines.append(f"{study} {name} ({reason}): {what}, {seconds:.1f} s")
    return "\n".join([*lines, f"{len(jobs)} of {len(jobs)} chains of stages done in {total:.1f} s"]) + "\n"


def stacks(*names: str) -> list[tuple]:
    return [(f"train-stack {name} 0", STACKS[name]) for name in names]


def read(*names: str) -> list[tuple]:
    return [(f"reconstruct {name} {seed}", 2.0) for name in names for seed in (0, 1)]


def passed(*seeds: int) -> list[tuple]:
    return [(f"train passed {seed}", 50.0) for seed in seeds]


WHOLE = [("data", 5.0), *stacks(*STACKS), *passed(0, 1), *read(*RUNS)]


def test_a_stack_is_one_job_and_all_its_trainings(program, study):
    assert program.on_the_gpu(study, {"whole.log": log(*WHOLE, total=90)}) == {
        "seconds": 90,
        "calls": 1,
        "all_jobs": 5 + 100 + 100 + 20,
        "train": 100 + 100,
        "reconstruct": 20,
        "trainings": 10,
        "side_by_side": 8,
        "stacks": 4,
    }


def test_of_two_calls_what_was_stopped_is_time_and_what_was_done_again_counts_once(program, study):
    first = [("data", 5.0), *stacks("told", "plain"), *read("told"), ("train passed 0", 7.0, "stopped")]
    first += [("train passed 1", 3.0, "FAILED, see results/digits/logs/train/passed/seed1.log")]
    second = [("data", 4.0), *stacks("told", "fixed_12", "fixed_4"), *passed(0, 1), *read(*RUNS)]
    found = program.on_the_gpu(study, {"whole1.log": log(*first, total=80), "whole2.log": log(*second, total=70)})
    assert (found["seconds"], found["calls"]) == (150, 2)
    assert found["all_jobs"] == (5 + 70 + 4 + 7 + 3) + (4 + 70 + 100 + 20)
    assert (found["train"], found["reconstruct"]) == (100 + 100, 20)
    assert (found["trainings"], found["side_by_side"], found["stacks"]) == (10, 8, 4)


def test_a_training_that_a_stack_left_is_one_alone(program, study):
    found = program.on_the_gpu(study, {"whole.log": log(*WHOLE, ("train told 1", 25.0), total=90)})
    assert (found["train"], found["side_by_side"], found["stacks"]) == (100 + 100 + 25, 7, 4)


@pytest.mark.parametrize("gone, told", [
    ("train passed 1", "1 of 20 jobs are in none of 1 logs, such as train passed 1"),
    ("train-stack plain 0", "2 of 20 jobs are in none of 1 logs, such as train plain 0"),
    ("reconstruct fixed_12 0", "1 of 20 jobs are in none of 1 logs, such as reconstruct fixed_12 0"),
])  # fmt: skip
@pytest.mark.parametrize("end", [None, "stopped", "FAILED, see results/digits/logs/it.log"])
def test_a_job_that_is_in_no_log_is_named(program, study, gone, told, end):
    jobs = [job if job[0] != gone else (*job, end) for job in WHOLE if job[0] != gone or end]
    with pytest.raises(SystemExit) as ended:
        program.on_the_gpu(study, {"whole.log": log(*jobs, total=90)})
    assert str(ended.value) == told


def test_a_call_whose_time_is_not_that_of_the_study_on_one_gpu_is_refused(program, study):
    whole = log(*WHOLE, total=90)
    other = log(("train plain 0", 1.0), total=1, study="other")
    parts = log(*WHOLE, ("train-stack plain 1", 1.0), total=90)
    for logs, told in [
        ({"whole1.log": whole, "whole2.log": other}, "whole2.log: found a job of study other, expected only those of digits"),
        ({"whole1.log": parts}, "whole1.log: found train-stack plain 1, which is no train-stack of digits on one GPU"),
        ({"whole1.log": whole.rpartition("20 of")[0].rpartition("\n17 of")[0]}, "whole1.log: expected one line `... chains"),
    ]:  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            program.on_the_gpu(study, logs)
        assert told in str(ended.value)


def test_what_was_done_alone_has_a_training_and_a_reconstruction(program, study):
    assert program.alone(study, log(*ALONE, total=16)) == {"plain": {"train": 12.5, "reconstruct": 3.5}}
    for trained in (("train-stack plain 0", 30.0), (*ALONE[0], "stopped")):
        with pytest.raises(SystemExit, match=r"alone.log: plain has no line of train$"):
            program.alone(study, log(trained, *ALONE[1:], total=16))


def test_what_machine_txt_lacks_is_named(program):
    assert program.about_gpu(MACHINE.replace("16 CPU cores, ", ""))["gpu_cores"] == "CPUs"
    for line, told in zip(MACHINE.splitlines(), ("`GPU 0: <name>`", "`<commit> <its message>`"), strict=False):
        with pytest.raises(SystemExit, match=f"machine.txt: found no line {re.escape(told)}"):
            program.about_gpu(MACHINE.replace(line, ""))


@pytest.fixture
def called(program, study, tmp_path, monkeypatch):
    """The program on an archive of files, in which this machine takes 8 s for each command; its block and numbers."""

    def call(**files: str) -> tuple[list[str], dict, list[str]]:
        archive, page, ran = tmp_path / "gpu.tar.xz", tmp_path / "cost.md", []
        with tarfile.open(archive, "w:xz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(f"digits/one_gpu/{name.replace('_', '.')}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
        page.write_text("<!-- generated:times:digits -->\n<!-- /generated -->\n")

        def measured(command: list[str], folder) -> dict[str, float]:
            ran.append(command[2:4])
            return {"seconds": 8.0, "peak_mb": 100.0}

        monkeypatch.setattr(program, "measured", measured)
        monkeypatch.setattr(program, "load_params", lambda path, preset: study)
        monkeypatch.setattr(program, "report_headline", lambda study: HEADLINE)
        monkeypatch.setattr(program, "cpu_name", lambda: "a CPU")
        monkeypatch.setattr(program.os, "sched_getaffinity", lambda pid: {0, 1})
        options = ["--archive", str(archive), "--out", str(tmp_path), "--readme", str(page)]
        monkeypatch.setattr(sys, "argv", ["gpu_study.py", *options])
        program.main()
        block = page.read_text().splitlines()[1:-1]
        assert (tmp_path / "gpu_study.md").read_text().splitlines()[2:] == block
        return block, json.loads((tmp_path / "gpu_study.json").read_text()), ran

    return call


def test_the_table_with_frames_made_on_this_machine(called):
    block, numbers, ran = called(whole1_log=log(*WHOLE, total=90), alone_log=log(*ALONE, total=16), machine_txt=MACHINE)
    assert ran == [["lgmamba", "evaluate"], ["snakemake", "--cores"]]
    assert block[:-1] == [
        "| study `digits`, from Parquet files to the report | where | time |",
        "| --- | --- | ---: |",
        "| images; 10 trainings, 8 of them side by side in 4 jobs, and their reconstructions; 2.5 jobs at a time in the mean "
        "| one NVIDIA H100 80GB HBM3 | 90 s |",
        "| frames, intervals, claims | 2 cores of a CPU | 8 s |",
        "| figures, report | the same cores | 8 s |",
        "| **all** | | **1 min 46 s** |",
        "| `plain` alone on that GPU: training + reconstructions | | 12 s + 4 s |",
        "",
    ]
    assert "from the log of one call on the GPU machine. What ran there is of commit `0123456`" in block[-1]
    assert "UUID" not in json.dumps(numbers)


def test_the_table_with_frames_made_on_the_gpu_machine_says_so(called):
    first, second = log(("data", 5.0), *stacks("told"), total=60), log(*WHOLE[1:], total=40)
    block, numbers, ran = called(
        whole1_log=first, whole2_log=second, alone_log=log(*ALONE, total=16), machine_txt=MACHINE,
        finish_log="frames of digits\nevaluate: 31.2 s\n",
    )  # fmt: skip
    assert ran == [["snakemake", "--cores"]]
    assert block[3:6] == [
        "| frames, intervals, claims | 16 CPU cores of the GPU machine | 31 s |",
        "| figures, report | 2 cores of a CPU | 8 s |",
        "| **all** | | **2 min 19 s** |",
    ]
    assert "from the logs of 2 calls on the GPU machine; what a call had to leave" in block[-1]
    assert numbers["evaluate"] == {"seconds": 31.2}


def test_the_table_of_a_study_made_on_the_gpu_machine_alone_where_jobs_share_the_gpu(called):
    block, _, ran = called(
        whole_log=log(*WHOLE, total=90), machine_txt=MACHINE + "NVIDIA MPS was on\n", finish_log="evaluate: 31.2 s\nreport: 9.1 s\n"
    )  # fmt: skip
    assert not ran
    assert "| one NVIDIA H100 80GB HBM3, shared by NVIDIA MPS | 90 s |" in block[2]
    assert block[-1].endswith("from the log of one call on the GPU machine. What ran there is of commit `0123456`.")
    assert block[3:] == [
        "| frames, intervals, claims | 16 CPU cores of the GPU machine | 31 s |",
        "| figures, report | the same cores | 9 s |",
        "| **all** | | **2 min 10 s** |",
        "",
        block[-1],
    ]


def test_what_was_set_and_how_far_the_numbers_are_from_the_reports_is_said(called, program):
    there = {
        "psnr": [{"run": "told", "psnr": {"1": 19.04}}, {"run": "plain", "psnr": {"1": 19.75, "2": 18.5, "25": 10.3}}]
    }
    machine = MACHINE + "evaluation: {precision: tf32}\n"
    block, numbers, _ = called(
        whole_log=log(*WHOLE, total=90),
        machine_txt=machine,
        finish_log="evaluate: 31.2 s\n",
        headline_json=json.dumps(there),
    )
    assert "; with `evaluation: {precision: tf32}` | one NVIDIA" in block[2]
    assert "differs by at most 0.25 dB at its L0, and by at most 0.70 dB beyond" in block[-3]
    assert numbers["differences"] == {"L0": 0.25, "beyond": pytest.approx(0.7)}
    with pytest.raises(SystemExit, match=r"headline\.json: other runs or lengths"):
        program.differences(there, {"psnr": HEADLINE["psnr"][:1]})


def test_lengths_at_which_a_run_is_not_read_are_not_compared(program):
    there, here = ({"psnr": [{"run": "plain", "psnr": {"1": v, "2": 18.0, "25": None}}]} for v in (20.0, 20.5))
    assert program.differences(there, here) == {"L0": 0.5, "beyond": 0.0}


def test_a_finish_log_without_its_line_ends_it(called):
    with pytest.raises(SystemExit, match=r"finish\.log: found no line like `evaluate: 31\.2 s`"):
        called(whole_log=log(*WHOLE, total=90), alone_log=log(*ALONE, total=16), machine_txt=MACHINE, finish_log="\n")


def test_a_folder_that_lacks_a_log_is_named(called):
    with pytest.raises(SystemExit, match=r"digits/one_gpu lacks machine.txt$"):
        called(whole_log=log(*WHOLE, total=90))
