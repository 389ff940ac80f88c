"""Every command explains itself, starts quickly, and tells a person what is wrong without a traceback."""

import ast
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from lgmamba.cli import FOR_PEOPLE
from lgmamba.data.artefact import read_manifest
from lgmamba.files import digest_of
from lgmamba.making import held
from lgmamba.track import NullTracker
from lgmamba.train.loop import train
from tests.cli.programs import ROOT, environment, program
from tests.train.tiny import CPU, FILES, build_digits, tiny_run

COMMANDS = (
    "show",
    "data",
    "train",
    "train-stack",
    "reconstruct",
    "remedy",
    "probes",
    "evaluate",
    "keep",
    "figure",
    "report",
    "track",
)


def train_words(paths, **changes) -> list:
    given = {"run": paths.run, "data": paths.data, "out": paths.out, "work": paths.work, "device": "cpu"} | changes
    return ["train", *(word for key, value in given.items() for word in (f"--{key}", value))]


def test_help_lists_every_command():
    ended = program("-m", "lgmamba", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert all(f" {name} " in ended.out for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "track init", "track import", "track report"])
def test_every_command_has_help(lgmamba, command):
    for option in ("--help", "-h"):
        ended = lgmamba(*command.split(), option)
        assert ended.code == 0
        assert f"lgmamba {command}" in ended.out


def test_the_command_line_is_there_before_anything_heavy():
    code = (
        "import sys, lgmamba.cli; print([m for m in ('torch', 'polars', 'mlflow', 'numpy', 'pyarrow', 'matplotlib', "
        "'sklearn', 'snakemake', 'rich.progress') if m in sys.modules])"
    )
    assert ast.literal_eval(program("-c", code).out) == []


def assert_told(ended, *parts: str) -> None:
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("error: ") or "error: " in ended.err
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err


def test_a_missing_file_ends_the_real_process_with_one_line(paths):
    ended = program("-m", "lgmamba", *train_words(paths, run="gone.json"))
    assert (ended.code, ended.out) == (1, "")
    assert (
        ended.err
        == "error: gone.json: no such file; it is written when the workflow starts, and by `lgmamba show --write`\n"
    )


def test_a_typo_in_the_parameters_is_named(lgmamba):
    ended = lgmamba("show", "params.yaml", "--override", "{train: {stepz: 3}}")
    assert_told(ended, "train.stepz: unknown key", "did you mean 'steps'")
    patches = lgmamba("show", "--preset", "digits", "--override", "{task: {patch_size: 3}, data: {image_size: [8, 6]}}")
    assert_told(patches, "found task.patch_size 3, expected: a divisor of data.image_size, 8 x 6 pixels")
    assert_told(lgmamba("show", "--preset", "gone"), "preset 'gone'", "smoke")
    assert_told(lgmamba("show", "gone.yaml"), "gone.yaml: no such file")


def test_a_typo_in_a_run_file_is_named(lgmamba, paths):
    values = json.loads(paths.run.read_text())
    values["train"]["stepz"] = values["train"].pop("steps")
    paths.run.write_text(json.dumps(values))
    assert_told(
        lgmamba(*train_words(paths)), f"{paths.run} is invalid", "train.stepz: unknown key", "train.steps: required"
    )


@pytest.mark.parametrize("kind", ["gone", "folder"])
def test_a_wrong_data_folder_is_named(lgmamba, paths, kind):
    folder = paths.root / "elsewhere"
    if kind == "folder":
        folder.mkdir()
    ended = lgmamba(*train_words(paths, data=folder))
    assert_told(ended, f"no data artefact at {folder}", "lgmamba data")
    assert not paths.out.exists()


def test_images_of_another_study_are_named(lgmamba, paths):
    paths.run.write_text(tiny_run(task={"patch_size": 3}).model_dump_json())
    assert_told(lgmamba(*train_words(paths)), "run 'tiny' does not fit the images", "patch_size=3 does not divide")


def test_a_configuration_without_validation_images_is_named(lgmamba, paths):
    data = build_digits(paths.root / "data", splits={"val": 0.0})
    assert_told(lgmamba(*train_words(paths, data=data)), "found no image in split val")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("command", ["train", "reconstruct", "show"])
def test_cuda_without_a_gpu_is_an_error_that_says_what_to_do(lgmamba, paths, monkeypatch, command):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if command == "reconstruct":
        lgmamba(*train_words(paths))
    words = {
        "train": train_words(paths, device="cuda"),
        "reconstruct": [*evaluation_words(paths), "--device", "cuda"],
        "show": ["show", "--preset", "smoke", "--measure", "--device", "cuda"],
    }[command]
    assert_told(lgmamba(*words), "device: found 'cuda', but torch finds no CUDA device", "expected auto or cpu")
    assert not (paths.root / "evaluation" if command == "reconstruct" else paths.out).exists()


def evaluation_words(paths) -> list:
    settings = {
        "split": "test",
        "images": 4,
        "repeats": 1,
        "orders": ["permutation"],
        "max_length_ratio": 2,
        "length_ratios": [],
        "extra_steps": [],
    }
    settings |= {"batch_images": 4, "chunk": 4, "panel_images": 2}
    file = {
        "run": json.loads(paths.run.read_text()),
        "evaluation": settings,
        "steps": [1, 6, 12],
        "panel_steps": [1, 6],
    }
    (paths.root / "evaluation.json").write_text(json.dumps(file))
    given = {
        "config": paths.root / "evaluation.json",
        "train": paths.out,
        "data": paths.data,
        "out": paths.root / "evaluation",
    }
    return ["reconstruct", *(word for key, value in given.items() for word in (f"--{key}", value))]


def test_training_then_reconstruction_by_hand(lgmamba, paths):
    trained = lgmamba(*train_words(paths))
    assert (trained.code, trained.err) == (0, "")
    assert trained.out.startswith(f"{paths.out}: 20 steps in ")
    assert {p.name for p in paths.out.iterdir()} == set(FILES)
    probed = lgmamba(*evaluation_words(paths), "--device", "cpu")
    assert probed.code == 0
    assert probed.out.startswith(f"{paths.root / 'evaluation'}: 4 images, up to 12 patches, in ")


def test_a_missing_checkpoint_is_named(lgmamba, paths):
    ended = lgmamba(*evaluation_words(paths), "--device", "cpu")
    assert_told(ended, f"{paths.out}/record.json: missing, so that what is there was not finished; `lgmamba train ...")


def test_a_training_that_diverges_is_told_to_a_person_and_to_the_tracker(lgmamba, paths, monkeypatch):
    from lgmamba import track

    reasons = []

    class Recorder(track.NullTracker):
        def fail(self, reason: str) -> None:
            reasons.append(reason)

    monkeypatch.setattr(track, "open_tracker", lambda *args: Recorder())
    paths.run.write_text(tiny_run(train={"lr": 1e30, "warmup_steps": 0}).model_dump_json())
    assert_told(lgmamba(*train_words(paths)), "run 'tiny', seed 0: the ", "a lower train.lr or train.grad_clip")
    assert [reason.partition(":")[0] for reason in reasons] == ["TrainingError"]
    assert not (paths.out / "train.json").exists()


@pytest.mark.parametrize(
    "backend, mixer, why",
    [("cuda", {}, "cuda"), ("fla", {"kind": "gla", "heads": 2, "key": 4, "value": 4}, "flash-linear-attention")],
)
def test_a_backend_that_cannot_run_here_is_told_and_leaves_nothing(lgmamba, paths, backend, mixer, why):
    values = tiny_run().model_dump(mode="json")
    values["model"] |= {"scan_backend": backend} | ({"mixer": mixer} if mixer else {})
    paths.run.write_text(json.dumps(values))
    ended = lgmamba(*train_words(paths))
    assert_told(ended, f"backend={backend!r} cannot run on device 'cpu': ", why)
    assert not list(paths.out.glob("*"))


def test_an_evaluation_without_results_lists_what_is_missing(lgmamba, tmp_path, monkeypatch):
    ended = lgmamba("evaluate", "--study", "gone.json", "--results", tmp_path, "--out", tmp_path / "frames")
    assert_told(ended, "gone.json: no such file")


def test_every_error_for_people_exists():
    from lgmamba.analysis.collect import CollectError
    from lgmamba.config.base import ConfigError
    from lgmamba.data.errors import BadImage, DataError
    from lgmamba.hosts.errors import HostError
    from lgmamba.records import ArtefactError
    from lgmamba.scan import BackendError
    from lgmamba.train.loop import TrainingError

    errors = (ArtefactError, BackendError, CollectError, ConfigError, BadImage, DataError, HostError, TrainingError)
    assert {e.__name__ for e in errors} == FOR_PEOPLE


def test_an_error_of_the_program_keeps_its_traceback(lgmamba, paths, monkeypatch):
    def broken(*args):
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("lgmamba.train.loop.train_stack", broken)
    with pytest.raises(KeyError, match="a mistake of ours"):
        lgmamba(*train_words(paths))


def remade(path, call):
    """What a call says, and whether it wrote the file again."""
    before = path.stat().st_mtime_ns, path.stat().st_ino
    ended = call()
    assert ended.code == 0, ended.err
    return ended.out, (path.stat().st_mtime_ns, path.stat().st_ino) != before


def test_a_result_that_is_current_is_left_alone_and_any_other_is_made_again(lgmamba, paths):
    weights = paths.out / "model.safetensors"
    lgmamba(*train_words(paths))
    content = weights.read_bytes()
    said, again = remade(weights, lambda: lgmamba(*train_words(paths)))
    assert (said, again) == (f"{paths.out}: is current, made from exactly this; nothing to do\n", False)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    _, again = remade(weights, lambda: lgmamba(*train_words(paths)))
    assert again
    assert weights.read_bytes() == content
    paths.run.write_text(tiny_run(train={"steps": 4, "warmup_steps": 2}).model_dump_json())
    said, _ = remade(weights, lambda: lgmamba(*train_words(paths)))
    assert said.startswith(f"{paths.out}: 4 steps in ")


def test_the_result_of_another_run_is_not_written_over(lgmamba, paths):
    lgmamba(*train_words(paths))
    before = (paths.out / "model.safetensors").read_bytes()
    paths.run.write_text(tiny_run(run="other").model_dump_json())
    ended = lgmamba(*train_words(paths))
    assert_told(ended, f"{paths.out}: found a result of train for study 'tests', run 'tiny'", "expected", "'other'")
    assert (paths.out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("file", ["model.safetensors", "record.json"])
def test_a_damaged_checkpoint_is_named_with_the_command_that_makes_it_again(lgmamba, paths, file):
    lgmamba(*train_words(paths))
    path = paths.out / file
    path.write_bytes(path.read_bytes()[:-9])
    ended = lgmamba(*evaluation_words(paths), "--device", "cpu")
    assert_told(ended, str(path), "damaged", f"`lgmamba train ... --out {paths.out}` makes it again")
    assert not (paths.root / "evaluation").exists()


def test_images_of_another_configuration_are_refused_by_every_reader(lgmamba, paths):
    """As where a second study builds its own images in the folder of the first."""
    mine = digest_of(read_manifest(paths.data).config)
    paths.run.write_text(tiny_run(images=mine).model_dump_json())
    lgmamba(*train_words(paths))
    other = build_digits(paths.root / "other", splits={"val": 0.2})
    ended = lgmamba(*train_words(paths, data=other))
    assert_told(ended, f"{other}: images of another configuration", f"than the run's ({mine[:12]})")
    ended = lgmamba(*evaluation_words(paths), "--device", "cpu", "--data", other)
    assert_told(ended, f"{other}: images of another configuration")


def test_a_checkpoint_trained_on_other_images_is_refused(lgmamba, paths):
    lgmamba(*train_words(paths))
    other = build_digits(paths.root / "other", max_images=200)
    assert_told(
        lgmamba(*evaluation_words(paths), "--device", "cpu", "--data", other), f"{paths.out}: trained on images"
    )


def test_images_that_are_current_are_not_decoded_again(lgmamba, paths):
    config = paths.root / "data.json"
    config.write_text(json.dumps({"data": read_manifest(paths.data).config, "patch_sizes": [2]}))
    words = ("data", "--config", config, "--out", paths.root / "mine")
    assert lgmamba(*words).code == 0
    said, again = remade(paths.root / "mine/manifest.json", lambda: lgmamba(*words))
    assert ("is current" in said, again) == (True, False)
    next((paths.root / "mine").glob("*.safetensors")).write_bytes(b"half")
    _, again = remade(paths.root / "mine/manifest.json", lambda: lgmamba(*words))
    assert again


def test_a_second_process_waits_for_the_one_that_trains_the_same_run_and_finds_it_done(paths):
    """Also for one that its parent left behind: what is held here is all that such a process leaves to be seen."""
    with held(paths.out.parent / f".{paths.out.name}.lock", "the first"):
        second = subprocess.Popen(
            [sys.executable, "-m", "lgmamba", *map(str, train_words(paths))],
            cwd=ROOT,
            env=environment() | {"PYTHONPATH": str(ROOT)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert second.stderr.readline() == f"another process is making {paths.out}: waiting for it\n"
        train(tiny_run(), paths.data, paths.out, paths.work, CPU, NullTracker())
    said, _ = second.communicate()
    assert (second.returncode, said) == (0, f"{paths.out}: is current, made from exactly this; nothing to do\n")


def test_a_training_told_to_end_says_so_to_the_tracker_and_can_go_on(lgmamba, paths, monkeypatch):
    from lgmamba import track

    told = []

    class Recorder(track.NullTracker):
        def log(self, step, metrics):
            os.kill(os.getpid(), signal.SIGTERM)

        def stop(self):
            told.append("stopped")

    monkeypatch.setattr(track, "open_tracker", lambda *args: Recorder())
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert lgmamba(*train_words(paths)).code == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == ["stopped"]
    assert not (paths.out / "record.json").exists()
