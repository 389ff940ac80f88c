"""Runs the jobs of one call of Snakemake in processes that need not load their packages first.

    python preloaded.py serve FOLDER NAME < PIPE      loads the packages of a group, then forks a process for each job
    python preloaded.py serve FOLDER NAME own < PIPE  the same with this project's modules for them
    python preloaded.py -m lgmamba train --run ...    runs `python -m lgmamba train ...` in such a process, where one is served

Loading torch, matplotlib or MLflow takes seconds, more than many jobs of a small study, and so do this project's own modules, with the
classes of every configuration; a process that has them loaded can be copied in a hundredth of one. What the copy does is what the
command does when it is typed: it gets the caller's arguments, folder, environment and files. Where a module that it has loaded was
edited since, or is not the one that the command would find, the copy becomes the plain command, so that edited code acts as ever.

A server may not touch a GPU, since its copies could then use none, and each of them chooses its own; where loading packages opened one
all the same, copies become the plain command.

The last form finds its server in the folder LGMAMBA_PRELOADED. Without one, or without an answer, it becomes the plain command.
The server has a session of its own, so that Ctrl-C reaches only the callers, who pass their signals on; a job whose caller dies is
told to end. When PIPE closes, since whoever started the server has ended, it takes no more jobs and ends after the last.

Linux only: elsewhere a process with these packages may not be copied.
"""

import atexit
import contextlib
import gc
import importlib.machinery
import json
import os
import select
import signal
import socket
import sys
import threading
import warnings

GROUPS = {
    "models": (
        ("train", "train-stack", "reconstruct", "remedy", "probes", "track"),
        (
            "torch",
            "torch._dynamo",
            "scipy.ndimage",
            "pydantic",
            "einops",
            "safetensors.torch",
            "typer",
            "ruamel.yaml",
            "filelock",
            "pyarrow.parquet",
            "mlflow.tracking",
            "mlflow.store.tracking.sqlalchemy_store",
        ),
    ),
    "figures": (
        ("evaluate", "figure", "report"),
        (
            "matplotlib.pyplot",
            "matplotlib.backends.backend_pdf",
            "seaborn",
            "scipy.stats",
            "pydantic",
            "typer",
            "jinja2",
        ),
    ),
}
"""Group -> stages, packages of others. Of threads that these start a copy needs none: pyarrow's allocator has its own way through a
fork, and so has that of polars, which MLflow loads; another of polars sweeps up files of queries larger than memory, which no job has."""
OWN = "lgmamba"
MODULES = {
    "models": (
        "lgmamba.cli",
        "lgmamba.train.loop",
        "lgmamba.train.stacks",
        "lgmamba.probe.reconstruct",
        "lgmamba.probe.remedy",
        "lgmamba.probe.probes",
        "lgmamba.track.commands",
        "lgmamba.track.remedies",
        "lgmamba.track.store",
    ),
    "figures": (
        "lgmamba.cli",
        "lgmamba.config.study",
        "lgmamba.jobs",
    ),  # what else they load loads polars, which starts threads
}
"""Group -> this project's modules that its stages load, with all that they load."""
FOLDER = "LGMAMBA_PRELOADED"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 107
"""Bytes of the longest name under which Linux can serve something (unix(7))."""
DRIVER = "/dev/nvidia"
"""How the names of the files begin through which a process holds a GPU."""


def start(names: list[str], python_path: str) -> list:
    """Serve groups to the jobs of this process, in a folder that LGMAMBA_PRELOADED tells them from now on.

    Args:
        names: groups.
        python_path: PYTHONPATH of the servers, and so of the jobs that they copy themselves for.
    Returns:
        the servers, which end once this process has, however it ends, or lets go of them.
    Raises:
        OSError: there is no place for a temporary folder, or its name is too long.
    """
    import subprocess
    import tempfile
    import time

    folder, servers = tempfile.mkdtemp(prefix="lgmamba-"), []
    if max(len(os.fsencode(os.path.join(folder, name))) for name in names) > LONGEST:
        os.rmdir(folder)
        raise OSError(f"{folder} is too long a name for what is served there; set TMPDIR to a shorter one")
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for name in names:
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", folder, name, "own"],
            stdin=subprocess.PIPE,  # closes when this process ends
            stdout=subprocess.DEVNULL,
            env=os.environ | one_thread | {"PYTHONPATH": python_path},
            start_new_session=True,
        )
        servers.append(server)
        while server.poll() is None and not os.path.exists(os.path.join(folder, name)):
            time.sleep(0.01)
    os.environ[FOLDER] = folder
    return servers


def group_of(stage: str) -> str | None:
    """The group that a stage belongs to."""
    return next((name for name, (stages, _) in GROUPS.items() if stage in stages), None)


def group_called(words: list[str]) -> str | None:
    """The group of what `python WORDS` runs: -m lgmamba train ..., -m lgmamba tradeoff train ..."""
    return next(filter(None, map(group_of, words[2:4])), None)


def call(words: list[str]) -> int:
    """Have a command run; returns its exit status. Becomes the plain command where nobody serves.

    Args:
        words: of `python WORDS`: -m, lgmamba, the stage, ...
    """
    server = _connected(words)
    if server is None:
        os.execv(sys.executable, [sys.executable, *words])
    signals, told = socket.socketpair()
    signals.setblocking(False)
    signal.set_wakeup_fd(
        signals.fileno()
    )  # a handler alone would not run where its signal comes just before `recv` waits
    for number in PASSED_ON:
        signal.signal(number, lambda *_: None)
    request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    answer = b""
    while len(answer) < 4:
        ready, _, _ = select.select([server, told], [], [])
        if told in ready:
            with contextlib.suppress(OSError):  # nobody is there any more, as is read next
                server.sendall(told.recv(16))
        if server in ready:
            part = server.recv(4 - len(answer))
            if not part:
                break
            answer += part
    if len(answer) < 4:
        print("error: the process that runs jobs ended; type the same command again", file=sys.stderr)
        return 1
    status = int.from_bytes(answer, "big", signed=True)
    if status < 0:  # ended by a signal: end by the same
        with contextlib.suppress(OSError):  # some cannot be handled anyway
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _connected(words: list[str]) -> socket.socket | None:
    folder, group = os.environ.get(FOLDER), group_called(words)
    if not folder or group is None:
        return None
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(os.path.join(folder, group))
    except OSError:
        return None
    return server


def serve(folder: str, name: str, own: bool) -> dict | None:
    """Fork a process for each request until standard input closes, and then until all have ended.

    Args:
        folder, name: the server's socket is there, so named as its group.
        own: whether this project's modules are loaded, too.
    Returns:
        in such a process: what it is to do; in the server: None.
    """
    path, server = os.path.join(folder, name), os.getpid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(256)  # callers that come while packages are loaded wait
    for package in GROUPS[name][1]:
        with contextlib.suppress(ImportError):  # the job that needs it says so
            __import__(package)
    if own:
        load_own(MODULES[name])
    gc.collect()
    gc.freeze()  # what a copy's collector never looks at stays shared with this process
    jobs: dict[int, tuple[int, int, socket.socket]] = {}  # descriptor that says when a process ended -> it, pid, caller
    watched = select.poll()
    for source in (0, listener.fileno()):
        watched.register(source, select.POLLIN)
    serving = True
    while serving or jobs:
        for descriptor, _ in watched.poll():
            if descriptor == 0:  # nothing is ever written there
                serving = False
                watched.unregister(0)
                watched.unregister(listener.fileno())
                os.unlink(path)
                listener.close()
            elif serving and descriptor == listener.fileno():
                caller, _ = listener.accept()
                request = _request(caller)
                if request is None:
                    caller.close()
                    continue
                signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # what is sent before it has handlers waits there
                pid = _fork()
                if pid == 0:
                    _end_with(server)
                    for kept in (listener, caller, *(job[2] for job in jobs.values())):
                        kept.close()
                    for job in jobs:
                        os.close(job)
                    return request
                signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
                for given in request["files"]:
                    os.close(given)
                end = os.pidfd_open(pid)
                jobs[end] = end, pid, caller
                watched.register(end, select.POLLIN)
                watched.register(caller.fileno(), select.POLLIN)
            elif descriptor in jobs:
                end, pid, caller = jobs.pop(descriptor)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                watched.unregister(end)
                os.close(end)
                if caller.fileno() >= 0:
                    watched.unregister(caller.fileno())
                    with contextlib.suppress(OSError):  # it died
                        caller.sendall(status.to_bytes(4, "big", signed=True))
                    caller.close()
            else:
                found = next(((pid, caller) for _, pid, caller in jobs.values() if caller.fileno() == descriptor), None)
                if found is None:  # closed a moment ago
                    continue
                pid, caller = found
                numbers = caller.recv(16)
                for number in numbers or [signal.SIGTERM]:
                    os.kill(pid, number)  # not waited for yet, so that no other process has its number
                if not numbers:
                    watched.unregister(caller.fileno())
                    caller.close()
    with contextlib.suppress(OSError):  # another group's socket is still there
        os.rmdir(folder)
    return None


def _fork() -> int:
    """`os.fork`, without Python's word on threads (see GROUPS), which the copy is told again of its own forks."""
    with warnings.catch_warnings():  # last of all filters, so that none that a package sets comes before it
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return os.fork()


def _end_with(server: int) -> None:
    """This process ends when the server does, however that ends: nobody else would tell it that its caller has gone."""
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server:
        os._exit(1)


def _request(caller: socket.socket) -> dict | None:
    """What a caller asks for, with its files; None where it went away."""
    size, files, _, _ = socket.recv_fds(caller, 8, 3)
    text = b""
    while len(size) == 8 and len(text) < int.from_bytes(size, "big") and (part := caller.recv(1 << 16)):
        text += part
    if len(size) < 8 or len(files) < 3 or len(text) < int.from_bytes(size, "big"):
        for given in files:
            os.close(given)
        return None
    return json.loads(text) | {"files": files}


LOADED: dict[str, tuple[int, int]] = {}
"""Source of each of this project's modules that are loaded -> its time and size when it was."""


def load_own(modules: tuple[str, ...]) -> None:
    """Load modules of this project, and note what they were loaded from."""
    spec = importlib.machinery.PathFinder.find_spec(OWN)
    if spec is None:  # each job says so
        return
    [package] = spec.submodule_search_locations
    # Before they are loaded: what is edited meanwhile counts as edited.
    seen = {path: _stamp(path) for top, _, files in os.walk(package) for path in (os.path.join(top, f) for f in files)}
    for module in modules:
        with contextlib.suppress(ImportError):  # of a package that is not there; the job that needs it says so
            __import__(module)
    LOADED.update({m.__file__: seen[m.__file__] for m in _own_modules()})


def own_as_loaded() -> bool:
    """Whether `python -m` would load the modules that are loaded, as they were then; True where none is."""
    if not LOADED:
        return True
    spec = importlib.machinery.PathFinder.find_spec(OWN)
    same = spec is not None and os.path.realpath(spec.origin) == os.path.realpath(sys.modules[OWN].__file__)
    return same and all(_stamp(path) == stamp for path, stamp in LOADED.items())


def holds_gpu() -> bool:
    """Whether this process, or what it is a copy of, has opened a GPU."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            if os.readlink(f"/proc/self/fd/{name}").startswith(DRIVER):
                return True
    return False


def _own_modules() -> list:
    return [m for name, m in sys.modules.items() if name.partition(".")[0] == OWN and getattr(m, "__file__", None)]


def _stamp(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:  # gone
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def become(request: dict) -> None:
    """Run a module as `python -m` does, with a caller's files, folder, environment and arguments."""
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    for own, given in enumerate(request["files"]):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["words"][1:]  # after -m
    sys.path[0] = ""  # here lay this script
    if holds_gpu() or not own_as_loaded():
        os.execv(sys.executable, [sys.executable, *request["words"]])
    sys.argv = [module, *arguments]
    if "torch" in sys.modules and (threads := request["environment"].get("OMP_NUM_THREADS", "")).isdigit():
        sys.modules["torch"].set_num_threads(int(threads))  # which torch reads when it is loaded
    import runpy

    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        if not isinstance(e.code, int | None):  # a message
            raise
        end_now(e.code or 0)
    end_now(0)


def end_now(status: int) -> None:
    """End as the interpreter does, but leave it to the system to take the memory back.

    Taking every loaded package apart would copy most of what is shared with the server: seconds of processor time for each job.
    """
    threading._shutdown()  # waits for threads, and for what concurrent.futures was given; like the next, it has no public name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status & 0xFF)


def main() -> None:
    if sys.argv[1] != "serve":
        sys.exit(call(sys.argv[1:]))
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    folder, name, *rest = sys.argv[2:]
    request = serve(folder, name, rest == ["own"])
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
