"""Batches depend on seed and step alone; the loss is what a loop over sequences gives."""

from dataclasses import replace

import pytest
import torch

from lgmamba.data.dataset import load_dataset
from lgmamba.tasks.draw.batch import DrawBatch, DrawSampler
from lgmamba.tasks.draw.patches import patchify
from lgmamba.tasks.draw.task import DrawTask
from lgmamba.tasks.registry import build_model
from lgmamba.tasks.seeds import seed_of
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep
from tests.model.models import as_read
from tests.train.tiny import ADAPTIVE, tiny_run

SUPERVISIONS = [{"kind": "last"}, {"kind": "random_k", "k": 3}, {"kind": "all"}]
GRID = (4, 4)


def sampler(run, full_length=False, seed=0, rows=None, **train) -> DrawSampler:
    rows = torch.arange(100) if rows is None else rows
    train = run.train.model_copy(update={"batch_size": 8, "steps": 50} | train)
    return DrawSampler(run.task, rows, train, seed, full_length, GRID)


def equal(a: DrawBatch, b: DrawBatch) -> bool:
    return a.tensors().keys() == b.tensors().keys() and all(
        torch.equal(v, b.tensors()[k]) for k, v in a.tensors().items()
    )


def awake(model):
    """The heads of the conditioning start at zero, which would hide what is told."""
    with torch.no_grad():
        for p in model.conditioning.heads.parameters():
            p.normal_(std=0.3)
    return model


def test_seeds_differ_by_seed_purpose_and_step():
    seeds = [seed_of(s, purpose, step) for s in range(4) for purpose in ("batch", "model") for step in range(200)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)  # what torch.Generator.manual_seed takes
    assert seed_of(1, "batch", 23) != seed_of(12, "batch", 3)  # the digits do not run together
    assert seed_of(0, "batch", 7) == 597039073580657844  # another value would change every training


def test_a_batch_depends_on_seed_and_step_and_not_on_what_was_drawn_before():
    run = tiny_run(task={"supervision": {"kind": "random_k", "k": 3}})
    used = sampler(run)
    for step in (3, 1, 40):
        used.draw(step)
    assert equal(used.draw(7), sampler(run).draw(7))
    assert not equal(used.draw(7), used.draw(8))
    assert not equal(used.draw(7), sampler(run, seed=1).draw(7))


def test_images_come_from_the_given_rows_and_sequences_are_as_long_as_the_longest():
    rows = torch.tensor([5, 17, 60])
    draws = [sampler(tiny_run(), rows=rows).draw(step) for step in range(20)]
    assert {int(r) for batch in draws for r in batch.rows} == {5, 17, 60}
    for batch in draws:
        assert batch.cells.shape == (8, int(batch.lengths.max()))
        assert 1 <= int(batch.lengths.min()) <= int(batch.lengths.max()) <= 6


def test_with_a_length_power_long_sequences_weigh_more_and_nothing_else_changes():
    run = tiny_run(task={"supervision": {"kind": "random_k", "k": 3}})
    plain = sampler(run)
    powered = sampler(run, length_power=0.6)
    for step in range(10):
        a, b = plain.draw(step), powered.draw(step)
        torch.testing.assert_close(b.weights.sum(1), (b.lengths / run.L0) ** 0.6)
        assert equal(a, replace(b, weights=a.weights))


def test_a_curriculum_goes_by_the_fraction_of_the_training():
    fixed = [{"kind": "fixed", "value": T} for T in (2, 6)]
    run = tiny_run(task={"lengths": {"kind": "curriculum", "start": fixed[0], "end": fixed[1], "over": 0.5}})
    drawn = [sampler(run).draw(step).lengths for step in (0, 12, 25, 49)]
    assert [set(lengths.tolist()) for lengths in drawn] == [{2}, {2, 6}, {6}, {6}]


@torch.no_grad()
@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["plain", "adaptive"])
@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=lambda s: s["kind"])
def test_loss_of_mixed_lengths_is_that_of_a_loop_over_sequences(digits, supervision, adaptive):
    run = tiny_run(task={"supervision": supervision}, model={"adaptive": adaptive})
    dataset = load_dataset(digits)
    model = build_model(run, dataset.image_shape)
    if adaptive:
        awake(model)
    batch = sampler(run).draw(3)
    assert len(set(batch.lengths.tolist())) > 2
    expected = 0.0
    for b, T in enumerate(batch.lengths.tolist()):
        target = dataset.images[batch.rows[b]].float() / 255
        patches = patchify(target[None], 2)[0][batch.cells[b, :T]]
        read = {"last": [T], "all": range(1, T + 1)}.get(supervision["kind"], batch.steps[b].tolist())
        errors = []
        for t in read:  # each step of each sequence by itself
            sequence = as_read(patches[None], batch.cells[b : b + 1, :T])
            drawn = model(sequence, torch.tensor([[t]]), torch.tensor([T]))
            errors.append(float((drawn[0, 0] - target).square().mean()))
        expected += sum(errors) / len(errors) / len(batch.lengths)
    # float32 sums of 64 pixels in another order and through another batch size: 1e-5 is a hundred roundings.
    assert float(DrawTask(run.task, dataset).loss(model, batch)) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["plain", "adaptive"])
@pytest.mark.parametrize("order", ["permutation", "cycle", "raster", "replacement"])
def test_what_stands_after_the_longest_sequence_does_not_change_the_loss(digits, order, adaptive):
    run = tiny_run(task={"order": order, "supervision": {"kind": "random_k", "k": 3}}, model={"adaptive": adaptive})
    dataset = load_dataset(digits)
    model = build_model(run, dataset.image_shape)
    if adaptive:
        awake(model)
    batch = next(b for b in map(sampler(run, full_length=True).draw, range(50)) if int(b.lengths.max()) < 6)
    assert batch.cells.shape[1] == 6
    cut = replace(batch, cells=batch.cells[:, : int(batch.lengths.max())])
    full, short = (DrawTask(run.task, dataset).loss(model, b) for b in (batch, cut))
    assert float(full) == pytest.approx(float(short), rel=1e-5)  # the same sums, perhaps in vectors of another width


@pytest.mark.parametrize("order", ["permutation", "cycle", "raster"])
@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=lambda s: s["kind"])
def test_full_length_batches_are_the_short_ones_continued(order, supervision):
    """While L0 fits in one round of the cells. Independent cells (`replacement`) are drawn row after row: there, other cells come out."""
    run = tiny_run(task={"order": order, "supervision": supervision})
    for step in range(20):
        full, short = sampler(run, full_length=True).draw(step), sampler(run).draw(step)
        T, S = short.cells.shape[1], short.steps.shape[1]
        assert torch.equal(full.rows, short.rows)
        assert torch.equal(full.lengths, short.lengths)
        assert torch.equal(full.cells[:, :T], short.cells)
        assert torch.equal(full.steps[:, :S], short.steps)
        assert torch.equal(full.weights[:, :S], short.weights)
        assert not full.weights[:, S:].any()


def test_independent_cells_have_the_same_images_and_lengths_at_full_length():
    run = tiny_run(task={"order": "replacement"})
    full, short = sampler(run, full_length=True).draw(1), sampler(run).draw(1)
    assert torch.equal(full.rows, short.rows)
    assert torch.equal(full.lengths, short.lengths)


def test_one_batch_is_learned_by_heart(digits):
    run = tiny_run(task={"lengths": {"kind": "fixed", "value": 6}}, model={"d_model": 16}, train={"lr": 0.01})
    dataset = load_dataset(digits)
    model = build_model(run, dataset.image_shape)
    step = TrainStep(
        model, build_optimizer(model, run.train), DrawTask(run.task, dataset), 1.0, bf16=False, graph=False
    )
    batch = sampler(run).draw(0)
    losses = [float(step(batch)[0]) for _ in range(200)]
    assert losses[0] > 0.05
    assert losses[-1] < 0.02 * losses[0]


def test_the_norm_is_that_before_clipping_and_the_step_that_after(digits):
    run = tiny_run(train={"lr": 1.0})
    dataset = load_dataset(digits)
    batch = sampler(run).draw(0)

    def moved(clip: float) -> tuple[float, float]:
        model = build_model(run, dataset.image_shape)
        plain_descent = torch.optim.SGD(model.parameters(), lr=1.0)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        _, norm = TrainStep(model, plain_descent, DrawTask(run.task, dataset), clip, bf16=False, graph=False)(batch)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        return float(norm), float((after - before).norm())

    free, clipped = moved(1e9), moved(0.01)
    assert free[0] == clipped[0] > 0.1
    assert free[1] == pytest.approx(free[0], rel=1e-4)  # differences of float32 weights: a few of their last digits
    assert clipped[1] == pytest.approx(0.01, rel=1e-3)
