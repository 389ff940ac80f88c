"""State passing: what is read before a sequence, with which result, and that nothing else changes."""

import math
from dataclasses import replace

import pytest
import torch

from lgmamba.data.dataset import load_dataset
from lgmamba.model import StackState
from lgmamba.tasks.batch import passed_steps, passed_steps_pmf
from lgmamba.tasks.draw import batch as batch_module
from lgmamba.tasks.draw.batch import DrawSampler
from lgmamba.tasks.draw.patches import patchify
from lgmamba.tasks.draw.task import DrawTask
from lgmamba.tasks.registry import build_model
from lgmamba.train import passing as passing_module
from lgmamba.train.checkpoint import load_model
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.passing import noise_like, passed_state
from lgmamba.train.step import TrainStep
from tests.model.models import as_read
from tests.train.tiny import FakeTracker, Stopped, reproducible_rows, tiny_run, train_at, weights

GRID = (4, 4)
KINDS = ("same_image", "other_image", "noise")
BACKENDS = ("auto", "reference")
MOVES = {"position": "relative_move"}
"""A code of moves needs to know which cell the passed part ended on."""

kinds = pytest.mark.parametrize("kind", KINDS)


def passing_run(kind: str = "same_image", max_factor: float = 4, share: float = 0.5, **changes):
    """Eight sequences of up to 6 steps, four of them after up to 24 others."""
    passing = {"kind": kind, "max_factor": max_factor, "share": share}
    train = {"batch_size": 8, "state_passing": passing} | changes.pop("train", {})
    return tiny_run(train=train, **changes)


def sampler(run, seed=0, full_length=False) -> DrawSampler:
    train = run.train.model_copy(update={"steps": 50})
    return DrawSampler(run.task, torch.arange(100, 200), train, seed, full_length, GRID)


def setting(digits, run):
    """The task, a model that is off its initialisation, and a batch with a passed part of some length."""
    task = DrawTask(run.task, load_dataset(digits))
    model = build_model(run, task.dataset.image_shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    draws = map(sampler(run).draw, range(50))
    return task, model, next(b for b in draws if b.passed.cells.shape[1] > 4)


def without_passing(run):
    return run.model_copy(update={"train": run.train.model_copy(update={"state_passing": None})})


# What is drawn


@kinds
def test_a_batch_depends_on_seed_and_step_alone(kind):
    run = passing_run(kind)
    used = sampler(run)
    for step in (3, 1, 40):
        used.draw(step)

    def values(batch):
        return [v.tolist() for v in (*batch.tensors().values(), batch.passed.rows, batch.passed.cells)] + [
            batch.passed.noise_seed
        ]

    assert values(used.draw(7)) == values(sampler(run).draw(7))
    assert values(used.draw(7)) != values(used.draw(8))
    assert values(used.draw(7)) != values(sampler(run, seed=1).draw(7))


@pytest.mark.parametrize("order", ["permutation", "cycle", "replacement", "raster"])
@pytest.mark.parametrize("full_length", [False, True])
def test_the_sequences_go_on_where_the_passed_part_ends_and_the_others_start_fresh(order, full_length, monkeypatch):
    run = passing_run(task={"order": order})
    orders = []

    def remembered(*args):
        orders.append(batch_module_order(*args))
        return orders[-1]

    batch_module_order = batch_module.visiting_order
    monkeypatch.setattr(batch_module, "visiting_order", remembered)
    seen = set()
    for step in range(20):
        batch = sampler(run, full_length=full_length).draw(step)
        n, L = batch.passed.cells.shape[1], batch.cells.shape[1]
        seen.add(n)
        assert L == (6 if full_length else int(batch.lengths.max()))
        assert torch.equal(torch.cat([batch.passed.cells, batch.cells[:4]], dim=1), orders[-1][:4])
        assert torch.equal(batch.cells[4:], orders[-1][4:, :L])
        assert torch.equal(batch.passed.rows, batch.rows[:4])
        assert batch.passed.noise_seed is None
    assert len(seen) > 5


def test_another_image_is_another_one_and_only_noise_has_a_seed():
    run = passing_run("other_image", share=1.0)
    for step in range(50):
        batch = sampler(run).draw(step)
        assert (batch.passed.rows != batch.rows).all()
        assert ((batch.passed.rows >= 100) & (batch.passed.rows < 200)).all()
        assert batch.passed.noise_seed is None
    seeds = {sampler(passing_run("noise")).draw(step).passed.noise_seed for step in range(50)}
    assert len(seeds) == 50
    assert None not in seeds


@kinds
def test_the_number_of_steps_is_the_only_difference_from_a_training_without(kind, monkeypatch):
    monkeypatch.setattr(batch_module, "passed_steps", lambda *args: 0)
    run = passing_run(kind)
    plain = without_passing(run)
    for step in range(10):
        batch, expected = sampler(run).draw(step), sampler(plain).draw(step)
        assert expected.passed is None
        assert batch.passed.cells.shape == (4, 0)
        assert torch.equal(batch.before, batch.cells[:, 0])
        found = batch.tensors()
        assert found.keys() == expected.tensors().keys() | {"before"}
        assert all(torch.equal(found[name], v) for name, v in expected.tensors().items())


@pytest.mark.parametrize("share, k", [(0.1, 1), (0.5, 4), (0.7, 6), (1.0, 8)])
def test_as_many_sequences_have_a_passed_part_as_asked_for(share, k):
    batch = sampler(passing_run(share=share)).draw(0)
    assert len(batch.passed.rows) == len(batch.passed.cells) == k


def test_the_steps_follow_the_law_that_is_stated():
    passing, draws = passing_run(max_factor=2.5).train.state_passing, 20_000
    drawn = torch.tensor([passed_steps(passing, 6, 0, step) for step in range(draws)])
    counts = torch.bincount(drawn)
    law = passed_steps_pmf(passing, 6)
    assert len(counts) == len(law) == 16  # 0 .. 2.5 x 6
    assert law[3] == pytest.approx(math.log(5 / 4) / math.log(17))
    assert sum(law) == pytest.approx(1)
    for n, (count, p) in enumerate(zip(counts.tolist(), law, strict=True)):
        assert abs(count - draws * p) < 4.5 * math.sqrt(draws * p * (1 - p)), n  # one in 10^5 for each of 16 numbers


# What the states are


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model_changes", [{}, MOVES], ids=["absolute", "relative_move"])
def test_the_loss_is_that_of_the_whole_sequence(digits, backend, model_changes):
    """Sequence by sequence, all n + T steps read at once from the start."""
    run = passing_run(model={"scan_backend": backend} | model_changes)
    task, model, batch = setting(digits, run)
    n, expected = batch.passed.cells.shape[1], 0.0
    with torch.no_grad():
        for b, T in enumerate(batch.lengths.tolist()):
            before = batch.passed.cells[b] if b < 4 else torch.empty(0, dtype=torch.int64)
            cells = torch.cat([before, batch.cells[b, :T]])[None]
            target = task.dataset.images[batch.rows[b]].float() / 255
            sequence = as_read(patchify(target[None], 2)[:, cells[0]], cells)
            drawn = model(sequence, torch.tensor([[cells.shape[1]]]))
            assert cells.shape[1] == (n + T if b < 4 else T)
            expected += float((drawn[0, 0] - target).square().mean()) / 8
        state = passed_state(model, task, batch)
        found = float(task.loss(model, batch, state))
        # float32 sums in another order and through another batch size: 1e-5 is a hundred roundings.
        assert found == pytest.approx(expected, rel=1e-5)
        assert found != pytest.approx(float(task.loss(model, batch)), rel=1e-3)


@torch.no_grad()
def test_the_state_of_another_image_is_that_after_reading_it(digits):
    task, model, batch = setting(digits, passing_run("other_image"))
    other = patchify(task.dataset.images[batch.passed.rows].float() / 255, 2)
    read = torch.stack([p[c] for p, c in zip(other, batch.passed.cells, strict=True)])
    _, end = model.encode(model.embed(read, batch.passed.cells))
    state = passed_state(model, task, batch)
    for mine, expected in zip(state.tensors(), end.tensors(), strict=True):
        assert torch.equal(mine[:4], expected)


@torch.no_grad()
def test_pieces_of_the_passed_part_do_not_show(digits, monkeypatch):
    task, model, batch = setting(digits, passing_run())
    whole = passed_state(model, task, batch)
    monkeypatch.setattr(passing_module, "PIECE", 3)
    for a, b in zip(whole.tensors(), passed_state(model, task, batch).tensors(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # float32 roundings of some twenty steps


@torch.no_grad()
@kinds
def test_sequences_without_a_passed_part_start_from_zero_at_their_own_first_cell(digits, kind):
    task, model, batch = setting(digits, passing_run(kind))
    state = passed_state(model, task, batch)
    values = state.tensors()
    assert state.t == 0
    assert len(values) == 4  # convolution and recurrence of two layers
    for v in values:
        assert len(v) == 8
        assert v[:4].flatten(1).abs().amax(1).gt(0).all()
        assert not v[4:].any()
    assert torch.equal(batch.before, torch.cat([batch.passed.cells[:, -1], batch.cells[4:, 0]]))


def test_noise_has_the_moments_of_the_states_entry_by_entry(digits):
    generator = torch.Generator().manual_seed(0)
    model = build_model(tiny_run(), (1, 8, 8))
    like = model.start(20_000)
    for v in like.tensors():  # entries with means and spreads of their own
        shape = v.shape[1:]
        v += 3 * torch.randn(shape, generator=generator)
        v += torch.rand(shape, generator=generator) * torch.randn(v.shape, generator=generator)
    noise, again, other = (noise_like(like, seed) for seed in (1, 1, 2))
    for v, n, a, o in zip(*(s.tensors() for s in (like, noise, again, other)), strict=True):
        assert torch.equal(n, a)
        assert not torch.equal(n, o)
        assert n.dtype == v.dtype
        std = v.std(0)
        assert ((n.mean(0) - v.mean(0)).abs() <= 5 * std / math.sqrt(20_000)).all()  # standard errors
        assert ((n.std(0) / std - 1).abs() <= 5 / math.sqrt(40_000)).all()
    h, n = like.layers[0].memory.flatten(1), noise.layers[0].memory.flatten(1)
    assert (torch.corrcoef(torch.cat([h[:, :1], n[:, :1]], 1).T)[0, 1]).abs() < 5 / math.sqrt(20_000)  # nothing is kept


@pytest.mark.parametrize("model_changes", [{}, MOVES], ids=["absolute", "relative_move"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_the_explicit_start_is_the_start(digits, model_changes, bf16):
    _, model, batch = setting(digits, passing_run(model=model_changes))
    read = torch.rand(8, batch.cells.shape[1], 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        _, end = model.encode(model.embed(read, batch.cells))
        start = model.start(8)
        found, expected = (model.encode(model.embed(read, batch.cells), state)[0] for state in (start, None))
    assert torch.equal(found, expected)
    for a, b in zip(start.tensors(), end.tensors(), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)


# What is learned from them


@kinds
def test_no_gradient_enters_the_passed_part(digits, kind):
    task, model, batch = setting(digits, passing_run(kind))
    state = passed_state(model, task, batch)
    assert not any(v.requires_grad for v in state.tensors())

    def gradients(given: StackState) -> list[torch.Tensor]:
        return torch.autograd.grad(task.loss(model, batch, given), list(model.parameters()))

    # Numbers from anywhere give the same gradients: the step knows nothing of where they came from.
    layers = tuple(c.with_tensors(tuple(torch.tensor(v.numpy()) for v in c.tensors)) for c in state.layers)
    for a, b in zip(gradients(state), gradients(replace(state, layers=layers)), strict=True):
        assert torch.equal(a, b)


def test_cells_read_in_the_passed_part_alone_get_no_gradient(digits):
    """A cell that only the passed part reads is embedded without gradient, though it changes the loss."""
    run = passing_run(task={"order": "raster", "lengths": {"kind": "fixed", "value": 2}}, max_factor=5, share=1.0)
    task, model, _ = setting(digits, run)
    batch = next(b for b in map(sampler(run).draw, range(50)) if b.passed.cells.shape[1] == 8)

    def loss():
        return task.loss(model, batch, passed_state(model, task, batch))

    before = loss()
    before.backward()
    reached = model.embed_cell.weight.grad.abs().sum(1) > 0
    assert reached.nonzero().flatten().tolist() == [8, 9]
    with torch.no_grad():
        model.embed_cell.weight[7] += 1.0
        assert abs(loss() - before) > 1e-4 * before


@kinds
def test_without_steps_a_training_is_that_without_state_passing(digits, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(batch_module, "passed_steps", lambda *args: 0)
    run = passing_run(kind)
    for name, each in (("passed", run), ("plain", without_passing(run))):
        train_at(tmp_path / name, each, digits)
    assert reproducible_rows(tmp_path / "passed") == reproducible_rows(tmp_path / "plain")
    a, b = (load_model(tmp_path / name / "train" / "model.safetensors")[0].state_dict() for name in ("passed", "plain"))
    assert all(torch.equal(v, b[name]) for name, v in a.items())


@kinds
def test_an_interrupted_training_ends_the_same_and_another_kind_differently(digits, tmp_path, kind):
    run = passing_run(kind)
    train_at(tmp_path / "whole", run, digits)
    with pytest.raises(Stopped):
        train_at(tmp_path / "cut", run, digits, FakeTracker(stop_at=12))
    assert (tmp_path / "cut" / "work" / "resume.safetensors").exists()
    train_at(tmp_path / "cut", run, digits)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert reproducible_rows(tmp_path / "cut") == reproducible_rows(tmp_path / "whole")
    assert load_model(tmp_path / "cut" / "train" / "model.safetensors")[1] == run
    other = passing_run(KINDS[KINDS.index(kind) - 1])
    train_at(tmp_path / "other", other, digits)
    assert reproducible_rows(tmp_path / "other") != reproducible_rows(tmp_path / "whole")


@kinds
def test_a_step_in_bf16_is_that_in_fp32_to_three_digits(digits, kind):
    run = passing_run(kind)
    losses = []
    for bf16 in (True, False):
        task, model, batch = setting(digits, run)
        step = TrainStep(model, build_optimizer(model, run.train), task, 1.0, bf16, graph=False)
        losses.append(step(batch)[0].item())
        assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # bfloat16 keeps three digits
