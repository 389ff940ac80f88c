"""Remedies and controls act on what is read; queries are asked as trained."""

import pytest
import torch

from lgmamba.model.runner import run_sequence
from lgmamba.remedies.assemble.remedy import assemble
from lgmamba.remedies.read import read_with
from lgmamba.remedies.registry import control_remedies
from tests.tasks.queried.tiny import ENCODER_DECODER, EXACT, TOKEN, exact_model, task_of, tiny_run

STEPS = [3, 6, 14]


def read(form):
    run = tiny_run(**form)
    task, model = task_of(run), exact_model(run)
    return task, model, task.held_out(torch.tensor([4, 1]), "uniform", 0, 14)


@torch.no_grad()
@pytest.mark.parametrize("form", [{}, TOKEN, ENCODER_DECODER], ids=["plain", "length token", "encoder–decoder"])
def test_controls_that_make_sense_leave_sequences_up_to_L0_as_they_are(form):
    task, model, sequences = read(form)
    controls = {control.name: control for control in control_remedies(model, task.config)}
    assert list(controls) == ["truncate", "reset", "subset_random", "freeze"]  # no cell to be covered
    keys = torch.rand(2, 14, generator=torch.Generator().manual_seed(0))
    vanilla = {mode: run_sequence(model, sequences, STEPS, mode) for mode in ("prefix", "stream")}
    for control in controls.values():
        found = read_with(model, control, sequences, keys, STEPS, 64)
        short = slice(1, 2) if form is TOKEN and control.mode == "stream" else slice(0, 2)  # told what is read, or L0
        torch.testing.assert_close(found[:, short], vanilla[control.mode][:, short], **EXACT)
        assert (found[:, 2] - vanilla[control.mode][:, 2]).abs().max() > 1e-6
    last = run_sequence(model, sequences.take(torch.arange(8, 14).expand(2, -1)), [6], "prefix")
    truncated = read_with(model, controls["truncate"], sequences, keys, STEPS, 64)
    torch.testing.assert_close(truncated[:, 2:], last, **EXACT)


@torch.no_grad()
def test_freezing_holds_the_state_and_not_the_queries():
    task, model, sequences = read({})
    (freeze,) = (control for control in control_remedies(model, task.config) if control.name == "freeze")
    found = read_with(model, freeze, sequences, torch.rand(2, 14), STEPS, 4)
    torch.testing.assert_close(found[:, 2], found[:, 1], **EXACT)


@torch.no_grad()
def test_slower_steps_of_what_is_read_are_no_slower_queries():
    _, model, sequences = read({})
    state = model.encode(model.tokens(sequences, 0, 6), None, None, lambda call: call.slow(torch.tensor(0.5)))[1]
    found = run_sequence(model, sequences, [6], "prefix", make_hook=lambda T: lambda call: call.slow(torch.tensor(0.5)))
    torch.testing.assert_close(found[:, 0], model.ask(state, sequences, 6), **EXACT)


@torch.no_grad()
def test_windows_are_joined_by_the_mean_of_their_pictures():
    _, model, sequences = read({})
    found = assemble(model, sequences, [14], "prefix")
    windows = [torch.arange(start, start + 6).expand(2, -1) for start in (0, 2, 8)]
    pictures = [run_sequence(model, sequences.take(window), [6], "prefix") for window in windows]
    torch.testing.assert_close(found, torch.stack(pictures).mean(0), **EXACT)
