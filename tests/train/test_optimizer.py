"""Which parameters decay, and the learning rate of every step."""

from itertools import pairwise

import pytest
import torch

from lgmamba.tasks.registry import build_model
from lgmamba.train.lamb import Lamb
from lgmamba.train.optimizer import build_optimizer, learning_rate, set_learning_rate
from tests.train.tiny import ADAPTIVE, tiny_run

MIXER_WEIGHTS = {
    f"blocks.{i}.mixer.{name}.weight" for i in (0, 1) for name in ("in_proj", "x_proj", "dt_proj", "out_proj")
}
CONDITIONING_WEIGHTS = {f"conditioning.{name}.weight" for name in ("trunk.0", "trunk.2", "heads.0", "heads.1")}
MODELS = {
    "plain": ({}, {"embed_patch.weight", "decoder.net.0.weight", "decoder.net.2.weight"}),
    "adaptive-spatial-moves": (
        {"adaptive": ADAPTIVE, "position": "relative_move", "decoder": {"kind": "spatial", "hidden": 16}},
        {
            "embed_patch.weight",
            "embed_move.weight",
            "decoder.latent.weight",
            "decoder.net.1.weight",
            "decoder.net.3.weight",
        }
        | CONDITIONING_WEIGHTS,
    ),
}


@pytest.mark.parametrize("changes, expected", MODELS.values(), ids=MODELS)
def test_exactly_the_weights_of_linear_layers_decay(changes, expected):
    run = tiny_run(model=changes, train={"weight_decay": 0.123})
    model = build_model(run, (1, 8, 8))
    names = {id(p): name for name, p in model.named_parameters()}
    decaying, resting = build_optimizer(model, run.train).param_groups
    assert {names[id(p)] for p in decaying["params"]} == MIXER_WEIGHTS | expected
    assert len(decaying["params"]) + len(resting["params"]) == len(names)
    assert {names[id(p)] for p in resting["params"]} >= {
        *(f"blocks.1.mixer.{name}" for name in ("A_log", "D", "dt_proj.bias", "conv1d.weight", "conv1d.bias")),
        *("blocks.0.norm.weight", "norm_out.weight", "embed_patch.bias"),
    }
    assert (decaying["weight_decay"], resting["weight_decay"]) == (0.123, 0.0)
    assert decaying["betas"] == resting["betas"] == (0.9, 0.99)


def test_one_step_without_gradient_shrinks_what_decays_and_nothing_else():
    run = tiny_run(train={"weight_decay": 0.5, "lr": 0.1})
    model = build_model(run, (1, 8, 8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, run.train)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in MIXER_WEIGHTS | MODELS["plain"][1] else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)  # one float32 product: default tolerances


def test_learning_rate_warms_up_linearly_and_ends_at_its_final_fraction():
    config = tiny_run(train={"steps": 100, "warmup_steps": 10, "lr": 0.02, "final_lr": 0.05}).train
    rates = [learning_rate(step, config) for step in range(100)]
    # Each expected value is the same formula in other words: they agree to rounding.
    assert rates[0] == pytest.approx(0.002, rel=1e-12)
    assert rates[4] == pytest.approx(0.01, rel=1e-12)
    assert rates[9] == rates[10] == 0.02  # warm-up ends at the peak, where the cosine begins
    assert rates[99] == pytest.approx(0.02 * 0.05, rel=1e-12)
    middle = (rates[54] + rates[55]) / 2  # 10 .. 99 is symmetric about 54.5
    assert middle == pytest.approx(0.02 * (1 + 0.05) / 2, rel=1e-12)
    assert all(b > a for a, b in pairwise(rates[:10]))
    assert all(b < a for a, b in pairwise(rates[10:]))


def test_without_warm_up_the_first_step_has_the_peak():
    config = tiny_run(train={"warmup_steps": 0, "lr": 0.02}).train
    assert learning_rate(0, config) == 0.02


def test_the_rate_is_set_in_every_group():
    run = tiny_run()
    optimizer = build_optimizer(build_model(run, (1, 8, 8)), run.train)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_a_constant_rate_stays_after_the_warm_up():
    config = tiny_run(train={"schedule": "constant"}).train
    rates = [learning_rate(step, config) for step in range(config.steps)]
    assert rates[: config.warmup_steps] == [
        config.lr * (i + 1) / config.warmup_steps for i in range(config.warmup_steps)
    ]
    assert set(rates[config.warmup_steps :]) == {config.lr}


def test_the_configured_optimizer_decays_the_same_weights():
    model = build_model(tiny_run(), (1, 8, 8))
    for adapt in ("all", "decayed"):
        config = tiny_run(train={"optimizer": {"kind": "lamb", "adapt": adapt}}).train
        optimizer = build_optimizer(model, config)
        assert isinstance(optimizer, Lamb)
        decayed, rest = optimizer.param_groups
        assert (decayed["weight_decay"], rest["weight_decay"]) == (config.weight_decay, 0.0)
        assert all(group["adapt"] == adapt and group["lr"] == config.lr for group in (decayed, rest))
