"""One study over the GPUs of a machine: the time with one and with several, and what a kill in the middle leaves behind.

    python benchmarks/several_gpus.py [--gpus 1 4] [--share 3] [--preset omniglot] [--config KEY=VALUE ...] [--out reports/benchmarks]

Each call is `snakemake --resources gpu=...` of the whole study, from images to the report, in a copy of the repository of its own, where
--share jobs share each GPU. The first call, with the most GPUs, is killed with all its processes (SIGKILL) after --kill-after seconds and
typed again after `--unlock`; it also compiles the kernels, so that the others, which are timed, need not. In the end its results must be
current, and no file may be there that an undisturbed study does not have. Writes several_gpus.{json,md}.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from reliability_tiny import copy_repository, made_files  # noqa: E402

from lgmamba.files import to_json, write_atomic  # noqa: E402
from lgmamba.provenance import cpu_name, git_state, versions  # noqa: E402


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="lgm-gpus-") as made:
        most = max(options.gpus)
        killed = Call(Path(made) / "killed", most, options)
        left = killed.killed(options.kill_after)
        again = killed.whole("--unlock") + killed.whole()
        calls = {gpus: Call(Path(made) / f"gpus{gpus}", gpus, options) for gpus in options.gpus}
        seconds = {gpus: call.whole() for gpus, call in calls.items()}
        undisturbed = calls[most].results()
        result: dict[str, Any] = {
            "preset": options.preset,
            "config": options.config,
            "share": options.share,
            "cores": options.cores,
            "seconds": seconds,
            "killed after": options.kill_after,
            "results then": left,
            "results": len(undisturbed),
            "again": again,
            "nothing to do": killed.nothing_to_do(),
            "differs": sorted(killed.results() ^ undisturbed),
        }
    result |= {
        "commit": git_state()["commit"][:10],
        "cpu": cpu_name(),
        "gpu": gpu_name(),
        "versions": versions(("torch", "snakemake")),
    }
    write_atomic(options.out / "several_gpus.json", to_json(result))
    write_atomic(options.out / "several_gpus.md", page(result))
    print(page(result))
    sys.exit(0 if result["nothing to do"] and not result["differs"] else 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="omniglot")
    parser.add_argument("--config", nargs="*", default=[], help="values given by hand, as to Snakemake")
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--share", type=int, default=3, help="jobs on a GPU")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kill-after", type=float, default=40.0, help="seconds")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "reports/benchmarks")
    return parser.parse_args()


class Call:
    """Calls of Snakemake for a study in a copy of the repository, with so many GPUs."""

    def __init__(self, folder: Path, gpus: int, options: argparse.Namespace):
        self.folder, self.gpus = folder, gpus
        copy_repository(folder)
        (folder / "data").mkdir()
        (folder / "data/raw").symlink_to(ROOT / "data/raw")
        self.words = ["snakemake", "--cores", str(options.cores), "--resources", f"gpu={gpus * options.share}"]
        self.words += ["--config", f"preset={options.preset}", f"device={options.device}", *options.config]
        self.environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))),
            "LGMAMBA_JOBS_PER_GPU": str(options.share),
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        }

    def whole(self, *more: str) -> float:
        """Seconds of a call that comes to its end."""
        begun = time.monotonic()
        subprocess.run([*self.words, *more], cwd=self.folder, env=self.environment, check=True)
        return time.monotonic() - begun

    def killed(self, after_s: float) -> int:
        """How many results there are after a call that is killed."""
        process = subprocess.Popen(self.words, cwd=self.folder, env=self.environment, start_new_session=True)
        try:
            process.wait(after_s)
            raise SystemExit("It came to its end before it could be killed.")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return len(self.results())

    def nothing_to_do(self) -> bool:
        words = [*self.words, "--dry-run"]
        told = subprocess.run(words, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True)
        return "Nothing to be done" in told.stdout + told.stderr

    def results(self) -> set[str]:
        """Files that the study made."""
        return {str(path.relative_to(self.folder)) for path in made_files(self.folder, ("results", "reports"))}


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def page(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    first = min(result["seconds"])
    most = max(result["seconds"])
    rows = [f"| {n} | {s:.0f} | {result['seconds'][first] / s:.2f} |" for n, s in result["seconds"].items()]
    used = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    after = "nothing was left to do" if result["nothing to do"] else "something was left to do"
    files = (
        "the same files lay there"
        if not result["differs"]
        else f"other files lay there: {', '.join(result['differs'][:5])}"
    )
    return "\n".join(
        [
            "# One study over several GPUs",
            "",
            f"Made by `python benchmarks/several_gpus.py --config {' '.join(result['config'])}`: preset `{result['preset']}`, whole, from images to",
            f"the report, by Snakemake; jobs that share a GPU: {result['share']}. {result['gpu']}, {result['cores']} cores of {result['cpu']};",
            f"{used}.",
            "",
            "| GPUs | seconds | times as fast as with one |",
            "| ---: | ---: | ---: |",
            *rows,
            "",
            f"With {most} GPUs it was also killed with all its processes after {result['killed after']:.0f} s, when {result['results then']}",
            f"of {result['results']} files were there, and typed again after `--unlock`, which took {result['again']:.0f} s with kernels still to",
            f"be compiled: {after}, and {files} as after a call that nobody disturbed.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
