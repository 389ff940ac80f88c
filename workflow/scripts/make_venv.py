"""Make a virtual environment with pip, also where Debian's python3-venv package is missing.

    python3 workflow/scripts/make_venv.py .venv

Debian and Ubuntu take pip's installer (ensurepip) out of Python. There, pip comes from the package index instead: the
one in PIP_INDEX_URL, or PyPI. Standard library only.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path
from urllib.parse import urljoin

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")


def main(folder: Path) -> None:
    """Make the environment; where Python lacks the installer of pip, fetch pip."""
    with_ensurepip = importlib.util.find_spec("ensurepip") is not None
    venv.create(folder, with_pip=with_ensurepip, symlinks=True)
    if not with_ensurepip:
        try:
            install_pip(folder / "bin" / "python")
        except OSError as e:
            sys.exit(
                f"Python has no ensurepip and pip could not be fetched from {INDEX} ({e}); apt-get install python3-venv helps"
            )


def install_pip(python: Path) -> None:
    """Run pip from its own wheel to install itself."""
    with tempfile.TemporaryDirectory() as folder:
        name, content = newest_pip()
        wheel = Path(folder) / name
        wheel.write_bytes(content)
        subprocess.run([python, f"{wheel}/pip", "install", "--quiet", wheel], check=True)


def newest_pip() -> tuple[str, bytes]:
    """File name and content of the newest pip wheel, checked against the index's digest."""
    request = urllib.request.Request(f"{INDEX}/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [f for f in files if re.fullmatch(r"pip-[\d.]+-py3-none-any\.whl", f["filename"]) and not f.get("yanked")]
    best = max(wheels, key=lambda f: tuple(int(n) for n in f["filename"].split("-")[1].split(".")))
    with urllib.request.urlopen(urljoin(f"{INDEX}/pip/", best["url"]), timeout=120) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != best["hashes"]["sha256"]:
        raise OSError(f"{best['filename']}: digest does not match the index")
    return best["filename"], content


if __name__ == "__main__":
    main(Path(sys.argv[1]))
