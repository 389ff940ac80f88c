from pathlib import Path
from types import SimpleNamespace

import pytest

from lgmamba.analysis.evaluate import evaluate
from tests.analysis.synthetic_inspect import INSPECT
from tests.analysis.synthetic_remedies import VALUES
from tests.analysis.synthetic_study import make_study, study_values


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An evaluated synthetic study with all that a study can have: study (JSON), results, frames."""
    root = tmp_path_factory.mktemp("study")
    study_json, results = make_study(root, study_values() | VALUES | {"inspect": INSPECT})
    evaluate(study_json, results, root / "frames")
    return SimpleNamespace(study=study_json, results=results, frames=root / "frames")


@pytest.fixture
def fresh(tmp_path: Path) -> SimpleNamespace:
    """A small synthetic study that a test may spoil."""
    from tests.analysis.synthetic_study import DIGITS_RUNS

    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    values = study_values(runs, probe={"images": 4, "max_factor": 4, "factors": [2]}, claims={"far_factors": [2]})
    study_json, results = make_study(tmp_path, values)
    return SimpleNamespace(study=study_json, results=results, frames=tmp_path / "frames", values=values)
