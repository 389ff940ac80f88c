from tests.analysis.conftest import study  # noqa: F401 (a fixture)
