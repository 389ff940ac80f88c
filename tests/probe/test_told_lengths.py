"""Wrong lengths that are told: of a trained run against its own passes, and what a run makes of them that is told none."""

import polars as pl
import pytest

from lgmamba.analysis.told_lengths import told_changes
from lgmamba.config.files import ProbesFile, read_config
from lgmamba.config.probes import ProbesConfig
from lgmamba.config.run import RunConfig
from lgmamba.metrics import psnr
from lgmamba.probe.context import ProbeContext
from lgmamba.probe.of_told_lengths import told_lengths
from lgmamba.probe.probes import run_probes
from lgmamba.tasks.registry import build_task
from tests.train.tiny import CPU

PROBES = {"kinds": ["told_lengths"], "order": "permutation", "images": 9, "fit_images": 40, "chunk": 64}


def file_of(study, run: str) -> ProbesFile:
    trained = read_config(study.layout.run_json(run, 0), RunConfig)
    config = ProbesConfig.model_validate(PROBES | {"runs": [run]})
    return ProbesFile(run=trained, probes=config, split="test", steps=config.steps(trained.L0))


def test_levels_are_those_of_passes_that_are_told_so(study, tmp_path):
    file = file_of(study, "told")
    run_probes(file, study.home("told") / "train", study.data, tmp_path, CPU)
    assert {path.name for path in tmp_path.iterdir()} == {"probes.json", "record.json", "told_lengths.parquet"}
    found = pl.read_parquet(tmp_path / "told_lengths.parquet")
    told = {1: [1, 2, 4, 8], 2: [1, 2, 4, 8, 16], 4: [1, 2, 4, 8, 16, 32], 6: [1, 2, 3, 6, 12, 24, 48]}
    assert found.select("step", "told").rows() == [(T, length) for T, lengths in told.items() for length in lengths]
    seq = build_task(file.run, study.dataset).held_out(study.rows(9), "permutation", 0, 6)
    errors = {}
    for T, length in found.select("step", "told").rows():
        drawn = [study.drawn("told", int(image), seq.cells[i], T, length) for i, image in enumerate(study.rows(9))]
        errors[T, length] = sum(float((a - b).square().mean()) for a, b in drawn) / len(drawn)
    want = [float(psnr(error)) for error in errors.values()]
    assert found["level"].to_list() == pytest.approx(want, abs=1e-3)
    assert found.filter(step=6)["level"].n_unique() > 4  # it does make something of what it is told


def test_a_run_that_is_told_no_length_has_its_own_alone(study):
    file = file_of(study, "plain")
    context = ProbeContext(study.model("plain"), build_task(file.run, study.dataset), study.dataset, file)
    found = told_lengths(context)["told_lengths"]
    assert found["step"] == found["told"] == [1, 2, 4, 6]


def test_changes_are_paired_by_training_and_leave_out_runs_that_are_told_none():
    rows = [
        {"run": "own", "seed": seed, "step": 4, "told": told, "level": level}
        for seed, levels in ((0, {2: 10.0, 4: 12.0, 8: 11.0}), (1, {2: 13.0, 4: 14.0, 8: 15.0}))
        for told, level in levels.items()
    ]
    plain = {"run": "plain", "seed": 0, "step": 4, "told": 4, "level": 9.0}
    found = told_changes(pl.DataFrame([*rows, plain]))
    assert found.rows() == [
        ("own", 4, 0.5, 13.0, -1.5, 2),
        ("own", 4, 1.0, 13.0, 0.0, 2),
        ("own", 4, 2.0, 13.0, 0.0, 2),
    ]
