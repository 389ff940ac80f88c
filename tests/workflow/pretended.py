"""A study whose stages have run, as far as records tell."""

from lgmamba.config.study import Params
from lgmamba.jobs import jobs_of
from lgmamba.records import finish

NAMES = {"data": ("manifest.json", "0.safetensors"), "train": ("model.safetensors",)}


def make(params: Params, *stages: str) -> None:
    """As if stages had run, all if none is named: files of theirs, recorded."""
    for job in jobs_of(params).values():
        if not stages or job.stage in stages:
            names = NAMES.get(job.stage, (f"{job.part}.png" if job.part else "x",))
            for name in names:
                (job.out / name).parent.mkdir(parents=True, exist_ok=True)
                (job.out / name).write_text(f"{name} of {job.key()}")
            finish(job.key(), job.out, list(names), job.part)
