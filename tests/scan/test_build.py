"""The build of the CPU kernel: where it is kept, what it takes to be used, and what is said where it fails."""

import ctypes
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from lgmamba.scan import (
    api,
    available_backends,
    cache,
    cpu_build,
    cpu_numba,
    cpu_rows,
    mamba_ssm_backend,
    selective_scan,
)
from lgmamba.scan.cpu_interface import FUNCTIONS, Args
from tests.scan.cases import RUNNABLE, Case, assert_matches_reference, make_inputs
from tests.waiting import HANGS

ROOT = Path(__file__).parents[2]

needs_compiler = pytest.mark.skipif(("cpu", "cpu") not in RUNNABLE, reason="no C++ compiler")


OPTIMISED = cpu_build.FLAGS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`cpu_build._run`, but what a compiler made of the kernel's source is copied when the same words ask for it again."""
    really, source = cpu_build._run, str(cpu_build.SOURCE)
    folder, made = tmp_path_factory.mktemp("compiled"), {}

    def call(command: list[str], *timeout: float) -> str:
        if source not in command:
            return really(command, *timeout)
        at = command.index("-o") + 1
        words, to = (*command[:at], *command[at + 1 :]), command[at]
        if words in made:
            shutil.copy(made[words], to)
            return ""
        said = really(command, *timeout)
        made[words] = shutil.copy(to, folder / str(len(made)))
        return said

    return call


@pytest.fixture
def fresh_build(monkeypatch, tmp_path, fresh_choice, run):
    """An empty cache folder and a `load_kernel` that forgets what it built; built in half the time, without optimisation, and once."""
    monkeypatch.setattr(cpu_build, "_run", run)
    monkeypatch.setattr(cpu_build, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in OPTIMISED))
    monkeypatch.setenv("LGMAMBA_CACHE", str(tmp_path / "cache"))
    cpu_build.load_kernel.cache_clear()
    yield tmp_path / "cache"
    cpu_build.load_kernel.cache_clear()


@needs_compiler
def test_arguments_have_the_kernels_layout():
    assert cpu_build.load_kernel().lgmamba_args_size() == ctypes.sizeof(Args)


@needs_compiler
@pytest.mark.parametrize(
    ("native", "openmp"),
    [(("-march=native",), "none"), (("-mno-avx512f", "-mavx2", "-mfma"), "own"), ((), "none")],  # code that never meets
    ids=["native, none", "AVX2, own", "plain, none"],
)
@pytest.mark.thorough
def test_every_way_to_build_gives_right_numbers(fresh_build, monkeypatch, native, openmp):
    if native and os.uname().machine != "x86_64":
        pytest.skip("flags of x86-64")
    monkeypatch.setattr(cpu_build, "FLAGS", OPTIMISED)
    monkeypatch.setattr(cpu_build, "NATIVE", (native,))
    monkeypatch.setattr(cpu_build, "OPENMP", (openmp,))
    assert_matches_reference(Case(B=3, L=37, D=21, N=5, every=6), "cpu", "cpu")
    assert len(list(fresh_build.glob("*.so"))) == 1


@pytest.mark.thorough
@needs_compiler
def test_processes_that_race_at_first_use_all_get_a_kernel(fresh_build):
    code = """
        from lgmamba.scan.cpu_build import load_kernel
        print(load_kernel().lgmamba_args_size())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    racing = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert len({p.communicate(timeout=HANGS)[0] for p in racing}) == 1
    assert [p.returncode for p in racing] == [0] * 2
    assert [p.suffix for p in fresh_build.iterdir()] == [".so"]  # one library, nothing half-made


def test_without_a_compiler_the_error_says_what_to_install(fresh_build, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "install one, for example g++" in available_backends("cpu")["cpu"]
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler found"):
        selective_scan(**make_inputs(Case(1, 2, 3, 4).plain(), torch.float32), backend="cpu")


def test_a_compiler_that_fails_is_quoted(fresh_build, monkeypatch, tmp_path):
    script = tmp_path / "broken-c++"
    script.write_text("#!/bin/sh\necho 'broken-c++: out of luck' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert "out of luck" in available_backends("cpu")["cpu"]
    assert not list(fresh_build.glob("*.so"))


def builds_for_itself(fresh_build, caplog) -> str:
    """The kernel works, nothing is kept; the warning."""
    with caplog.at_level(logging.WARNING, logger="lgmamba.scan"):
        assert_matches_reference(Case(B=2, L=9, D=5, N=3), "cpu", "cpu")
    assert not fresh_build.is_dir() or not list(fresh_build.iterdir())
    (record,) = caplog.records
    assert "set LGMAMBA_CACHE" in record.getMessage() and "for this process alone" in record.getMessage()
    return record.getMessage()


@needs_compiler
def test_without_a_cache_folder_the_process_builds_for_itself(fresh_build, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LGMAMBA_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be made" in builds_for_itself(fresh_build, caplog)


def nothing_is_writable(monkeypatch):
    real = os.access  # root may write anywhere, so that folders of other modes would not do
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))


@needs_compiler
def test_with_a_cache_folder_that_is_not_writable_too(fresh_build, monkeypatch, caplog):
    nothing_is_writable(monkeypatch)
    assert "is not writable" in builds_for_itself(fresh_build, caplog)


@needs_compiler
def test_with_a_cache_folder_that_holds_no_programs_too(fresh_build, monkeypatch, caplog):
    monkeypatch.setattr(cpu_build, "refuses_programs", lambda folder: folder == fresh_build)
    assert "is mounted noexec" in builds_for_itself(fresh_build, caplog)


@needs_compiler
def test_without_a_home_folder_too(fresh_build, monkeypatch, caplog):
    without_home(monkeypatch)
    monkeypatch.delenv("LGMAMBA_CACHE")
    assert "there is no home folder" in builds_for_itself(fresh_build, caplog)


def without_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_the_folder_that_is_set_needs_no_home(monkeypatch, tmp_path):
    without_home(monkeypatch)
    monkeypatch.setenv("LGMAMBA_CACHE", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"


@needs_compiler
def test_where_no_folder_holds_programs_nothing_is_compiled(fresh_build, monkeypatch):
    monkeypatch.setattr(cpu_build, "refuses_programs", lambda folder: True)
    monkeypatch.setattr(cpu_build, "_build", lambda *_: pytest.fail("compiled in vain"))
    assert "is mounted noexec; set TMPDIR" in available_backends("cpu")["cpu"]


@needs_compiler
def test_a_library_in_a_folder_that_is_not_writable_is_used(fresh_build, monkeypatch):
    cpu_build.load_kernel()
    cpu_build.load_kernel.cache_clear()
    nothing_is_writable(monkeypatch)
    monkeypatch.setattr(cpu_build, "_build", lambda *_: pytest.fail("compiled again"))
    cpu_build.load_kernel()


@needs_compiler
def test_a_damaged_library_is_built_again(fresh_build, caplog):
    cpu_build.load_kernel()
    (library,) = fresh_build.glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # this process has it mapped
    library.write_bytes(whole[: len(whole) // 2])  # loading it would end the process
    cpu_build.load_kernel.cache_clear()
    with caplog.at_level(logging.WARNING, logger="lgmamba.scan"):
        cpu_build.load_kernel()
    assert f"{library} is damaged" in caplog.text
    assert library.read_bytes() == whole


BROKEN = """
#include <cstdint>
#include <cstdlib>
extern "C" int64_t lgmamba_args_size() {{ return {size}; }}
extern "C" int64_t lgmamba_lanes() {{ return 4; }}
extern "C" void lgmamba_forward(const void *) {{ {body} }}
{others}
"""


@needs_compiler
@pytest.mark.parametrize(
    ("body", "said"),
    [("abort();", "ended by signal"), ("", "the output is 0.0 where 5 is right"), ("for (;;) {}", "timed out")],
    ids=["crash", "wrong numbers", "no end"],
)
def test_a_kernel_that_does_not_work_is_found_out_and_not_kept(fresh_build, monkeypatch, tmp_path, body, said):
    source = tmp_path / "broken.cpp"
    others = [f'extern "C" void {name}(const void *) {{}}' for name in FUNCTIONS if name != "lgmamba_forward"]
    source.write_text(BROKEN.format(size=ctypes.sizeof(Args), body=body, others="\n".join(others)))
    monkeypatch.setattr(cpu_build, "SOURCE", source)
    monkeypatch.setattr(cpu_build, "NATIVE", ((),))
    monkeypatch.setattr(cpu_build, "PROOF_TIMEOUT_S", 60 if body != "for (;;) {}" else 1)
    assert said in available_backends("cpu")["cpu"]
    assert not list(fresh_build.iterdir())


# ---- the other backends ---------------------------------------------------------------------------------------------


@needs_compiler
def test_a_norm_that_asks_for_the_compiled_kernel_compiles_no_other(monkeypatch, fresh_choice):
    asked = []
    for name in sorted(set(api.BACKENDS) - {"cpu"}):
        monkeypatch.setattr(api.BACKENDS[name], "unavailable", lambda device, name=name: asked.append(name))
    assert cpu_rows._is_there.__wrapped__()
    assert asked == []


def test_auto_reaches_the_reference_whatever_happens(monkeypatch, fresh_choice):
    def broken(device):
        raise KeyError("a folder is missing")

    for name in ("cpu", "cpu_numba"):
        monkeypatch.setattr(api.BACKENDS[name], "unavailable", broken)
    assert api.resolve_backend("auto", "cpu") == "reference"
    assert "a folder is missing" in available_backends("cpu")["cpu_numba"]


@pytest.mark.skipif(("cpu_numba", "cpu") not in RUNNABLE, reason="no numba")
def test_numba_that_computes_wrong_numbers_is_found_out(monkeypatch, fresh_choice):
    monkeypatch.setattr(cpu_numba, "_call", lambda name, *args: [v.zero_() for v in args if torch.is_tensor(v)])
    assert "wrong numbers" in available_backends("cpu")["cpu_numba"]


@pytest.mark.skipif(("cpu_numba", "cpu") not in RUNNABLE, reason="no numba")
def test_numba_without_a_folder_for_its_cache_compiles_in_every_process(caplog):
    from numba.core import caching

    from lgmamba.scan import cpu_numba_kernels

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, logger="lgmamba.scan"):
        patch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])
        kernel = cpu_numba_kernels._compiled(cpu_numba_kernels.forward.py_func)
    assert kernel.signatures == []
    assert "set NUMBA_CACHE_DIR" in caplog.text


def official(u, delta, A, B, C):
    """As `selective_scan_fn` of mamba_ssm, of these arguments."""
    y = selective_scan(u.mT, delta.mT, A, B.movedim(-1, 1), C.movedim(-1, 1), backend="reference")
    return y.mT


def missing(*_):
    raise RuntimeError("selective_scan_cuda is not available. Please install ...")


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (official, None),
        (missing, "without a scan kernel .*is not available"),
        (lambda *a: 2 * official(*a), "is right"),
    ],
    ids=["works", "missing", "wrong"],
)
def test_the_official_kernel_is_proven_by_a_call(monkeypatch, kernel, said):
    monkeypatch.setattr(mamba_ssm_backend, "_kernel", lambda: kernel)
    found = mamba_ssm_backend.unproven("cpu")
    assert (found is None) if said is None else re.search(said, found)
