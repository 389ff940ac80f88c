"""The files of the stage `probes`, and whether they may be believed.

results/<study>/runs/<run>/seed<k>/probes/   probes.json and the frames of `ProbesConfig.frames`
"""

from typing import Any

import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder, made_from_other_values, unusable
from lgmamba.analysis.files import read_json
from lgmamba.config.differences import differing_keys
from lgmamba.config.files import probes_file
from lgmamba.config.study import Params
from lgmamba.keys import reading_key


def collect_probes(params: Params, folders: list[RunFolder]) -> dict[str, pl.DataFrame]:
    """{name: rows of every run and seed that was looked into, in the order of params.yaml}.

    Args:
        params: a study with `probes`.
        folders: its trainings, as `analysis.collect.collect_runs` found them.
    Raises:
        CollectError: files are missing, or made with another configuration, other images or another checkpoint; all
            problems at once, one line each.
    """
    names = params.the_probes.frames
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in names}
    problems = []
    for folder in folders:
        if folder.run not in params.the_probes.runs:
            continue
        path = folder.path / "probes"
        needed = ("probes.json", *(f"{name}.parquet" for name in names))
        found = unusable(path, "probes", needed) or _problems(read_json(path / needed[0]), folder, params)
        problems += [f"{folder.run} seed {folder.seed}: {problem}" for problem in found]
        if not found:
            for name in names:
                parts[name].append(pl.read_parquet(path / f"{name}.parquet"))
    if problems:
        raise CollectError(f"study {params.study!r} cannot be evaluated:\n" + "\n".join(f"  {p}" for p in problems))
    return {name: pl.concat(frames, how="vertical_relaxed") for name, frames in parts.items()}


def _problems(about: dict[str, Any], folder: RunFolder, params: Params) -> list[str]:
    problems = []
    expected = params.the_probes.model_dump(mode="json") | {"split": params.evaluation.split}
    if keys := differing_keys(about["probes"] | {"split": about["split"]}, expected):
        problems.append(
            f"looked into with another configuration than the current one, run the probes again: {'; '.join(keys)}"
        )
    else:
        key = reading_key(probes_file(params, folder.config), "", "")
        problems += made_from_other_values(key, folder.path / "probes")
    for digest, what in (("data_digest", "images"), ("checkpoint_digest", "checkpoint")):
        if about[digest] != folder.train[digest]:
            problems.append(
                f"trained: {what} {folder.train[digest]:.12}, but looked into: {what} {about[digest]:.12}; run the probes again"
            )
    return problems
