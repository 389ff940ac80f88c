"""Where the workflow's own files lie: params.yaml, and workflow/ with presets and rules.

At the top of a checkout. A wheel has copies of them in lgmamba/_study (pyproject.toml), so that studies run outside a checkout.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent


def workflow_home() -> Path:
    """The folder with params.yaml, profiles/ and workflow/."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "workflow" / "Snakefile").is_file() else PACKAGE / "_study"
