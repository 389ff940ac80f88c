"""Where mamba_ssm is installed, transformers hands also tensors of the CPU to its kernels, which are for a GPU alone."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def transformers_computes_on_the_cpu(request):
    """Skip what asks a model of transformers where it cannot answer; tests/gpu asks the same models on a GPU."""
    if find_spec("mamba_ssm") is not None and request.module.__name__.rpartition(".")[2] != "test_official":
        pytest.skip("transformers computes on mamba_ssm's GPU kernels where that is installed, also for the CPU")
