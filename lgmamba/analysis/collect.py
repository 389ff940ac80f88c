"""Which run folders belong to a study, and whether their results may be believed.

    results/<study>/runs/<run>/seed<k>/train/   run.json (the configuration trained with), train.json, history.parquet, ...
                                       evaluation/   steps.parquet, retention.parquet, panel.safetensors, evaluation.json

The weights themselves are not needed, only their digest: frames can be made where the checkpoints are not.
Results made with another configuration, from other images or with another checkpoint are refused, never mixed in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lgmamba.analysis.files import read_json
from lgmamba.config.differences import differing_keys
from lgmamba.config.files import evaluation_file, evaluation_files, read_config
from lgmamba.config.run import RunConfig
from lgmamba.config.study import Params
from lgmamba.keys import reading_key
from lgmamba.records import ArtefactError, Key, checked_all, read_record

TRAINED = ("run.json", "train.json", "history.parquet")
"""Files of a training that frames are made of."""


class CollectError(ValueError):
    """Run folders that cannot be evaluated together; the message has one line per problem."""


@dataclass(frozen=True)
class RunFolder:
    """One training and its per-step reconstructions, checked.

    Attributes:
        config: the run as configured now, equal to the one trained.
        path: results/<study>/runs/<run>/seed<k>.
        train, evaluation: the two stages' summaries (train.json, evaluation.json).
    """

    config: RunConfig
    path: Path
    train: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def run(self) -> str:
        return self.config.run

    @property
    def seed(self) -> int:
        return self.config.seed


def load_study(study_json: Path) -> Params:
    """The resolved parameters of a study, from config/study.json."""
    return read_config(study_json, Params)


def collect_runs(params: Params, runs: Path) -> list[RunFolder]:
    """Every run and seed of the study, in the order of params.yaml.

    Args:
        params: the study.
        runs: folder with <run>/seed<k>/, normally results/<study>/runs.
    Raises:
        CollectError: files are missing, or a run was made with another configuration, other images or another
            checkpoint than the rest; all problems at once, one line each.
    """
    folders, problems = [], []
    for (run, seed), config in params.run_configs().items():
        path = runs / run / f"seed{seed}"
        bad = unusable(path / "train", "train", TRAINED)
        needed = evaluation_files(params.task, params.report.retention == "maps", seed == params.seeds[0])
        bad += unusable(path / "evaluation", "reconstruct", needed)
        if bad:
            problems += [f"{run} seed {seed}: {problem}" for problem in bad]
            continue
        folder = RunFolder(
            config, path, read_json(path / "train/train.json"), read_json(path / "evaluation/evaluation.json")
        )
        problems += [f"{run} seed {seed}: {problem}" for problem in _problems(folder, params)]
        folders.append(folder)
    problems += _several_data(folders)
    if problems:
        raise CollectError(f"study {params.study!r} cannot be evaluated:\n" + "\n".join(f"  {p}" for p in problems))
    return folders


def unusable(folder: Path, stage: str, names: tuple[str, ...]) -> list[str]:
    """What is missing or damaged among a stage's files; nothing is read before this has looked at it."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return [f"missing {', '.join(missing)} in {folder}; `lgmamba {stage}` makes them"]
    try:
        checked_all(folder, names, stage)
    except ArtefactError as e:
        return [str(e)]
    return []


def made_from_other_values(key: Key, folder: Path) -> list[str]:
    """Whether a result was made with another configuration than the current one, whichever value it is that differs."""
    if read_record(folder, key.stage).key.config == key.config:
        return []
    return [f"{folder}: made by `lgmamba {key.stage}` with another configuration than the current one; make it again"]


def _problems(folder: RunFolder, params: Params) -> list[str]:
    """Why one folder's results are not those of the current study."""
    problems = []
    if keys := differing_keys(read_json(folder.path / "train/run.json"), folder.config.model_dump(mode="json")):
        problems.append(f"trained with another configuration than the current one, train it again: {'; '.join(keys)}")
    probed = folder.evaluation.get("evaluation")
    if probed is not None and (keys := differing_keys(probed, params.evaluation.model_dump(mode="json"))):
        problems.append(
            f"reconstructed with another configuration than the current one, reconstruct again: {'; '.join(keys)}"
        )
    if folder.evaluation["data_digest"] != folder.train["data_digest"]:
        problems.append(
            f"trained on images {folder.train['data_digest']:.12} but reconstructed images {folder.evaluation['data_digest']:.12}"
        )
    if not problems:
        key = reading_key(evaluation_file(params, folder.config), "", "")
        problems += made_from_other_values(key, folder.path / "evaluation")
    digest = folder.train["checkpoint_digest"]
    if folder.evaluation["checkpoint_digest"] != digest:
        problems.append(
            f"reconstructed with checkpoint {folder.evaluation['checkpoint_digest']:.12}, but train/ holds {digest:.12}; reconstruct again"
        )
    return problems


def _several_data(folders: list[RunFolder]) -> list[str]:
    by_digest: dict[str, list[str]] = {}
    for folder in folders:
        by_digest.setdefault(folder.train["data_digest"], []).append(f"{folder.run} seed {folder.seed}")
    if len(by_digest) < 2:
        return []
    return [
        "runs used different images: "
        + "; ".join(f"{digest:.12}: {', '.join(names)}" for digest, names in by_digest.items())
    ]
