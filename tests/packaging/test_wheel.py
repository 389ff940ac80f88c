"""The wheel, installed outside the checkout with what it asks for and nothing else: scans, a training, a study to its report."""

import zipfile
from importlib.metadata import distribution

import pytest
import yaml

from lgmamba.extras import EXTRAS
from tests.packaging.environments import build_wheel, closure, install, with_extras
from tests.workflow.checkouts import ROOT

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

AT_MOST = 15
"""Packages that the wheel brings beside torch and what torch brings."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory):
    return install(wheel, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def study(core, tmp_path_factory):
    return with_extras(core, tmp_path_factory.mktemp("study"), "study")


def test_the_wheel_holds_sources_and_the_workflow_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    checkout = {
        path.relative_to(ROOT).as_posix()
        for folder in ("lgmamba", "workflow", "profiles", "params.yaml")
        for path in ([ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {name if name.startswith("lgmamba/") else f"lgmamba/_study/{name}" for name in checkout}
    assert names == expected
    assert {"lgmamba/py.typed", "lgmamba/scan/_cpu_kernel.cpp", "lgmamba/_study/workflow/presets/smoke.yaml"} <= names


def test_few_packages_come_beside_torchs_own(core):
    ours = {path.name.split("-")[0].lower() for path in core.path.glob("lib/python*/site-packages/*.dist-info")}
    torchs = {name.replace("-", "_") for name in closure(distribution("torch"))} | {"torch", "lgmamba"}
    assert len(ours - torchs) <= AT_MOST, sorted(ours - torchs)


CORE = """
import torch

from lgmamba import load_params, selective_scan
from lgmamba.data.dataset import in_memory
from lgmamba.shipped import workflow_home
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep

x, A, projection = torch.ones(1, 4, 3), -torch.ones(3, 2), torch.ones(1, 4, 2)
y = selective_scan(x, x, A, projection, projection)
torch.testing.assert_close(y, selective_scan(x, x, A, projection, projection, backend="reference"))

run = load_params(workflow_home() / "params.yaml", "smoke").runs_by_name()["uniform_16"]
dataset = in_memory(torch.randint(256, (256, 1, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(0)))
model, task = build_model(run, dataset.image_shape), build_task(run, dataset)
step = TrainStep(model, build_optimizer(model, run.train), task, run.train.grad_clip, False, False)
sampler = task.sampler(dataset.split("train"), run.train, 0, False)
before = [p.clone() for p in model.parameters()]
for i in range(2):
    step(sampler.draw(i))
assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
print("trained", run.run)
"""
IMPORT_ALL = """
import importlib, pkgutil, sys
import lgmamba
from lgmamba.extras import told_of_import

needs = {}
for module in pkgutil.walk_packages(lgmamba.__path__, "lgmamba."):
    if module.name == "lgmamba.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as e:
        assert told_of_import(e), (module.name, e)
        needs[module.name] = e.name
print(sorted(needs))
"""
NEED_AN_EXTRA = {"analysis", "data", "explorer", "figures", "hosts", "hub", "publish", "report", "scan", "tradeoff"}
"""Packages and modules of which a part does; `lgmamba.hosts` itself, remedies, models and tasks do not."""


AUDIT = """
import torch
from transformers import MambaConfig, MambaForCausalLM

import lgmamba
from lgmamba.cli import app

torch.manual_seed(0)
model = MambaForCausalLM(MambaConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, state_size=2)).eval()
model.save_pretrained("theirs")
remedies = [{"name": "slower", "kind": "step_size", "form": "power", "mode": "stream"}]
ids = torch.randint(256, (200,))
lgmamba.audit(model, ids, L0=8, length_ratios=(1, 2), windows=2, remedies=remedies, out="by_python")
open("remedies.yaml", "w").write("remedies:\\n- {name: slower, kind: step_size, form: power, mode: stream}\\n")
words = "audit theirs --bytes --L0 8 --length-ratio 1 --length-ratio 2 --windows 2 --remedies remedies.yaml --device cpu"
app([*words.split(), "--out", "by_command"])
"""


@pytest.fixture(scope="module")
def lm(core, tmp_path_factory):
    return with_extras(core, tmp_path_factory.mktemp("lm"), "lm")


def test_the_extra_for_language_models_alone_has_what_an_audit_imports(lm, tmp_path):
    lm.run("-c", "import transformers, lgmamba.hosts.audit.page, lgmamba.hosts.audit.run", cwd=tmp_path)


@pytest.mark.thorough
def test_it_gives_the_page_of_a_model_that_was_made_elsewhere(lm, tmp_path):
    lm.run("-c", AUDIT, cwd=tmp_path, HF_HUB_OFFLINE="1")
    for made in ("by_python", "by_command"):
        assert "<html" in (tmp_path / made / "audit.html").read_text()


@pytest.fixture(scope="module")
def bare(core, tmp_path_factory) -> list[str]:
    """Lines that a process says that trains a little and then imports all there is."""
    return core.run("-c", CORE + IMPORT_ALL, cwd=tmp_path_factory.mktemp("bare")).splitlines()


def test_scans_and_a_tiny_training_need_no_extra(bare):
    assert "trained uniform_16" in bare


def test_what_cannot_be_imported_without_extras_names_one(bare):
    needy = yaml.safe_load(bare[-1])
    assert {name.split(".")[1] for name in needy} <= NEED_AN_EXTRA
    assert not {"lgmamba.hosts", "lgmamba.scan", "lgmamba.data"} & set(needy)


CONFIGURED = """
import sys
from lgmamba.cli import main

for words in ("new mine", "show --preset studies/mine.yaml --write --commands"):
    sys.argv = ["lgmamba", *words.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, words
"""


def test_a_command_that_needs_an_extra_says_which_in_one_line(core, tmp_path):
    said = core.run("-c", CONFIGURED, cwd=tmp_path)
    assert "lgmamba show --preset studies/mine.yaml --write --commands | sh -e" in said
    config = "results/mine/config/study.json"
    ended = core.run(
        "-m", "lgmamba", "evaluate", "--study", config, "--results", "r", "--out", "o", cwd=tmp_path, ok=False
    )
    assert ended == "error: the package polars is not installed; pip install 'lgmamba[study]'\n"


TINY = {
    "train": {
        "steps": 4,
        "warmup_steps": 1,
        "batch_size": 4,
        "log_every": 2,
        "validate_every": 2,
        "validate_images": 4,
    },
    "model": {"d_model": 8, "n_layer": 1, "mixer": {"d_state": 2}, "decoder": {"hidden": 8}},
    "evaluation": {"images": 4, "panel_images": 2, "max_length_ratio": 2, "length_ratios": [2]},
    "claims": {"far_length_ratios": [2]},
    "runs": {"uniform_16": {}},
    "device": "cpu",
}


def test_a_new_study_runs_to_its_report_in_an_empty_folder(study, tmp_path):
    made = study.run("-m", "lgmamba", "new", "mine", cwd=tmp_path)
    assert (
        made.splitlines()[1] == "wrote studies/mine.yaml, params.yaml, profiles/default/config.yaml, Snakefile; next:"
    )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    # Without --cores 4: two processes at a time are what the machines of CI have.
    call = ("-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml", "--config", "preset=studies/mine.yaml")
    study.run(*call, cwd=tmp_path)
    assert "Study `mine`: 1 run" in (tmp_path / "reports/mine/report.md").read_text(encoding="utf-8")
    assert "Nothing to be done" in study.run(*call, cwd=tmp_path)


LOADED = """
import sys
import torch

before = {name.partition(".")[0] for name in sys.modules}
import lgmamba, lgmamba.model, lgmamba.remedies, lgmamba.remedies.registry, lgmamba.scan

new = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(sorted(name for name in new if not name.startswith("_")))
"""


def test_importing_the_core_loads_pydantic_and_nothing_else_that_is_heavy(study, tmp_path):
    loaded = set(yaml.safe_load(study.run("-c", LOADED, cwd=tmp_path)))
    light = {"lgmamba", "numpy", "safetensors"}
    assert loaded - light <= {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
    assert not loaded & {package for packages in EXTRAS.values() for package in packages}
