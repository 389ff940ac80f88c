from tests.analysis.conftest import compared, study  # noqa: F401 (a fixture)
