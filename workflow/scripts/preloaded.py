"""Runs the jobs of one call of Snakemake in processes that need not load their packages first.

    python preloaded.py serve FOLDER NAME < PIPE      loads the packages of a group, then forks a process for each job
    python preloaded.py -m lgmamba train --run ...    runs `python -m lgmamba train ...` in such a process, where one is served

Loading torch, matplotlib or MLflow takes seconds, more than many jobs of a small study; a process that has them loaded can be copied
in a hundredth of one. What the copy does is what the command does when it is typed: it gets the caller's arguments, folder,
environment and files, and loads this project's own modules, so that code that is edited during a call acts as ever.

The second form finds its server in the folder LGMAMBA_PRELOADED. Without one, or without an answer, it becomes the plain command.
The server has a session of its own, so that Ctrl-C reaches only the callers, who pass their signals on; a job whose caller dies is
told to end. When PIPE closes, since whoever started the server has ended, it takes no more jobs and ends after the last.

Linux only: elsewhere a process with these packages may not be copied.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

GROUPS = {
    "models": (
        ("train", "reconstruct", "remedy", "probes", "track"),
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
"""Group -> stages, packages. None of this project's, and nothing that starts threads which a copy would miss."""
FOLDER = "LGMAMBA_PRELOADED"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    answer = b""
    while len(answer) < 4 and (part := server.recv(4 - len(answer))):
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


def serve(folder: str, name: str) -> dict | None:
    """Fork a process for each request until standard input closes, and then until all have ended.

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
                pid = os.fork()
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
    sys.argv = [module, *arguments]
    if "torch" in sys.modules and (threads := request["environment"].get("OMP_NUM_THREADS", "")).isdigit():
        sys.modules["torch"].set_num_threads(int(threads))  # which torch reads when it is loaded
    import runpy

    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    if sys.argv[1] != "serve":
        sys.exit(call(sys.argv[1:]))
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    request = serve(*sys.argv[2:])
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
