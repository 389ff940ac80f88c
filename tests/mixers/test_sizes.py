"""Mixers of equal size are of equal size."""

import pytest
import torch

from lgmamba.config.run import ModelConfig
from lgmamba.config.study import load_params
from lgmamba.mixers import sizes, table
from lgmamba.mixers.memory import memory_at_start
from lgmamba.mixers.registry import MIXERS, build_mixer
from tests.config.studies import PARAMS
from tests.model.models import BASE

TABLES = {"SMALL": 16, "LARGE": 256}


def count(mixer: dict, width: int, layer: int = 0) -> int:
    config = ModelConfig.model_validate(BASE | {"d_model": width, "mixer": mixer})
    with torch.device("meta"):
        return sum(p.numel() for p in build_mixer(config, layer).parameters())


def test_mamba_has_the_parameters_that_others_are_measured_by():
    assert count(sizes.SMALL["mamba"], 16) == 2_432
    assert count(sizes.LARGE["mamba"], 256) == 437_760


@pytest.mark.parametrize(("table", "name"), [(key, name) for key in TABLES for name in getattr(sizes, key)])
def test_a_mixer_has_as_many_parameters_as_mamba_or_a_reason(table, name):
    mixers, width = getattr(sizes, table), TABLES[table]
    off = count(mixers[name], width) / count(mixers["mamba"], width) - 1
    assert (abs(off) <= sizes.WITHIN) == ((table, name) not in sizes.REASONS), f"{off:+.1%}"


@pytest.mark.parametrize("table", TABLES)
def test_layers_of_local_attention_are_as_large_as_those_beside_them(table):
    mixers, width = getattr(sizes, table), TABLES[table]
    off = count(mixers["griffin"], width, layer=2) / count(mixers["mamba"], width) - 1
    assert abs(off) <= sizes.WITHIN


@pytest.mark.parametrize("table", TABLES)
def test_every_kind_of_mixer_has_a_size(table):
    kinds = {mixer["kind"] for mixer in getattr(sizes, table).values()}
    assert kinds == set(MIXERS)


@pytest.mark.parametrize("table", TABLES)
def test_positions_of_attention_cost_the_later_layers_nothing(table):
    mixers, width = getattr(sizes, table), TABLES[table]
    assert count(mixers["attention_absolute"], width, layer=1) == count(mixers["attention_nope"], width, layer=1)


def test_the_page_of_mixers_says_what_the_configurations_say():
    assert table.PAGE.read_text() == table.page(), "run python -m lgmamba.mixers.table"


def test_presets_of_mixers_have_them_at_equal_size():
    large = {"mixers_cifar10": sizes.LARGE}
    for preset in ("mixers", "mixers_second", "mixers_omniglot", *large):
        runs, mixers = load_params(PARAMS, preset).runs_by_name(), large.get(preset, sizes.SMALL)
        for name, run in runs.items():
            mixer, _, _ = name.rpartition("_")
            assert run.model.mixer == table.configured(mixers[mixer])
            assert run.model.d_model == (256 if preset in large else 16)
        if preset == "mixers":
            assert {run.model.mixer.kind for run in runs.values()} == set(MIXERS)


@pytest.mark.parametrize("name", sizes.SMALL)
def test_what_is_remembered_at_the_start_is_known_of_every_mixer(name):
    config = ModelConfig.model_validate(BASE | {"d_model": 16, "mixer": sizes.SMALL[name]})
    found = memory_at_start(config)
    assert (found is None) == (config.modes == 0)
    if found is not None:
        assert 0 < found.low <= found.median <= found.high


def test_what_is_remembered_at_the_start_by_hand():
    """minGRU with z = 1 - exp(-1 / 50) at an input of 0: half of the channels remember less, half more."""
    mixer = sizes.SMALL["mingru"] | {"memory": 50}
    found = memory_at_start(ModelConfig.model_validate(BASE | {"d_model": 16, "mixer": mixer}))
    assert 40 < found.median < 50
    s4d = memory_at_start(ModelConfig.model_validate(BASE | {"d_model": 16, "mixer": sizes.SMALL["s4d"]}))
    assert 2 / 0.1 <= s4d.low and s4d.high <= 2 / 0.001  # rates are dt / 2
