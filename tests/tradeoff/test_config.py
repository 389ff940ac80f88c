"""What cannot be trained is refused before any job, by the key's name; presets load."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from lgmamba.config.base import ConfigError, validate
from lgmamba.data.labels import check_labels, label_problem
from lgmamba.tradeoff.config import TradeoffParams, load_tradeoff
from tests.cli.programs import Caller
from tests.data.samples import encode, pixels
from tests.tradeoff.studies import SMALL, error, study, values

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "workflow/tradeoff").glob("*.yaml"))
PARQUET = {"kind": "parquet", "path": "x.parquet", "image_column": "image", "label_column": None}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_survive_a_round_trip(preset):
    params = load_tradeoff(preset, root=ROOT)
    assert params.study == preset
    assert validate(TradeoffParams, json.loads(params.model_dump_json()), "json") == params
    assert params.claims.fixed is not None and {c.name[:2] for c in params.claims.primary} == {
        f"E{k}" for k in range(1, 6)
    }


def test_every_stack_has_its_own_name_and_seeds_of_the_study():
    stacks = study().stacks()
    assert list(stacks) == [
        "mlp_m2",
        "mlp_m4",
        *(f"mlp_m4_{kind}" for kind in SMALL["tradeoff"]["controls"]["kinds"]),
    ]
    split = stacks["mlp_m4_split"]
    assert (split.latent, split.encoder.hidden, split.weights) == (2, [3], [0, 1])
    assert stacks["mlp_m4_doubled"].train.steps == 12
    fewer = study(tradeoff={"controls": {"weights": [0, 0.25, 1]}}).stacks()
    assert fewer["mlp_m4_raw"].weights == [0, 0.25, 1] and fewer["mlp_m4_random_labels"].weights == [0, 0.25]
    assert [name for name, stack in stacks.items() if stack.pictures] == ["mlp_m4"]


@pytest.mark.parametrize(
    "overrides, told",
    [
        ({"tradeoff": {"weights": [0, 1.5, 1]}}, r"tradeoff.weights.1: found 1.5, expected: less"),
        ({"tradeoff": {"weights": [-0.1, 0, 1]}}, r"tradeoff.weights.0: found -0.1"),
        ({"tradeoff": {"weights": [0, 0.5, 0.9]}}, "weights: found [0.0, 0.5, 0.9], expected: 0 and 1 among them"),
        (
            {"tradeoff": {"frontier": [{"encoder": "mlp", "latents": [4, 65]}]}},
            "tradeoff.frontier.0.latents.1: found 65, expected: at most the 64 numbers of an image",
        ),
        ({"data": {"source": PARQUET}}, "data.source.label_column: found null, expected: the column with the classes"),
        ({"data": {"n_classes": 1}}, "data.n_classes: found 1, expected: at least 2 classes"),
        (
            {"data": {"source": {"kind": "none", "samples": 8}, "image_size": None}},
            "data.source.kind: found 'none', expected: a source of images with classes",
        ),
        (
            {"data": {"splits": {"val": 0.0}}},
            "data.splits.val: found 0, expected: more than 0, since heads converge by it",
        ),
        ({"tradeoff": {"encoders": {"vit": {"patch": 3}}}}, "tradeoff.encoders.vit.patch: found 3, expected a divisor"),
        (
            {"tradeoff": {"controls": {"encoder": "cnn"}}},
            "controls: found 'cnn' at latent 4, expected: one of the frontier's",
        ),
        (
            {"tradeoff": {"controls": {"weights": [0, 0.5]}}},
            "controls.weights: found [0.0, 0.5], expected: 0 and 1 among",
        ),
        ({"tradeoff": {"encoders": {"mlp": {"hidden": [5]}}}}, "hidden: found 5, expected an even number"),
        ({"outputs": {"results": "../x"}}, "outputs.results: found '../x', expected: a folder below the repository"),
        ({"seeds": [1, 1]}, "seeds: found [1, 1], expected: each seed once"),
    ],
)
def test_what_cannot_be_trained_is_named(overrides, told):
    assert told in error(**overrides)


def test_contrasts_name_what_is_trained():
    claims = {"primary": [dict(SMALL["claims"]["primary"][0], of={"encoder": "mlp", "latent": 4, "weight": 0.25})]}
    assert "claims.primary.0.of.weight: found 0.25, expected: one of [0.0, 0.5, 1.0]" in error(claims=claims)
    claims = {"primary": [dict(SMALL["claims"]["primary"][1], of={"encoder": "mlp", "latent": 8})]}
    assert "claims.primary.0.of: found mlp at latent 8, expected: one of mlp at 2, mlp at 4" in error(claims=claims)
    claims = {"primary": [dict(SMALL["claims"]["primary"][0], measure="area")]}
    assert "of.weight: found 0.5, expected null" in error(claims=claims)


@pytest.mark.parametrize(
    "labels, n_classes, told",
    [
        ([0, 0], 1, "found 1 class, expected: at least 2"),
        ([0, 2, 2], 3, "found no image of class 1 (1 of 3 classes), expected: labels without gaps, 0 .. 2"),
    ],
)
def test_labels_that_tell_nothing_apart_are_named(labels, n_classes, told):
    assert told in label_problem(np.array(labels), n_classes, "here")
    assert label_problem(np.array([0, 1, 1]), 2, "here") is None


def test_a_folder_without_classes_is_named_before_any_job(tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encode(pixels(0)))
    source = {"kind": "image_folder", "path": str(tmp_path / "images")}
    told = r"data.source (image_folder): found 1 class, expected: at least 2"
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_labels(study(data={"source": source}).data)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(values(data={"source": source}, study="theirs")))
    lgmamba = Caller(monkeypatch, capsys)
    ran = lgmamba("tradeoff", "run", "--preset", "theirs.yaml")
    assert ran.code == 1 and told in ran.err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["images"]
    shown = lgmamba("tradeoff", "show", "--preset", "theirs.yaml")
    assert shown.code == 0 and f"note: {told}" in shown.err


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"preset 'nothing': neither one of \['tradeoff', 'tradeoff_cifar10'\]"):
        load_tradeoff("nothing", root=ROOT)
