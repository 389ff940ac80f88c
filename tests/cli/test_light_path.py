"""Training, reconstruction and remedies on a bare machine: torch, numpy, pyarrow, pydantic, safetensors, and none of the rest."""

import pytest
import yaml

from tests.analysis.synthetic_probes import PROBES
from tests.cli.programs import program
from tests.probe.study import STUDY
from tests.train.tiny import FILES, build_digits
from tests.workflow import served
from tests.workflow.checkouts import ROOT

ABSENT = ("polars", "mlflow", "snakemake", "seaborn", "matplotlib", "dvc", "sklearn", "pandas", "numba", "psutil")
HIDE = f"""
from importlib.machinery import PathFinder

found = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {ABSENT} else found(name, path, target)


PathFinder.find_spec = find_spec
"""
"""As sitecustomize.py on the path, this hides packages from `import` and from `importlib.util.find_spec` alike."""


REMEDIES = {
    "remedies": [{"name": "mult", "kind": "spectrum", "form": "mult", "calibrate": "zeroth_order", "mode": "prefix"}],
    "remedy_evaluation": {
        "runs": ["told"],
        "length_ratios": [2],
        "orders": ["permutation"],
        "images": 2,
        "calibration": {"images": 2, "steps": 1, "lengths": [2]},
    },
}


@pytest.fixture
def bare(tmp_path):
    """A folder to work in, and a Python that lacks what a bare machine lacks."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(HIDE)
    values = STUDY | {"runs": {name: STUDY["runs"][name] for name in ("plain", "told")}, "seeds": [0]} | REMEDIES
    values |= {"extends": "digits", "probes": PROBES | {"runs": ["told"], "length_ratios": [2]}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))

    path = f"{tmp_path / 'python'}:{ROOT}"

    def call(*words, loaded=False):
        if not loaded:
            return program(*words, cwd=tmp_path, PYTHONPATH=path)
        served_by = served.folder("models", path)  # such a Python, which has torch loaded
        return program(*served.python(*words)[1:], cwd=tmp_path, PYTHONPATH=path, LGMAMBA_PRELOADED=served_by)

    return call


def test_the_packages_are_really_hidden(bare):
    code = (
        "import importlib.util\n"
        f"for name in {ABSENT}:\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        "    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError:\n        continue\n"
        "    raise SystemExit(f'{name} is there')\n"
    )
    ended = bare("-c", code)
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_training_reconstruction_and_remedies_need_none_of_the_packages_for_the_rest(bare, tmp_path):
    build_digits(tmp_path / "data")  # made beforehand, on a machine that has everything
    shown = bare("-m", "lgmamba", "show", ROOT / "params.yaml", "--preset", "tiny.yaml", "--write", "--commands")
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    train, evaluation, remedy, look = (line for line in lines[1:] if "told" in line[5])
    trained = bare(*train[1:], "--track", "mlflow", loaded=True)
    assert trained.code == 0, trained.err
    assert "MLflow is not installed: nothing is tracked" in trained.err
    probed = bare(*evaluation[1:], loaded=True)
    assert probed.code == 0, probed.err
    looked = bare(*look[1:], loaded=True)
    assert looked.code == 0, looked.err
    tried = bare(*remedy[1:], loaded=True)
    assert tried.code == 0, tried.err
    home = tmp_path / "results" / "runs" / "told" / "seed0"
    assert len(list((home / "remedies").iterdir())) == 5
    assert {p.name for p in (home / "train").iterdir()} == set(FILES)
    assert len(list((home / "evaluation").iterdir())) == 5
    assert len(list((home / "probes").iterdir())) == 15
    table = bare("-m", "lgmamba", "show", ROOT / "params.yaml", "--preset", "tiny.yaml", loaded=True)
    assert table.code == 0, table.err
