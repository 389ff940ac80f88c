"""The stage probes on a small trained study: which files, what is in them, and what is refused."""

import json

import polars as pl
import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.files import ProbesFile, read_config
from lgmamba.config.probes import FRAMES, ProbesConfig
from lgmamba.config.run import RunConfig
from lgmamba.model.runner import run_sequence
from lgmamba.probe.of_layers import last_rows, octaves
from lgmamba.probe.probes import WHAT, run_probes
from lgmamba.tasks.draw.orders import orders_of_images
from lgmamba.tasks.draw.patches import patchify
from tests.analysis.synthetic_probes import PROBES
from tests.model.models import along
from tests.train.tiny import CPU

KEYS = {
    "attention": ["layer", "row", "column"],
    "distance": ["layer", "step", "form", "aggregation"],
    "receptive_field": ["kind", "layer", "step", "age_low"],
    "memory": ["layer", "step", "quantity"],
    "states": ["layer", "step"],
    "cycles": ["layer", "cycle"],
    "content": ["layer", "step", "read_out"],
    "modes": ["layer", "channel", "mode", "step"],
    "explained": ["layer", "step", "estimator", "account", "weighting"],
    "groups": ["layer", "group", "intervention", "step"],
    "remedy_effects": ["remedy", "step", "layer", "group"],
    "read_outs": ["step", "read_out"],
    "told_lengths": ["step", "told"],
}


def look(study, run: str, out, what: str = "all", **changes):
    trained = read_config(study.layout.run_json(run, 0), RunConfig)
    config = ProbesConfig.model_validate(PROBES | {"runs": [run], "images": 9, "length_ratios": [2, 9]} | changes)
    file = ProbesFile(run=trained, probes=config, split="test", steps=config.steps(trained.L0))
    return run_probes(file, study.home(run) / "train", study.data, out, CPU, what)


@pytest.fixture(scope="module", params=["plain", "told"])
def looked(request, study, tmp_path_factory):
    out = tmp_path_factory.mktemp("probes")
    return request.param, out, look(study, request.param, out)


def test_every_file_is_there_and_says_what_was_looked_at(looked):
    run, out, about = looked
    assert {path.name for path in out.iterdir()} == {
        "probes.json",
        "record.json",
        *(f"{name}.parquet" for names in FRAMES.values() for name in names),
    }
    assert json.loads((out / "probes.json").read_text()) == about
    assert (about["run"], about["L0"], about["steps"], about["images"]) == (run, 6, [6, 12, 54], 9)
    assert about["attention_error"] < 1e-5  # float32


@pytest.mark.parametrize("name", KEYS)
def test_rows_are_named_by_their_keys_and_hold_numbers(looked, name):
    run, out, _ = looked
    frame = pl.read_parquet(out / f"{name}.parquet")
    assert len(frame) > 0
    assert len(frame.unique(KEYS[name])) == len(frame)
    assert set(frame["run"]) == {run}
    numbers = frame.select(pl.col(pl.Float64, pl.Float32))
    assert all(column.is_finite().fill_null(True).all() for column in numbers)


def test_the_model_is_read_as_by_the_other_probes(looked, study):
    run, out, _ = looked
    model = study.model(run)
    rows = study.rows(9)
    targets = study.dataset.images[rows].float() / 255
    cells = orders_of_images("permutation", 4, 4, study.dataset.id_hash[rows], 1, 54)[:, 0]
    drawn = run_sequence(model, along(patchify(targets, 2), cells), [6, 12, 54], "stream")
    want = (-10 * (drawn - targets[:, None]).double().square().mean((0, 2, 3, 4)).log10()).tolist()
    content = pl.read_parquet(out / "content.parquet").filter(read_out="model").sort("step")
    assert content["psnr"].to_list() == pytest.approx(want, abs=1e-4)
    effects = pl.read_parquet(out / "remedy_effects.parquet").filter(remedy="none", layer=0, group="short").sort("step")
    assert effects["psnr"].to_list() == pytest.approx(want[1:], abs=1e-4)
    assert effects["psnr_L0"].to_list() == pytest.approx([want[0]] * 2, abs=1e-4)
    groups = pl.read_parquet(out / "groups.parquet").filter(layer=-1, group="all", intervention="size").sort("step")
    assert groups["plain"].to_list() == pytest.approx(want[1:], abs=1e-4)


def test_what_needs_nothing_changes_nothing_at_L0(looked):
    _, out, _ = looked
    content = pl.read_parquet(out / "content.parquet").filter(step=6)
    for layer in (0, 1):
        values = content.filter(layer=layer)["psnr"].to_list()
        assert values == pytest.approx([values[0]] * 3, abs=1e-4)  # fixed, restored, refit
    model = content.filter(layer=-1)["psnr"].to_list()
    assert model == pytest.approx([model[0]] * 2, abs=1e-4)
    modes = pl.read_parquet(out / "modes.parquet").filter(step=6)
    assert modes["predicted"].to_list() == [1.0] * len(modes)
    assert modes["measured"].to_list() == [1.0] * len(modes)


def test_shares_sum_to_one(looked):
    _, out, _ = looked
    field = pl.read_parquet(out / "receptive_field.parquet").filter(pl.col("kind") != "swap")
    sums = field.group_by("kind", "layer", "step").agg(pl.col("share").sum())["share"]
    assert sums.to_list() == pytest.approx([1.0] * len(sums), abs=1e-5)
    modes = pl.read_parquet(out / "modes.parquet")
    for name in ("weight", "energy"):
        sums = modes.group_by("layer", "step").agg(pl.col(name).sum())[name]
        assert sums.to_list() == pytest.approx([1.0] * len(sums), abs=1e-6)


def test_rows_and_octaves_by_hand():
    assert last_rows(100, 4) == [90, 93, 96, 99]
    assert last_rows(6, 8) == [5]
    assert last_rows(20, 8) == [18, 19]
    assert octaves(1) == [(0, 0)]
    assert octaves(8) == [(0, 0), (1, 2), (3, 6), (7, 14)]


@pytest.mark.parametrize("what", [what for what in WHAT if what != "all"])
def test_one_look_writes_its_own_frames_alone_and_the_same(looked, study, tmp_path, what):
    run, out, _ = looked
    look(study, run, tmp_path, what)
    names = {path.name for path in tmp_path.iterdir()}
    assert "probes.json" not in names
    assert names
    for name in names:
        assert pl.read_parquet(tmp_path / name).equals(pl.read_parquet(out / name))


def test_wrong_calls_are_told(study, tmp_path):
    with pytest.raises(ConfigError, match=r"--what: found 'colour', expected one of attention, .*, all"):
        look(study, "plain", tmp_path, "colour")
    trained = read_config(study.layout.run_json("plain", 0), RunConfig)
    config = ProbesConfig.model_validate(PROBES | {"runs": ["plain"]})
    file = ProbesFile(run=trained, probes=config, split="test", steps=[6, 12])
    with pytest.raises(ConfigError, match="expected the checkpoint of run 'plain' seed 0"):
        run_probes(file, study.home("fixed_6") / "train", study.data, tmp_path, CPU)
    nothing = file.model_copy(update={"split": "calib"})
    if len(study.dataset.split("calib")) < 2:
        with pytest.raises(ConfigError, match="images in split 'calib', expected 2 or more"):
            run_probes(nothing, study.home("plain") / "train", study.data, tmp_path, CPU)
    assert not list(tmp_path.iterdir())
    assert torch.get_num_threads() == 1
