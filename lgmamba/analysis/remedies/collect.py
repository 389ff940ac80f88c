"""The files of the stage `remedy`, and whether they may be believed.

results/<study>/runs/<run>/seed<k>/remedies/   remedies.json, steps.parquet, retention.parquet (of tasks with parts that steps show)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lgmamba.analysis.collect import CollectError, RunFolder, made_from_other_values, unusable
from lgmamba.analysis.files import ENGINE, read_json
from lgmamba.analysis.samples import image_block, shared_seeds
from lgmamba.config.differences import differing_keys
from lgmamba.config.files import remedy_file, remedy_files
from lgmamba.config.remedies import RESERVED
from lgmamba.config.study import Params
from lgmamba.keys import reading_key


@dataclass(frozen=True)
class Remedy:
    """One row of every table: a remedy of params.yaml, a control, or vanilla.

    Attributes:
        name, kind, mode, words: as in remedies.json; words are its form in a few words.
        control: whether it is no remedy but what remedies are compared with.
    """

    name: str
    kind: str
    mode: str
    words: str
    control: bool


@dataclass(frozen=True)
class RemedyFolder:
    """What remedies do to one training, checked.

    Attributes:
        folder: the training.
        found: remedies.json.
    """

    folder: RunFolder
    found: dict[str, Any]


def collect_remedies(params: Params, folders: list[RunFolder]) -> list[RemedyFolder]:
    """Every training that remedies were tried on, in the order of params.yaml.

    Args:
        params: a study that tries remedies.
        folders: its trainings, as `analysis.collect.collect_runs` found them.
    Raises:
        CollectError: files are missing, or made with another configuration, other images or another checkpoint; all
            problems at once, one line each.
    """
    found, problems = [], []
    for folder in folders:
        if folder.run not in params.the_remedy_evaluation.runs:
            continue
        path = folder.path / "remedies"
        if bad := unusable(path, "remedy", remedy_files(params.task)):
            problems += [f"{folder.run} seed {folder.seed}: {problem}" for problem in bad]
            continue
        remedied = RemedyFolder(folder, read_json(path / "remedies.json"))
        problems += [f"{folder.run} seed {folder.seed}: {problem}" for problem in _problems(remedied, params)]
        found.append(remedied)
    if problems:
        raise CollectError(f"study {params.study!r} cannot be evaluated:\n" + "\n".join(f"  {p}" for p in problems))
    return found


def _problems(remedied: RemedyFolder, params: Params) -> list[str]:
    found, train = remedied.found, remedied.folder.train
    problems = []
    keys = differing_keys(found["remedy_evaluation"], params.the_remedy_evaluation.model_dump(mode="json"))
    asked = [entry.name for entry in params.remedies]
    tried = [row["name"] for row in found["remedies"] if row["name"] not in RESERVED]
    if tried != asked:
        keys.append(f"remedies: found {', '.join(tried) or 'none'}, expected {', '.join(asked) or 'none'}")
    if keys:
        problems.append(f"remedies tried with another configuration than the current one, try again: {'; '.join(keys)}")
    else:
        key = reading_key(remedy_file(params, remedied.folder.config), "", "")
        problems += made_from_other_values(key, remedied.folder.path / "remedies")
    if found["data_digest"] != train["data_digest"]:
        problems.append(
            f"trained on images {train['data_digest']:.12} but remedies tried on images {found['data_digest']:.12}"
        )
    if found["checkpoint_digest"] != train["checkpoint_digest"]:
        problems.append(
            f"remedies tried on checkpoint {found['checkpoint_digest']:.12}, but train/ holds {train['checkpoint_digest']:.12}; try again"
        )
    return problems


def remedies_of(folders: list[RemedyFolder]) -> dict[str, Remedy]:
    """{name: remedy}, in the order of remedies.json: vanilla, controls, remedies.

    A length-adaptive run has the row `vanilla_stream`, which others lack.

    Raises:
        CollectError: one name stands for two forms.
    """
    found: dict[str, Remedy] = {}
    for folder in folders:
        for row in folder.found["remedies"]:
            remedy = Remedy(*(row[key] for key in ("name", "kind", "mode", "words", "control")))
            if found.setdefault(remedy.name, remedy) != remedy:
                raise CollectError(
                    f"{folder.folder.run} seed {folder.folder.seed}: remedy {remedy.name!r} is {remedy.words!r} in {remedy.mode} "
                    f"mode, elsewhere {found[remedy.name].words!r} in {found[remedy.name].mode} mode"
                )
    return found


@dataclass(frozen=True)
class Evaluations:
    """Per-image errors of every remedy in one matrix.

    Attributes:
        images: (I,) rows of the image artefact, ascending.
        mse: (I, K) mean squared error of each image on [0, 1] pixels, mean over its visiting orders.
        columns: {(run, seed, order, remedy, step): column of mse}.
        seeds: those that all runs have, in the order of params.yaml.
    """

    images: np.ndarray
    mse: np.ndarray
    columns: dict[tuple[str, int, str, str, int], int]
    seeds: tuple[int, ...]

    def of(self, run: str, order: str, remedy: str, step: int) -> list[int] | None:
        """Columns of one setting, seed by seed; None where it was not read."""
        found = [self.columns.get((run, seed, order, remedy, step)) for seed in self.seeds]
        known = [column for column in found if column is not None]
        return known if len(known) == len(found) else None

    def steps(self, run: str) -> list[int]:
        """Steps at which a run was read, ascending."""
        return sorted({step for name, _, _, _, step in self.columns if name == run})


def load_evaluations(folders: list[RemedyFolder], error: str = "mse") -> Evaluations:
    """Read steps.parquet of every training, one file at a time.

    Args:
        folders: trainings that remedies were tried on.
        error: column of the error; `Evaluations.mse` holds it, whatever it is. Settings without one are left out.
    Raises:
        CollectError: trainings were read on different images, or an error is no number.
    """
    keys = ("order", "remedy", "step")
    blocks: list[np.ndarray] = []
    columns: dict[tuple[str, int, str, str, int], int] = {}
    images = None
    for remedied in folders:
        folder = remedied.folder
        frame = (
            pl.scan_parquet(folder.path / "remedies/steps.parquet")
            .drop_nulls(error)
            .group_by(*keys, "image")
            .agg(pl.col(error).cast(pl.Float64).mean().alias("mse"))
            .collect(engine=ENGINE)
            .sort(*keys, "image")
        )
        settings, block, images = image_block(frame, keys, folder, folders[0].folder, images)
        for order, remedy, step in settings:
            columns[folder.run, folder.seed, order, remedy, step] = len(columns)
        blocks.append(block)
    seeds = shared_seeds([remedied.folder for remedied in folders])
    assert images is not None  # a study has trainings
    return Evaluations(images, np.concatenate(blocks, axis=1), columns, seeds)
