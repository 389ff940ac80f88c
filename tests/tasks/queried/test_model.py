"""A trained model is asked from a copy of the state; in training it sees what it is read with afterwards."""

from dataclasses import replace

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.model.runner import run_sequence
from lgmamba.tasks.queried.layout import QUERY, slot_kinds, slot_places
from lgmamba.tasks.registry import build_model
from tests.tasks.queried.tiny import ENCODER_DECODER, EXACT, SHAPE, TOKEN, batch_of, exact_model, task_of, tiny_run

FORMS = {
    "plain": {},
    "length token": TOKEN,
    "sine position": {"task": {"position": {"kind": "sine"}}},
    "convolution": {"model": {"mixer": {"conv": "standard"}}},
    "per sample": {"task": {"per": "sample"}},
    "attention": {"model": {"mixer": {"kind": "attention", "heads": 2, "mlp": 4, "position": "alibi"}}},
    "encoder–decoder": ENCODER_DECODER,
    "encoder–decoder with a length token": {"model": ENCODER_DECODER["model"] | TOKEN["model"]},
}


def asked_one_by_one(model, task, batch, b):
    """Patches at the queries of sequence b, read alone: [length token] patches, delimiter, queries; and the true ones."""
    T = int(batch.lengths[b])
    sequences = task.sequences(batch)[b : b + 1]
    state = model.encode(model.tokens(sequences, 0, T), None, batch.lengths[b : b + 1])[1]
    places = batch.asked[b : b + 1]
    return model.ask_at(state, places), model.cut(sequences.images, places)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("full_length", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_sequences_read_alone(form, full_length):
    run = tiny_run(**FORMS[form])
    task, model = task_of(run), exact_model(run)
    batch = batch_of(task, run, full_length=full_length)
    losses = []
    for b in range(4):
        found, true = asked_one_by_one(model, task, batch, b)
        losses.append(4 * (found - true).square().mean())
    torch.testing.assert_close(task.loss(model, batch), torch.stack(losses).mean(), **EXACT)


def test_full_length_batches_hold_the_same_sequences_in_shapes_that_never_change():
    run = tiny_run(task={"per": "sample", "augment": {"rotation": 90, "scale": [0.5, 1.5]}})
    task, model = task_of(run), exact_model(run)
    shapes = set()
    for step in range(5):
        short, full = (batch_of(task, run, step, full_length) for full_length in (False, True))
        torch.testing.assert_close(task.loss(model, short), task.loss(model, full), **EXACT)
        shapes.add(tuple((name, v.shape) for name, v in full.tensors().items()))
        assert full.read.shape == (4, 6) and full.asked.shape == (4, 5)
    assert len(shapes) == 1


@pytest.mark.parametrize("form", FORMS)
def test_asking_does_not_disturb_the_sequence_and_pieces_are_as_good_as_the_whole(form):
    run = tiny_run(**FORMS[form])
    task, model = task_of(run), exact_model(run)
    sequences = task.held_out(torch.tensor([4, 1]), "uniform", 0, 11)
    steps = [1, 4, 5, 11]
    found = run_sequence(model, sequences, steps, "stream", chunk=3)
    told = torch.full((2,), 6)
    for s, T in enumerate(steps):
        state = model.encode(model.tokens(sequences, 0, T), None, told)[1]
        torch.testing.assert_close(found[:, s], model.ask(state, sequences, T, told), **EXACT)
    kept = [v.clone() for v in state.tensors()]
    model.ask(state, sequences, 11, told)
    assert all(torch.equal(a, b) for a, b in zip(kept, state.tensors(), strict=True))


def test_a_model_with_a_length_token_is_told_each_length_and_a_plain_one_reads_once():
    plain, told = tiny_run(), tiny_run(**TOKEN)
    task = task_of(plain)
    sequences = task.held_out(torch.tensor([4, 1]), "uniform", 0, 9)
    for run, same in ((plain, True), (told, False)):
        model = exact_model(run)
        stream, prefix = (run_sequence(model, sequences, [2, 6, 9], mode) for mode in ("stream", "prefix"))
        assert torch.allclose(stream[:, ::2], prefix[:, ::2]) is same
        torch.testing.assert_close(stream[:, 1], prefix[:, 1], **EXACT)  # at L0 it is told L0 in both


def test_no_hook_sees_the_length_token():
    run = tiny_run(**TOKEN)
    task, model = task_of(run), exact_model(run)
    sequences = task.held_out(torch.tensor([4]), "uniform", 0, 5)
    seen = []

    def hook(call):
        seen.append((call.t0, call.x.shape[1]))
        return call

    tokens, told = model.tokens(sequences, 0, 5), torch.tensor([5])
    hooked, end = model.encode(tokens, None, told, hook)
    plain, same = model.encode(tokens, None, told)
    torch.testing.assert_close(hooked, plain, **EXACT)
    assert seen == [(0, 5)] * 2 and end.t == same.t == 5


@pytest.mark.parametrize("beyond, value", [("extrapolate", 9), ("clamp", 6)])
def test_the_length_token_is_a_linear_function_of_the_length(beyond, value):
    run = tiny_run(model={"adaptive": {"kind": "length_token", "scale": 4, "beyond": beyond}})
    token = exact_model(run).length_token
    expected = token.embed(torch.tensor([[value / 4]], dtype=torch.float64))
    torch.testing.assert_close(token(torch.tensor([9]))[0], expected, **EXACT)


def test_a_length_token_without_a_length_is_an_error():
    run = tiny_run(**TOKEN)
    model, sequences = exact_model(run), task_of(run).held_out(torch.tensor([4]), "uniform", 0, 5)
    with pytest.raises(ValueError, match="this model is length-adaptive: pass target_length"):
        model.encode(model.tokens(sequences, 0, 5))


def test_controls_of_the_length_token():
    told = {"shuffled": {"told": "shuffled"}, "constant": {"told": "constant", "constant": 3}, "own": {}}
    losses = {}
    for name, form in told.items():
        run = tiny_run(model={"adaptive": {"kind": "length_token", "scale": 4} | form})
        task, model = task_of(run), exact_model(run).train()
        assert model.uses_target_length is (name == "own")
        batch = batch_of(task, run)
        losses[name] = task.loss(model, batch)
        if name == "shuffled":
            assert (batch.others != batch.lengths).any()
            torch.testing.assert_close(losses[name], own_loss(task, batch, batch.others), **EXACT)
            read = run_sequence(model.eval(), task.held_out(torch.tensor([1]), "uniform", 0, 2), [1, 2], "prefix")
            own = exact_model(tiny_run(**TOKEN))
            as_L0 = run_sequence(own, task.held_out(torch.tensor([1]), "uniform", 0, 2), [1, 2], "stream")
            torch.testing.assert_close(read, as_L0, **EXACT)
        if name == "constant":
            torch.testing.assert_close(losses[name], own_loss(task, batch, torch.full((4,), 3)), **EXACT)


def own_loss(task, batch, lengths):
    """Of the same weights, told `lengths` of its own."""
    model = exact_model(tiny_run(**TOKEN))
    kinds = slot_kinds(batch.lengths, batch.read.shape[1], 5)
    places = slot_places(batch.read, batch.asked, batch.lengths)
    true = model.cut(task.sequences(batch).images, places)
    outputs, _ = model.encode(model.slot_tokens(true, places, kinds), None, lengths)
    return 4 * (model.decode(model.latents(outputs)) - true).square().mean(2)[kinds == QUERY].mean()


@pytest.mark.parametrize("form", ["plain", "encoder–decoder"])
def test_independent_queries_are_each_asked_from_the_same_state(form):
    run = tiny_run(**FORMS[form])
    task, model = task_of(run), exact_model(run)
    sequences = task.held_out(torch.tensor([4, 1]), "uniform", 0, 5)
    state = model.encode(model.tokens(sequences, 0, 5))[1]
    places = torch.tensor([[0, 7, 7, 20, 3, 9], [5, 5, 6, 1, 0, 2]])
    alone = model.ask_at(state, places, "independent")
    for q in range(6):
        torch.testing.assert_close(alone[:, q], model.ask_at(state, places[:, q : q + 1])[:, 0], **EXACT)
    row = model.ask_at(state, places)
    first = slice(5, None) if form != "plain" else slice(None, None, 5)  # whose queries see each other, or earlier ones
    torch.testing.assert_close(
        row[:, first], alone[:, first], **EXACT
    )  # five together, as in training; the sixth alone
    assert not torch.allclose(row[:, 1:5], alone[:, 1:5])


def test_independent_queries_of_large_states_are_asked_few_at_a_time(monkeypatch):
    run = tiny_run(**FORMS["attention"])
    task, model = task_of(run), exact_model(run)
    sequences = task.held_out(torch.tensor([4, 1]), "uniform", 0, 5)
    state = model.encode(model.tokens(sequences, 0, 5))[1]
    places = torch.tensor([[0, 7, 7, 20], [5, 5, 6, 1]])
    want = model.ask_at(state, places, "independent")
    rows, encode = [], model.encode
    monkeypatch.setattr(
        model, "encode", lambda tokens, *more, **how: rows.append(len(tokens)) or encode(tokens, *more, **how)
    )
    size = sum(v.nbytes for v in encode(model.delimiter.expand(2, 1, -1), state)[1].tensors())
    monkeypatch.setattr("lgmamba.tasks.queried.model.COPIES", 2 * size)
    torch.testing.assert_close(model.ask_at(state, places, "independent"), want, **EXACT)
    assert rows == [2, 4, 4]  # the delimiter, then two queries of both sequences at a time


def test_the_picture_asked_for_covers_the_image_also_with_overlaps():
    for stride in (None, 1):
        run = tiny_run(task={"ask": {"stride": stride}})
        task, model = task_of(run), exact_model(run)
        sequences = task.held_out(torch.tensor([4, 1]), "uniform", 0, 5)
        state = model.encode(model.tokens(sequences, 0, 5))[1]
        picture = model.ask(state, sequences, 5)
        assert picture.shape == (2, *SHAPE) and picture.min() > 0 and picture.max() < 1


def test_queries_outside_the_image_are_refused():
    run = tiny_run()
    model, sequences = exact_model(run), task_of(run).held_out(torch.tensor([4]), "uniform", 0, 5)
    state = model.encode(model.tokens(sequences, 0, 5))[1]
    with pytest.raises(ConfigError, match="queries: found place 35, expected 0 to 34"):
        model.ask_at(state, torch.tensor([[0, 35]]))


@pytest.mark.parametrize("d, kind, expected", [(2, "append", "at least 3"), (6, "sine", "a multiple of 4")])
def test_a_width_without_room_for_the_position_is_refused_before_anything_runs(d, kind, expected):
    with pytest.raises(ValueError, match=rf"model\.d_model: found {d}, expected: {expected}"):
        tiny_run(model={"d_model": d}, task={"position": {"kind": kind}})


def test_a_model_can_be_built_of_sizes_alone():
    with torch.device("meta"):
        model = build_model(tiny_run(), SHAPE)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_runs_can_be_stacked():
    runs = [tiny_run(seed=seed, **TOKEN) for seed in (0, 1)]
    task = task_of(runs[0])
    models = [build_model(run, SHAPE).double() for run in runs]
    batches = [batch_of(task, run, full_length=True) for run in runs]
    params, _buffers = torch.func.stack_module_state(models)
    tensors = {name: torch.stack([batch.tensors()[name] for batch in batches]) for name in batches[0].tensors()}

    class Losses(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = models[0]

        def forward(self, tensors):
            return task.loss(self.model, replace(batches[0], **tensors))

    def loss(params, tensors):
        named = {f"model.{name}": v for name, v in params.items()}
        return torch.func.functional_call(Losses(), named, (tensors,))

    together = torch.func.vmap(loss)(params, tensors)
    alone = torch.stack([task.loss(model, batch) for model, batch in zip(models, batches, strict=True)])
    torch.testing.assert_close(together, alone, **EXACT)
