import pytest

from tests.probe.study import Study, small_study


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Study:
    """Every run of the small study, trained and probed."""
    study = small_study(tmp_path_factory.mktemp("study"))
    for run, seed in study.params.run_configs():
        study.train(run, seed)
        if run == "told":
            study.awaken(run, seed)
        study.reconstruct(run, seed)
    return study
