from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lgmamba.analysis.evaluate import evaluate
from tests.analysis.synthetic_probes import PROBES
from tests.analysis.synthetic_remedies import VALUES
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values
from tests.sharing import made_once


def evaluated(tmp_path_factory: pytest.TempPathFactory, name: str, values: dict[str, Any]) -> SimpleNamespace:
    """A synthetic study and its frames, made once for all processes: study (JSON), results, frames."""

    def make(root: Path) -> None:
        study_json, results = make_study(root, values)
        evaluate(study_json, results, root / "frames")

    root = made_once(tmp_path_factory, f"synthetic_{name}", make)
    (results,) = (root / "results").iterdir()
    return SimpleNamespace(study=results / "config/study.json", results=results, frames=root / "frames")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An evaluated synthetic study with all that a study can have: study (JSON), results, frames."""
    return evaluated(tmp_path_factory, "study", study_values() | VALUES | {"probes": PROBES})


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An evaluated synthetic study of one family at two budgets, and of three adaptive forms at one of them."""
    longer = {"train": {"steps": 800}}
    told = {"kind": "film", "features": "T", "hidden": 8, "beyond": "clamp"}
    runs = {
        "fixed_8": DIGITS_RUNS["fixed_8"],
        "fixed_16": DIGITS_RUNS["fixed_16"],
        "uniform": {},
        "adaptive": DIGITS_RUNS["adaptive"] | {"note": "as in the other study"},
        "film": {"model": {"adaptive": told}, "note": "told T alone"},
        "rescaled": {"model": {"adaptive": told | {"beyond": "rescale"}}},
        "fixed_16_long": DIGITS_RUNS["fixed_16"] | longer,
        "uniform_long": longer,
        "adaptive_long": DIGITS_RUNS["adaptive"] | longer,
    }
    pairs = [("uniform", "adaptive"), ("uniform", "film"), ("uniform", "rescaled"), ("uniform_long", "adaptive_long")]
    comparisons = [{"generalist": generalist, "adaptive": adaptive} for generalist, adaptive in pairs]
    return evaluated(tmp_path_factory, "compared", study_values(runs, claims={"comparisons": comparisons}))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An evaluated synthetic study of three sequence mixers, of which one has a specialist, and one a run that is read out at every step."""
    gru, attention = {"kind": "gru", "hidden": 8}, {"kind": "attention", "heads": 2, "mlp": 8, "position": "nope"}
    runs = {
        "uniform": {},
        "gru": {"model": {"mixer": gru}},
        "gru_fixed": {"model": {"mixer": gru}, "task": {"lengths": {"kind": "fixed", "value": 16}}},
        "attention": {"model": {"mixer": attention}},
        "gru_all": {"model": {"mixer": gru}, "task": {"supervision": {"kind": "all"}}},
    }
    evaluation = {"images": 4, "length_ratios": [1.5, 2, 4]}
    values = study_values(runs, evaluation=evaluation, claims={"comparisons": [], "far_length_ratios": [2, 25]})
    return evaluated(tmp_path_factory, "mixed", values)


@pytest.fixture
def fresh(tmp_path: Path) -> SimpleNamespace:
    """A small synthetic study that a test may spoil."""
    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    values = study_values(
        runs, evaluation={"images": 4, "max_length_ratio": 4, "length_ratios": [2]}, claims={"far_length_ratios": [2]}
    )
    study_json, results = make_study(tmp_path, values)
    return SimpleNamespace(study=study_json, results=results, frames=tmp_path / "frames", values=values)
