"""In-context regression: one S6 layer does what the closed form says, at its training length, beyond it, and under remedies."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import in_memory
from lgmamba.mixers.gru.config import GruConfig
from lgmamba.model.runner import read_pieces, run_sequence
from lgmamba.remedies.assemble.remedy import assemble
from lgmamba.remedies.controls import freeze
from lgmamba.remedies.step_size.remedy import scale_step_sizes
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.tasks.regression.theory import Theory, Weights
from lgmamba.train.optimizer import build_optimizer, learning_rate, set_learning_rate
from lgmamba.train.step import TrainStep
from tests.tasks.contract import LAST, TASKS

D, N0, LONG = 4, 50, 25 * 50
THEORY = Theory(D, N0)
SAMPLES, ERRORS = 3000, 4.0
"""Standard errors of a mean over so many sequences; one in 10^4 is larger."""
EXCESS = 0.02
"""Share by which a trained layer is from the best one, at most: its gradients are of a few hundred sequences."""


@cache
def trained():
    """The task and one layer trained at N0: 150 steps of 256 sequences."""
    task = {"dim": D, "body": "s6", "lengths": {"kind": "fixed", "value": N0}, "supervision": LAST}
    train = {"steps": 150, "batch_size": 256, "lr": 0.03, "warmup_steps": 5, "weight_decay": 0.0, "precision": "fp32"}
    run = TASKS["regression-s6"].run(task=task, train=train, model={"mixer": {"d_state": 8}})
    dataset = in_memory(torch.zeros(SAMPLES, 0, 0, 0, dtype=torch.uint8))
    found, model = build_task(run, dataset), build_model(run, dataset.image_shape)
    optimizer = build_optimizer(model, run.train)
    step = TrainStep(model, optimizer, found, 1.0, bf16=False, graph=False)
    sampler = found.sampler(dataset.split("train"), run.train, 0, True)
    for i in range(run.train.steps):
        set_learning_rate(optimizer, learning_rate(i, run.train))
        step(sampler.draw(i))
    return found, model.eval().requires_grad_(False)


@cache
def pairs():
    task, _ = trained()
    return task.held_out(torch.arange(SAMPLES), "independent", 0, LONG)


def assert_as_said(prediction: Tensor, lengths: list[int], said) -> None:
    """Within the sampling error, and what training leaves."""
    task, _ = trained()
    errors = task.errors(prediction, pairs(), torch.tensor(lengths))["half_square"].double()
    for N, error in zip(lengths, errors.T, strict=True):
        spread = float(error.std()) / math.sqrt(len(error))
        assert float(error.mean()) == pytest.approx(said(N), abs=ERRORS * spread + EXCESS * said(N)), N


def test_the_numbers_of_the_closed_form():
    """With a zero-order hold, as derived; of the models here some per cent more where little is left."""
    held = Theory(D, N0, hold=True)
    found = [held.loss(N) for N in (N0, 2 * N0, LONG)] + [held.slowed(2 * N0, question=True)]
    assert found == pytest.approx([0.19, 0.47, 1.54, 0.10], abs=0.006)
    assert [held.slowed(LONG, question=True), held.windows(LONG)] == pytest.approx([0.020, 0.025], abs=0.0005)
    assert [THEORY.loss(N) for N in (N0, 2 * N0, LONG)] == pytest.approx(found[:3], rel=1e-6)
    assert THEORY.slowed(N0) == THEORY.windows(N0) == THEORY.frozen(LONG) == THEORY.loss(N0)


def test_the_best_scale_is_the_best():
    at_N0 = Weights.after(N0, THEORY.dt)
    losses = [
        D / 2 * ((1 - b * at_N0.s1) ** 2 + b**2 * (D + 1) * at_N0.s2) for b in (0.99 * THEORY.beta, 1.01 * THEORY.beta)
    ]
    assert min(losses) > THEORY.loss(N0)


def test_sums_of_weights_by_hand():
    weights = [0.1 * math.exp(-0.1 * (7 - k)) * math.exp(-0.2) for k in range(1, 8)]  # seven pairs at half of dt 0.2
    found = Weights.after(7, 0.2, slow=0.5)
    assert found.s1 == pytest.approx(sum(weights))
    assert found.s2 == pytest.approx(sum(w**2 for w in weights))


def test_a_trained_layer_loses_beyond_its_training_length_what_the_theory_says():
    lengths = [10, N0, 2 * N0, LONG]
    assert_as_said(run_sequence(trained()[1], pairs(), lengths, "prefix"), lengths, THEORY.loss)


def test_slower_steps_repair_it_as_the_theory_says():
    lengths = [N0, 2 * N0, LONG]
    slower = lambda N: scale_step_sizes(per_layer=[min(1.0, N0 / N)])  # noqa: E731
    assert_as_said(run_sequence(trained()[1], pairs(), lengths, "prefix", make_hook=slower), lengths, THEORY.slowed)


def test_with_a_question_read_as_slowly_it_is_repaired_further():
    _, model = trained()
    tokens = torch.cat([model.tokens(pairs(), 0, LONG), model.questions(pairs(), torch.tensor([LONG]))], dim=1)
    outputs, _ = model.encode(tokens, hook=scale_step_sizes(per_layer=[N0 / LONG]), want_state=False)
    assert_as_said(model.answer_of(outputs[:, -1:]), [LONG], lambda N: THEORY.slowed(N, question=True))


def test_windows_repair_it_as_the_theory_says():
    lengths = [N0, 2 * N0, LONG]
    assert_as_said(assemble(trained()[1], pairs(), lengths, "prefix"), lengths, THEORY.windows)


def test_a_frozen_state_keeps_what_it_had():
    found = run_sequence(trained()[1], pairs(), [N0, LONG], "stream", make_hook=lambda _: freeze(N0))
    torch.testing.assert_close(found[:, 1], found[:, 0])


def test_the_layer_has_learned_to_follow_the_gradient():
    """C(x) . B(x') is beta x . x', whatever y: the theory's one assumption about training."""
    _, model = trained()
    product = model.read.weight.T @ model.write.weight  # (d + 1, d + 1)
    inputs = product[:D, :D]
    scale = float(inputs.diagonal().mean())
    assert scale == pytest.approx(THEORY.beta, rel=0.03)
    assert (inputs - scale * torch.eye(D)).abs().max() < 0.1 * scale


def test_nothing_is_asked_of_a_question_and_it_leaves_nothing():
    _, model = trained()
    few = pairs()[:3]
    (chunk,) = read_pieces(model, few, [20])
    h = chunk.state.layers[0].memory.clone()
    model.ask(chunk.state, few, 20)
    assert torch.equal(chunk.state.layers[0].memory, h)
    outputs, _ = model.encode(torch.cat([model.tokens(few, 0, 20), model.questions(few, torch.full((3,), 20))], dim=1))
    torch.testing.assert_close(model.ask(chunk.state, few, 20), outputs[:, -1, -1])


def test_least_squares_knows_the_function_once_there_are_as_many_pairs_as_unknowns():
    task, _ = trained()
    steps = torch.tensor([1, D - 1, D, D + 1, N0])
    known = {name: s.values["half_square"].mean(0) for name, s in task.baselines(pairs(), steps, None).items()}
    assert known["zero"].tolist() == pytest.approx([D / 2] * 5, rel=0.1)
    # The smallest w that fits t < d pairs has the share t / d of the function's length.
    assert known["least_squares"][:2].tolist() == pytest.approx([D / 2 * (1 - t / D) for t in (1, D - 1)], rel=0.1)
    assert (known["least_squares"][2:] < 1e-6).all()


def test_a_bare_layer_cannot_be_told_a_length():
    adaptive = {"kind": "film", "features": "T", "hidden": 4, "beyond": "clamp"}
    with pytest.raises(ConfigError, match=r"model\.adaptive: expected: null with task.body s6"):
        build_model(TASKS["regression-s6"].run(model={"adaptive": adaptive}), (0, 0, 0))


def test_a_bare_layer_is_mambas():
    run = TASKS["regression-s6"].run()
    run = run.model_copy(update={"model": run.model.model_copy(update={"mixer": GruConfig(kind="gru", hidden=4)})})
    with pytest.raises(ConfigError, match=r"model\.mixer\.kind: found gru, expected: mamba with task\.body s6"):
        build_model(run, (0, 0, 0))
