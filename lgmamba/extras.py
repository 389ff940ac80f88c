"""Packages that only parts of this project need, and the extras of pyproject.toml that bring them."""

PAGES = ("PIL", "jinja2", "markdown", "matplotlib", "polars", "scipy", "seaborn")
EXTRAS = {
    "pages": PAGES,
    "lm": (*PAGES, "huggingface_hub", "transformers"),
    "study": (*PAGES, "fontTools", "llvmlite", "numba", "sklearn", "snakemake"),
    "track": ("dvc", "mlflow", "psutil"),
    "gpu": ("cuda",),
    "mamba": ("mamba_ssm",),
    "fla": ("fla", "packaging"),
}
"""Extra -> what is imported of it. Of several that bring a package the last one is named to people."""
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
