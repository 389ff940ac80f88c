import pytest
import torch

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


@pytest.fixture(autouse=True)
def one_thread():
    """As `train` and `reconstruct` do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
