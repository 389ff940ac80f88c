from pathlib import Path

import pytest

from tests.probe.study import Study, made_study, small_study
from tests.sharing import made_once


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Study:
    """Every run of the small study, trained and probed once for all processes; no test may change it."""

    def make(root: Path) -> None:
        study = small_study(root)
        for run, seed in study.params.run_configs():
            study.train(run, seed)
            if run == "told":
                study.awaken(run, seed)
            study.reconstruct(run, seed)

    return made_study(made_once(tmp_path_factory, "probed_study", make))
