"""State passing of queried patches: the loss is that of whole sequences, and nothing else is drawn in another way."""

from dataclasses import replace

import pytest
import torch

from lgmamba.tasks.queried import batch as batch_module
from lgmamba.train.passing import passed_state
from tests.tasks.queried.tiny import EXACT, SHAPE, batch_of, exact_model, task_of, tiny_run

PASSED = 2
"""Of four sequences."""


def passing_run(kind: str, **changes):
    passing = {"kind": kind, "max_factor": 4, "share": PASSED / 4}
    return tiny_run(train={"state_passing": passing}, **changes)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"augment": {"rotation": 30}}], ids=["plain", "augmented"])
@pytest.mark.parametrize("kind", ["same_image", "other_image"])
def test_the_loss_is_that_of_sequences_read_from_their_first_step(kind, changes):
    run = passing_run(kind, task=changes)
    task, model = task_of(run), exact_model(run, SHAPE)
    batch = next(b for b in (batch_of(task, run, step) for step in range(20)) if b.passed.read.shape[1] > 4)
    n, losses = batch.passed.read.shape[1], []
    for b in range(4):
        one = slice(b, b + 1)
        alone = batch.with_tensors({name: v[one] for name, v in batch.tensors().items()})
        state = None
        if b < PASSED:
            maps = None if batch.passed.maps is None else batch.passed.maps[one]
            before = task.passed(
                replace(batch.passed, rows=batch.passed.rows[one], read=batch.passed.read[one], maps=maps)
            )
            _, state = model.encode(model.tokens(before, 0, n))
        losses.append(task.loss(model, alone, state))
    found = task.loss(model, batch, passed_state(model, task, batch))
    torch.testing.assert_close(found, torch.stack(losses).mean(), **EXACT)
    assert not torch.isclose(found, task.loss(model, batch))
    if kind == "same_image":
        assert torch.equal(batch.passed.rows, batch.rows[:PASSED])
    else:
        assert (batch.passed.rows != batch.rows[:PASSED]).all()


@pytest.mark.parametrize("kind", ["same_image", "other_image", "noise"])
def test_with_no_step_passed_a_batch_is_that_of_a_training_without(kind, monkeypatch):
    monkeypatch.setattr(batch_module, "passed_steps", lambda *args: 0)
    run, plain = passing_run(kind), tiny_run()
    task = task_of(run)
    for step in range(3):
        batch, expected = batch_of(task, run, step), batch_of(task, plain, step)
        assert expected.passed is None
        assert (batch.passed.noise_seed is not None) == (kind == "noise")
        found = batch.tensors()
        assert found.keys() == expected.tensors().keys()
        assert all(torch.equal(found[name], v) for name, v in expected.tensors().items())
