"""Packages that only parts of this project need, and the extras of pyproject.toml that bring them."""

EXTRAS = {
    "study": (
        "PIL",
        "fontTools",
        "jinja2",
        "llvmlite",
        "markdown",
        "matplotlib",
        "numba",
        "polars",
        "scipy",
        "seaborn",
        "sklearn",
        "snakemake",
    ),
    "track": ("dvc", "mlflow", "psutil"),
    "gpu": ("cuda",),
    "mamba": ("mamba_ssm",),
    "lm": ("huggingface_hub", "transformers"),
}
"""Extra -> what is imported of it."""
EXTRA_OF = {package: extra for extra, packages in EXTRAS.items() for package in packages}


def install(package: str) -> str:
    """The command that brings a package, by the name under which it is imported."""
    return f"pip install 'lgmamba[{EXTRA_OF[package]}]'"


def missing(package: str) -> str:
    """What a person is told where a package is needed and not there."""
    return f"the package {package} is not installed; {install(package)}"


def told_of_import(error: ImportError) -> str | None:
    """The same for an import that failed; None where the module belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    return missing(package) if isinstance(error, ModuleNotFoundError) and package in EXTRA_OF else None
