import pytest

from tests.hosts.models import skip_where_kernels_are_for_a_gpu


@pytest.fixture(autouse=True)
def transformers_computes_on_the_cpu(request):
    """Skip what asks a model of transformers where it cannot answer; tests/gpu asks the same models on a GPU."""
    if request.module.__name__.rpartition(".")[2] != "test_official":
        skip_where_kernels_are_for_a_gpu()
