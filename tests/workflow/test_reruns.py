"""What is run again, run for real: one changed run, and a pipeline that was killed."""

import re
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from lgmamba.config.files import read_config
from lgmamba.config.run import RunConfig
from lgmamba.config.study import load_params
from tests.train.tiny import train_at
from tests.waiting import HANGS, until
from tests.workflow.checkouts import Checkout, environment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def change(checkout: Checkout, run: str, **train) -> None:
    """Another training of one run, and no tracking, for speed."""
    values = yaml.safe_load((checkout.path / "params.yaml").read_text())
    values["runs"][run] = (values["runs"][run] or {}) | {"train": train}
    values["tracking"] = {"kind": "none"}
    (checkout.path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def home(checkout: Checkout, run: str) -> Path:
    """Folder of a run, relative to the checkout."""
    params = load_params(checkout.path / "params.yaml")
    return params.outputs.results / "runs" / run / f"seed{params.seeds[0]}"


@pytest.mark.thorough
def test_one_changed_run_is_trained_again_and_the_other_is_not_touched(spoilable):
    changed, other = list(load_params(spoilable.path / "params.yaml").runs)[:2]
    models = {run: spoilable.path / home(spoilable, run) / "train" / "model.safetensors" for run in (changed, other)}
    before = {run: (path.read_bytes(), path.stat().st_mtime_ns) for run, path in models.items()}
    change(spoilable, changed, weight_decay=0.5)
    text = spoilable.snakemake("--until", "train")
    assert re.findall(r"Train (\w+), seed", text) == [changed]
    assert models[changed].read_bytes() != before[changed][0]
    assert (models[other].read_bytes(), models[other].stat().st_mtime_ns) == before[other]
    assert {"reconstruct": 1, "evaluate": 1}.items() <= spoilable.planned().items()


def written(path: Path) -> tuple[int, int] | None:
    """What tells one writing of a file from another; None where there is no file."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


class Call:
    """`snakemake`, in a process group of its own, which can be killed whole or in part."""

    def __init__(self, checkout: Checkout, *targets: str):
        self.process = subprocess.Popen(
            ["snakemake", "--cores", "2", *targets],
            cwd=checkout.path,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for(self, path: Path) -> None:
        """Until the training has written a checkpoint newer than those there when the call began."""
        before = written(path)

        def newer() -> bool:
            assert self.process.poll() is None, self.process.stdout.read()
            return written(path) != before

        until(newer, f"another {path.name}", every_s=0.01)

    def kill_training(self) -> str:
        """As the system does when memory runs out; returns what Snakemake then says."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        (training,) = (p for p in children if p.cmdline()[1:4] == ["-m", "lgmamba", "train"])
        training.kill()
        text, _ = self.process.communicate(timeout=HANGS)
        assert self.process.returncode == 1
        return text

    def kill_all(self) -> None:
        """As a machine that goes down does."""
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            process.kill()
        self.process.communicate(timeout=HANGS)


@pytest.mark.thorough
def test_a_killed_pipeline_goes_on_where_it_was_and_ends_with_the_same_bytes(spoilable, tmp_path):
    run = next(iter(load_params(spoilable.path / "params.yaml").runs))
    short = {"batch_size": 4, "validate_images": 4}
    change(spoilable, run, steps=1000, log_every=10, validate_every=10, checkpoint_every_s=0, **short)
    folder = home(spoilable, run)
    model, checkpoint = (
        str(folder / "train" / "model.safetensors"),
        spoilable.path / folder / "work" / "resume.safetensors",
    )

    first = Call(spoilable, model)
    first.wait_for(checkpoint)
    assert "Error in rule train" in first.kill_training()
    second = Call(spoilable, model)
    second.wait_for(checkpoint)
    second.kill_all()
    assert checkpoint.exists()
    assert not (spoilable.path / model).exists()
    assert "--unlock" in spoilable.snakemake(model, ok=False)
    spoilable.snakemake("--unlock")
    spoilable.snakemake(model)

    params = load_params(spoilable.path / "params.yaml")
    log = spoilable.path / params.outputs.results / "logs" / "train" / run / f"seed{params.seeds[0]}.log"
    assert int(re.search(r"step (\d+) of 1000", log.read_text())[1]) > 20  # not from the beginning
    config = read_config(spoilable.path / folder / "run.json", RunConfig)
    train_at(tmp_path / "whole", config, spoilable.path / params.outputs.data)
    assert (spoilable.path / model).read_bytes() == (tmp_path / "whole" / "train" / "model.safetensors").read_bytes()
