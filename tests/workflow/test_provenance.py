"""Fingerprints of code: comments pass, statements count, and nothing is imported to find out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lgmamba import provenance
from lgmamba.config.files import ENTRY_MODULES
from lgmamba.provenance import PACKAGE, code_digest, describe, source_files

FILES = {
    "__init__.py": '"""Top."""\n',
    "stage.py": '"""Stage."""\nfrom pkg.math import f\n\n\ndef run():\n    from . import late\n    return f(late.X)\n',
    "math/__init__.py": "from .inner import f\n",
    "math/inner.py": "def f(x):\n    return x + 1  # one\n",
    "math/kernel.cpp": "int g() { return 1; } // first\n",
    "late.py": "X = 1\n",
    "named.py": "Y = 1\n",
    "other.py": "Z = 1\n",
    "track.py": "W = 1\n",
}


@pytest.fixture
def package(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pkg"


def names(package: Path) -> list[str]:
    return [f.relative_to(package).as_posix() for f in source_files("pkg.stage", package)]


def test_imports_are_followed_also_inside_functions_and_through_packages(package):
    assert names(package) == [
        "__init__.py",
        "late.py",
        "math/__init__.py",
        "math/inner.py",
        "math/kernel.cpp",
        "stage.py",
    ]


def test_a_module_imported_by_name_counts_but_a_mere_string_does_not(package):
    (package / "late.py").write_text(
        'from importlib import import_module\nX = import_module("pkg.named")\nZ = "pkg.other"\n'
    )
    assert "named.py" in names(package)
    assert "other.py" not in names(package)


def test_observers_do_not_count(package):
    (package / "late.py").write_text("import pkg.track\n")
    assert "track.py" not in names(package)


def forget() -> None:
    """As in another process."""
    provenance._parse.cache_clear()
    provenance._kept.cache_clear()


def test_another_process_parses_only_what_changed_since(package, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before, parse, parsed = code_digest("pkg.stage", package), ast.parse, []
    monkeypatch.setattr(ast, "parse", lambda text, name: parsed.append(Path(name).name) or parse(text, name))
    forget()
    assert code_digest("pkg.stage", package) == before
    assert parsed == []
    (package / "late.py").write_text("X = 2\n")
    forget()
    changed = code_digest("pkg.stage", package)
    assert changed != before
    assert parsed == ["late.py"]
    (kept,) = (package / "__pycache__").glob("*.json")
    kept.write_text(kept.read_text()[:100])  # damaged
    forget()
    assert code_digest("pkg.stage", package) == changed
    assert len(parsed) == 6


def test_what_was_parsed_is_not_kept_where_python_keeps_no_compiled_modules(package, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code_digest("pkg.stage", package)
    assert not (package / "__pycache__").exists()


@pytest.mark.parametrize(
    "file, text, same",
    [
        (
            "math/inner.py",
            '"""Now with a docstring."""\n\n\ndef f(x):\n    """And here."""\n    # and a comment\n    return (x + 1)\n',
            True,
        ),
        ("math/inner.py", "def f(x):\n    return x + 2\n", False),
        ("math/kernel.cpp", "/* other */\nint g() {\n  return 1; }\n", True),
        ("math/kernel.cpp", "int g() { return 2; }\n", False),
        ("other.py", "Z = 2\n", True),
        ("late.py", "X = 2\n", False),
    ],
)
def test_digest_changes_with_what_runs(package, file, text, same):
    before = code_digest("pkg.stage", package)
    (package / file).write_text(text)
    assert (code_digest("pkg.stage", package) == before) == same


def test_missing_module_is_named(package):
    with pytest.raises(ModuleNotFoundError, match=r"no module 'pkg\.gone'"):
        code_digest("pkg.gone", package)


def test_every_stage_has_its_module_and_stages_see_only_what_they_use():
    for module in ENTRY_MODULES.values():
        assert code_digest(module)
    folders = {stage: {f.relative_to(PACKAGE).parts[0] for f in source_files(m)} for stage, m in ENTRY_MODULES.items()}
    assert not folders["data"] & {"scan", "model", "train", "probe", "analysis", "figures", "report", "track"}
    assert not folders["train"] & {"probe", "analysis", "figures", "report", "track"}
    assert {"data", "tasks", "scan", "mixers", "model"} <= folders["train"]
    assert not any("remedy.py" in f.name for f in source_files(ENTRY_MODULES["reconstruct"]))
    assert {"scan", "model"} <= folders["reconstruct"]
    assert any(f.suffix == ".jinja" for f in source_files(ENTRY_MODULES["report"]))
    assert not folders["figure"] & {"scan", "model", "train", "report"}


def test_fingerprints_need_no_heavy_import():
    code = (
        "import sys; from lgmamba.config.files import ENTRY_MODULES; from lgmamba.provenance import code_digest; "
        "[code_digest(m) for m in ENTRY_MODULES.values()]; "
        "print([m for m in ('torch', 'mlflow', 'polars', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert ast.literal_eval(done.stdout) == []


def test_description_names_versions_and_no_machine():
    import platform

    found = describe()
    assert found["packages"]["pydantic"]
    assert set(found["git"]) == {"commit", "dirty"}
    assert platform.node() not in str({k: v for k, v in found.items() if k != "git"}).split("'")


def test_a_copy_without_history_inside_another_repository_has_no_commit(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet", ".")
    git("commit", "--quiet", "--allow-empty", "-m", "another project's")
    (tmp_path / "copy/lgmamba").mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "copy/lgmamba")
    assert provenance.git_state.__wrapped__() == {"commit": None, "dirty": None}
    (tmp_path / "lgmamba").mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "lgmamba")
    assert provenance.git_state.__wrapped__()["commit"] is not None
