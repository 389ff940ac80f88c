"""A job in a process that has its packages loaded does what the command does when it is typed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from lgmamba.config.files import ENTRY_MODULES
from workflow.scripts import preloaded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are served on Linux alone")

SCRIPTS = Path(preloaded.__file__).parent
DRIVER = "import preloaded; preloaded.GROUPS = {'g': (('stage',), ('decimal',))}; preloaded.main()"
MODULE = """
import atexit, json, os, signal, sys, threading, time

def ended(number, frame):
    open("ended", "w").write(str(number))
    sys.exit(128 + number)

what = sys.argv[2]
if what == "tell":
    about = [sys.argv[1:], os.getcwd(), os.environ.get("ASKED"), sys.stdin.read(), __name__, "decimal" in sys.modules]
    print(json.dumps(about))
    print("to standard error", file=sys.stderr)
    atexit.register(print, "at exit", file=sys.stderr)
    threading.Thread(target=lambda: (time.sleep(0.05), print("a thread", file=sys.stderr))).start()
elif what == "wait":
    signal.signal(signal.SIGTERM, ended)
    open("begun", "w").write(str(os.getppid()))
    time.sleep(600)
elif what == "raise":
    raise ValueError("what is wrong")
elif what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    sys.exit(int(what))
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", DRIVER, *words]


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "job.py").write_text(MODULE)
    return os.environ | {"PYTHONPATH": f"{SCRIPTS}:{tmp_path}", "ASKED": "yes"}


@pytest.fixture
def server(tmp_path, environment):
    """A server and its folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    process = subprocess.Popen(
        command("serve", str(folder), "g"), stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    until(lambda: (folder / "g").exists())
    yield process, folder
    process.stdin.close()
    assert process.wait() == 0


def until(found) -> None:
    while not found():
        time.sleep(0.01)


def called(environment, folder, *words, **options) -> subprocess.Popen:
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    here = environment | ({preloaded.FOLDER: str(folder)} if folder is not None else {})
    return subprocess.Popen(command("-m", "job", "stage", *words), env=here, text=True, **pipes, **options)


def test_arguments_folder_environment_and_files_are_the_callers(server, environment, tmp_path):
    _, folder = server
    found = []
    for where in (folder, None):
        job = called(environment, where, "tell", cwd=tmp_path)
        out, err = job.communicate("given")
        *about, loaded = json.loads(out)
        found.append((about, err, job.returncode))
        assert loaded == (where is not None)
    assert (
        found[0]
        == found[1]
        == ([["stage", "tell"], str(tmp_path), "yes", "given", "__main__"], "to standard error\na thread\nat exit\n", 0)
    )


@pytest.mark.parametrize("what", ["0", "3", "raise", "die"])
def test_it_ends_as_the_plain_command_does(server, environment, tmp_path, what):
    statuses, messages = [], []
    for where in (server[1], None):
        job = called(environment, where, what, cwd=tmp_path)
        messages.append(job.communicate()[1].splitlines()[-1:])
        statuses.append(job.returncode)
    assert (
        statuses[0] == statuses[1] == {"raise": 1, "die": -signal.SIGKILL}.get(what, int(what) if what.isdigit() else 0)
    )
    assert messages[0] == messages[1] == (["ValueError: what is wrong"] if what == "raise" else [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_its_caller(server, environment, tmp_path, number):
    process, folder = server
    job = called(environment, folder, "wait", cwd=tmp_path)
    until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
    assert int((tmp_path / "begun").read_text()) == process.pid  # a copy of the server
    job.send_signal(number)
    job.communicate()
    assert job.returncode == (128 + number if number == signal.SIGTERM else -number)
    until(lambda: (tmp_path / "ended").exists())


def test_a_job_ends_with_a_server_that_is_killed(server, environment, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    process = subprocess.Popen(
        command("serve", str(other), "g"), stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    until(lambda: (other / "g").exists())
    (tmp_path / "here").mkdir()
    mine, others = (
        called(environment, other, "wait", cwd=tmp_path),
        called(environment, server[1], "wait", cwd=tmp_path / "here"),
    )
    until(lambda: (tmp_path / "begun").exists() and (tmp_path / "here/begun").exists())
    process.kill()
    process.communicate()
    assert "the process that runs jobs ended" in mine.communicate()[1]
    assert mine.returncode == 1
    until(lambda: (tmp_path / "ended").exists())
    assert others.poll() is None and not (tmp_path / "here/ended").exists()  # another call's job goes on
    others.terminate()
    others.communicate()


def test_a_signal_sent_before_a_job_has_handlers_is_not_lost(server, environment, tmp_path):
    for _ in range(20):
        job = called(environment, server[1], "wait", cwd=tmp_path)
        job.terminate()
        job.communicate()
        assert job.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_the_server_ends_after_its_last_job_once_nobody_holds_it(environment, tmp_path, server):
    process, folder = server
    job = called(environment, folder, "wait", cwd=tmp_path)
    until(lambda: (tmp_path / "begun").exists())
    process.stdin.close()
    until(lambda: not (folder / "g").exists())
    assert process.poll() is None
    plain = called(environment, folder, "3", cwd=tmp_path)  # who comes now loads its packages itself
    plain.communicate()
    assert plain.returncode == 3
    job.terminate()
    job.communicate()
    assert process.wait() == 0
    assert not folder.exists()


@pytest.fixture
def own(environment, tmp_path):
    """A server that has the modules of a package `own` loaded: the package's folder, and what a job of it prints."""
    package, served = tmp_path / "own", tmp_path / "served"
    package.mkdir(), served.mkdir()
    (package / "__init__.py").touch()
    (package / "value.py").write_text("VALUE = 1")
    (package / "__main__.py").write_text(
        "import sys; before = 'own.value' in sys.modules; from own.value import VALUE; print(VALUE, before, sys.argv[1:])"
    )
    driver = "import preloaded; preloaded.GROUPS = {'g': (('stage',), ())}; "
    driver += "preloaded.OWN = 'own'; preloaded.MODULES = {'g': ('own.value', 'own.absent')}; preloaded.main()"
    words = [sys.executable, "-c", driver]
    process = subprocess.Popen(
        [*words, "serve", str(served), "g", "own"], stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    until(lambda: (served / "g").exists())

    def job(folder: Path) -> str:
        env = environment | {preloaded.FOLDER: str(served)}
        return subprocess.run(
            [*words, "-m", "own", "stage"], env=env, cwd=folder, capture_output=True, text=True
        ).stdout

    yield package, job
    process.stdin.close()
    assert process.wait() == 0


def test_own_modules_are_loaded_beforehand_until_they_are_edited_or_others_are_found(own, tmp_path):
    package, job = own
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert job(elsewhere) == "1 True ['stage']\n"
    (package / "other.py").touch()  # a module that is not loaded
    assert job(elsewhere) == "1 True ['stage']\n"
    shutil.copytree(package, elsewhere / "own")
    # Another size: compiled modules know their source by its size and second.
    (elsewhere / "own/value.py").write_text("VALUE = 333")
    assert job(elsewhere) == "333 False ['stage']\n"
    assert job(tmp_path / "served") == "1 True ['stage']\n"
    (package / "value.py").write_text("VALUE = 22")
    assert job(tmp_path / "served") == "22 False ['stage']\n"


@pytest.mark.parametrize("opened", [False, True])
def test_a_process_that_opened_a_gpu_is_not_copied(environment, tmp_path, opened):
    """A copy of it could use none: its jobs load their packages themselves."""
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidia.py").write_text(f"held = open({str(tmp_path / 'nvidia0')!r})" if opened else "")
    (tmp_path / "job.py").write_text("import sys; print('nvidia' in sys.modules)")
    served = tmp_path / "served"
    served.mkdir()
    driver = f"import preloaded; preloaded.DRIVER = {str(tmp_path / 'nvidia')!r}; "
    driver += "preloaded.GROUPS = {'g': (('stage',), ('nvidia',))}; preloaded.main()"
    words = [sys.executable, "-c", driver]
    server = subprocess.Popen([*words, "serve", str(served), "g"], stdin=subprocess.PIPE, env=environment)
    until(lambda: (served / "g").exists())
    env = environment | {preloaded.FOLDER: str(served)}
    job = subprocess.run([*words, "-m", "job", "stage"], env=env, capture_output=True, text=True)
    server.stdin.close()
    assert server.wait() == 0
    assert (job.stdout, job.stderr) == (f"{not opened}\n", "")


def test_servers_end_once_they_are_let_go(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv(preloaded.FOLDER, "")
    (server,) = preloaded.start(["figures"], str(SCRIPTS.parents[1]))
    (folder,) = tmp_path.glob("lgmamba-*")
    assert os.environ[preloaded.FOLDER] == str(folder) and (folder / "figures").exists()
    server.stdin.close()
    assert server.wait() == 0
    assert not folder.exists()


def test_a_folder_of_too_long_a_name_is_refused_and_not_left(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 25)))
    (tmp_path / ("long" * 25)).mkdir()
    monkeypatch.setenv(preloaded.FOLDER, "")
    with pytest.raises(OSError, match="set TMPDIR to a shorter one"):
        preloaded.start(["figures"], "")
    assert not list((tmp_path / ("long" * 25)).iterdir())
    assert os.environ[preloaded.FOLDER] == ""


def test_groups_are_of_stages_that_exist():
    stages = [stage for stages, _ in preloaded.GROUPS.values() for stage in stages]
    assert len(set(stages)) == len(stages)
    assert set(stages) <= {*ENTRY_MODULES, "train-stack", "track"}
    assert preloaded.MODULES.keys() == preloaded.GROUPS.keys()
    assert all(find_spec(module) for modules in preloaded.MODULES.values() for module in modules)
    assert (
        preloaded.group_of("train") == preloaded.group_of("train-stack") == "models"
        and preloaded.group_of("data") is None
    )


def test_stages_of_every_kind_of_study_are_found_by_their_words():
    for kind in ([], ["tradeoff"]):
        found = [
            preloaded.group_called(["-m", "lgmamba", *kind, *words])
            for words in (["train"], ["figure", "a"], ["report"], ["data"])
        ]
        assert found == ["models", "figures", "figures", None]
    assert preloaded.group_called(["-m"]) is None
