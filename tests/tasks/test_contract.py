"""Every task keeps the contract of `lgmamba.tasks.base`."""

from contextlib import nullcontext
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import RunConfig
from lgmamba.config.together import baselines_of
from lgmamba.model.runner import read_at_steps, read_pieces, run_sequence, target_lengths
from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.tasks import configs, registry
from lgmamba.tasks.batch import stack_batches
from lgmamba.tasks.registry import build_model
from lgmamba.train.checkpoint import load_model, save_model
from lgmamba.train.optimizer import build_optimizer
from lgmamba.train.step import TrainStep
from tests.recording import NothingCarried
from tests.tasks.contract import TASKS, Case, moved

STEPS = [1, 3, 6, 13]
FEW_ROUNDINGS = {"rtol": 1e-4, "atol": 1e-5}
"""float32 over a dozen steps, grouped differently."""


@pytest.fixture(scope="module", params=TASKS, ids=str)
def case(request, tmp_path_factory) -> Case:
    return Case.of(TASKS[request.param], tmp_path_factory.mktemp(request.param) / "data")


def held_out(case: Case, rows=slice(None, 5), repeat: int = 0, T: int = STEPS[-1]) -> Sequences:
    return case.task.held_out(case.dataset.split("test")[rows], case.task.config.order, repeat, T)


def predictions(model: SequenceModel, sequences: Sequences, steps: list[int], chunk: int = 64) -> Tensor:
    """Of one pass, told L0."""
    return read_at_steps(model, sequences, steps, target_lengths(model, len(sequences), model.L0), chunk)


def tensors(sequences: Sequences) -> dict[str, Tensor]:
    return {f.name: v for f in fields(sequences) if isinstance(v := getattr(sequences, f.name), Tensor)}


def assert_equal(a: Sequences, b: Sequences) -> None:
    assert tensors(a).keys() == tensors(b).keys()
    for name, v in tensors(a).items():
        assert torch.equal(v, tensors(b)[name]), name


def test_every_kind_has_a_class_and_a_row_here():
    assert set(configs.kinds()) == set(registry.TASKS) == {row.task.get("kind", "draw") for row in TASKS.values()}


def test_a_configuration_survives_its_file(case):
    run = case.row.run()
    assert RunConfig.model_validate_json(run.model_dump_json()) == run


def test_ends_that_a_task_does_not_use_are_refused_and_those_that_it_needs_required(case):
    run = case.row.run()
    values = run.model_dump(mode="json")
    for key, value in (("position", "absolute"), ("decoder", {"kind": "mlp", "hidden": 4})):
        other = None if key in run.task.ENDS else value
        with pytest.raises(ValueError, match=f"model.{key}: "):
            RunConfig.model_validate(values | {"model": values["model"] | {key: other}})


# Training batches


def test_in_training_controls_are_told_other_lengths(case):
    losses = {}
    for told, more in (("own", {}), ("shuffled", {}), ("constant", {"constant": 3})):
        form = {"kind": "length_token", "scale": 4, "told": told} | more
        try:
            run = case.row.run(model={"adaptive": form})
        except ValueError as e:
            assert "model.adaptive" in str(e)  # refused, with the key
            return
        if case.task.config.kind == "regression" and case.task.config.body == "s6":
            return
        model = moved(build_model(run, case.dataset.image_shape)).train()
        batch = case.task.sampler(case.dataset.split("train"), run.train, 0, False).draw(0)
        for name, others in (("drawn", batch.others), ("own", batch.lengths), ("3", torch.full_like(batch.others, 3))):
            losses[told, name] = case.task.loss(model, replace(batch, others=others)).item()
    assert (batch.others != batch.lengths).any()
    assert losses["own", "drawn"] == losses["own", "own"] == losses["shuffled", "own"] != losses["shuffled", "drawn"]
    assert losses["constant", "drawn"] == losses["constant", "own"] == losses["shuffled", "3"]


def test_what_controls_are_told_changes_nothing_else_of_a_batch(case, monkeypatch):
    sampler = case.task.sampler(case.dataset.split("train"), case.row.run().train, 0, True)
    batch = sampler.draw(1).tensors()
    monkeypatch.setattr(
        type(sampler), "draw_others", lambda self, step: torch.zeros(self.train.batch_size, dtype=torch.int64)
    )
    same = sampler.draw(1).tensors()
    assert not same.pop("others").any() and batch.pop("others").all()
    assert batch.keys() == same.keys() and all(torch.equal(v, same[name]) for name, v in batch.items())


def test_a_step_of_training_can_be_recorded(case):
    train = case.row.run().train
    batch = case.task.sampler(case.dataset.split("train"), train, 0, True).draw(0)
    for mode in (nullcontext(), NothingCarried()):  # the first call is the warm-up
        with mode:
            case.task.loss(case.model, batch, None).backward()
    case.model.zero_grad()


def test_a_batch_is_a_pure_function_of_seed_and_step(case):
    def sampler(seed=0):
        return case.task.sampler(case.dataset.split("train"), case.row.run().train, seed, True)

    used = sampler()
    for step in (3, 1):
        used.draw(step)
    batches = [used.draw(7), sampler().draw(7), used.draw(8), sampler(1).draw(7)]
    same = [all(torch.equal(v, other.tensors()[name]) for name, v in batches[0].tensors().items()) for other in batches]
    assert same == [True, True, False, False]


def test_batches_of_full_length_keep_their_shapes(case):
    sampler = case.task.sampler(case.dataset.split("train"), case.row.run().train, 0, True)
    shapes = [{name: v.shape for name, v in sampler.draw(step).tensors().items()} for step in range(10)]
    assert all(other == shapes[0] for other in shapes)
    if not case.row.own_loss:
        assert case.task.sequences(sampler.draw(0)).T == case.task.L0


@torch.no_grad()
@pytest.mark.parametrize("supervision", [{"kind": "last"}, {"kind": "random_k", "k": 3}], ids=lambda s: s["kind"])
def test_the_loss_is_that_of_reading_each_sequence_alone(case, supervision):
    if case.row.own_loss:
        pytest.skip("this task is trained on more than it is read for")
    run = case.row.run(task={"supervision": supervision})
    task = registry.build_task(run, case.dataset)
    batch = task.sampler(case.dataset.split("train"), run.train, 0, True).draw(1)
    assert len(set(batch.lengths.tolist())) > 1
    sequences, expected = task.sequences(batch), 0.0
    for b in range(len(batch.lengths)):
        alone = sequences[b : b + 1]
        for s, t in enumerate(batch.steps[b].tolist()):
            prediction = predictions(case.model, alone.upto(t), [t])
            error = task.losses(prediction, alone, torch.tensor([t]))
            expected += float(batch.weights[b, s] * error) / len(batch.lengths)
    assert float(task.loss(case.model, batch)) == pytest.approx(expected, rel=1e-4)


def test_the_loss_can_be_mapped_over_stacked_models_and_batches(case):
    """torch.func.vmap of `functional_call`: R trainings as one. The scan in plain torch, whose every operation can be mapped."""
    run = case.row.run(model={"scan_backend": "reference"})
    models = [moved(build_model(run, case.dataset.image_shape), seed) for seed in (1, 2)]
    samplers = [case.task.sampler(case.dataset.split("train"), run.train, seed, True) for seed in (0, 1)]
    batches = [sampler.draw(0) for sampler in samplers]
    together = stack_batches(batches)
    weights, buffers = torch.func.stack_module_state(models)

    class Loss(torch.nn.Module):
        def __init__(self, model: SequenceModel):
            super().__init__()
            self.model = model

        def forward(self, values: dict[str, Tensor]) -> Tensor:
            return case.task.loss(self.model, batches[0].with_tensors(values))

    def one(parameters, values):
        named = {f"model.{name}": v for name, v in parameters.items()}
        return torch.func.functional_call(Loss(models[0]), named, (values,))

    assert not buffers
    found = torch.func.vmap(one)(weights, together.tensors())
    for value, model, batch in zip(found, models, batches, strict=True):
        torch.testing.assert_close(value, case.task.loss(model, batch), **FEW_ROUNDINGS)


def test_training_lowers_the_loss(case):
    run = case.row.run(train={"lr": 0.01})
    model = build_model(run, case.dataset.image_shape)
    step = TrainStep(model, build_optimizer(model, run.train), case.task, 1.0, bf16=False, graph=False)
    batch = case.task.sampler(case.dataset.split("train"), run.train, 0, False).draw(0)
    losses = [float(step(batch)[0]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


# Held-out sequences


def test_a_held_out_sequence_is_the_same_whatever_others_are_read_and_longer_ones_only_append(case):
    whole = held_out(case)
    assert len(whole) == 5
    assert whole.T == STEPS[-1]
    assert_equal(whole[2:4], held_out(case, slice(2, 4)))
    if case.task.appends:
        assert_equal(whole.upto(3), held_out(case, T=3))


def test_repeats_are_other_sequences_of_the_same_samples(case):
    first, second = held_out(case), held_out(case, repeat=1)
    assert any(not torch.equal(v, tensors(second)[name]) for name, v in tensors(first).items())
    assert_equal(second, held_out(case, repeat=1))


def test_an_order_that_the_task_does_not_have_is_not_in_its_list(case):
    assert case.task.config.order in case.task.config.ORDERS


# Models


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_a_pass_in_pieces_gives_what_the_whole_gives_and_what_each_prefix_gives(case, chunk):
    sequences = held_out(case)
    found = run_sequence(case.model, sequences, STEPS, "stream", chunk)
    assert found.shape[:2] == (5, len(STEPS))
    torch.testing.assert_close(found, predictions(case.model, sequences, STEPS, chunk=13), **FEW_ROUNDINGS)
    for i, t in enumerate(STEPS):
        alone = predictions(case.model, sequences.upto(t), [t])
        torch.testing.assert_close(found[:, i : i + 1], alone, **FEW_ROUNDINGS)


@torch.no_grad()
def test_forward_gives_what_reading_gives(case):
    sequences = held_out(case)
    steps = torch.tensor(STEPS).expand(5, -1)
    torch.testing.assert_close(
        case.model(sequences, steps, target_lengths(case.model, 5, case.model.L0)),
        predictions(case.model, sequences, STEPS),
        **FEW_ROUNDINGS,
    )


@torch.no_grad()
def test_asking_leaves_the_state_as_it_is(case):
    if not case.model.asks:
        pytest.skip("this model is not asked")
    sequences = held_out(case)
    length = target_lengths(case.model, 5, case.model.L0)
    (piece,) = read_pieces(case.model, sequences, [6], length)
    before = [v.clone() for v in piece.state.tensors()]
    answers = [case.model.ask(piece.state, sequences, 6, length) for _ in range(2)]
    assert torch.equal(*answers)
    assert all(torch.equal(v, old) for v, old in zip(piece.state.tensors(), before, strict=True))


@torch.no_grad()
def test_a_start_is_a_state(case):
    sequences = held_out(case)
    if case.model.length_token is not None:
        pytest.skip("its start is the state after its length token")
    (fresh,) = read_pieces(case.model, sequences, [6])
    (started,) = read_pieces(case.model, sequences, [6], state=case.model.start(5))
    torch.testing.assert_close(started.outputs, fresh.outputs, **FEW_ROUNDINGS)
    assert [(v.shape, v.dtype) for v in case.model.start(5).tensors()] == [
        (v.shape, v.dtype) for v in fresh.state.tensors()
    ]


@torch.no_grad()
def test_a_checkpoint_holds_all_that_the_model_needs(case, tmp_path):
    save_model(case.model, case.row.run(), tmp_path / "model.safetensors")
    model, run = load_model(tmp_path / "model.safetensors")
    assert run == case.row.run()
    sequences = held_out(case)
    found, want = (predictions(m, sequences, STEPS) for m in (model, case.model))
    assert torch.equal(found, want)


def test_equal_seeds_make_equal_models(case):
    def weights(seed):
        return build_model(case.row.run(seed=seed), case.dataset.image_shape).state_dict()

    a, b, c = weights(0), weights(0), weights(1)
    assert all(torch.equal(v, b[name]) for name, v in a.items())
    assert not all(torch.equal(v, c[name]) for name, v in a.items())


# How predictions are judged


@torch.no_grad()
def test_every_metric_has_an_error_for_every_prediction(case):
    sequences, steps = held_out(case), torch.tensor(STEPS)
    prediction = predictions(case.model, sequences, STEPS)
    errors = case.task.errors(prediction, sequences, steps)
    assert list(errors) == [metric.name for metric in case.task.metrics]
    assert all(v.shape == (5, len(STEPS)) and v.isfinite().all() and (v >= 0).all() for v in errors.values())
    losses = case.task.losses(prediction, sequences, steps)
    assert losses.shape == (5, len(STEPS))
    torch.testing.assert_close(case.task.mean_loss(prediction, sequences, steps), losses.mean())
    primary = errors[case.task.metrics[0].name]
    torch.testing.assert_close(case.task.mean_error(prediction, sequences, steps), primary.mean())
    scores = case.task.scores(prediction, sequences, steps)
    torch.testing.assert_close(scores.values[case.task.metrics[0].name], primary)


@torch.no_grad()
def test_parts_have_ages_and_their_mean_is_the_error(case):
    sequences, steps = held_out(case), torch.tensor(STEPS)
    prediction = predictions(case.model, sequences, STEPS)
    parts, ages = case.task.parts(prediction, sequences), case.task.ages(sequences, steps)
    assert (parts is None) == (ages is None) == (not case.task.config.TIED)
    if parts is None:
        return
    assert parts.shape == ages.shape
    assert parts.shape[:2] == (5, len(STEPS))
    if not sequences.TIED:
        return
    assert parts.shape[2] == sequences.n_cells
    torch.testing.assert_close(case.model.join(case.model.split(prediction[:, 0])), prediction[:, 0])
    for b in range(5):
        for s, t in enumerate(STEPS):
            for cell in range(sequences.n_cells):
                visits = (sequences.cells[b, :t] == cell).nonzero().flatten()
                assert int(ages[b, s, cell]) == (t - 1 - int(visits[-1]) if len(visits) else -1)


def test_baselines_are_judged_alike(case):
    last = max(STEPS[-1], case.task.L0)  # where something can be known
    sequences, steps = held_out(case, T=last), torch.tensor([*STEPS[:-1], last])
    known = case.task.baselines(sequences, steps, case.task.ages(sequences, steps))
    named = baselines_of(case.task.config)  # those that a claim may name
    assert {case.task.config.NULL, case.task.config.ORACLE} - {None} <= set(named) <= known.keys()
    for scores in known.values():
        assert list(scores.values)[: len(case.task.metrics)] == [metric.name for metric in case.task.metrics]
        assert all(v.shape == (5, len(STEPS)) and v.isfinite().all() for v in scores.values.values())
    if case.task.config.ORACLE is not None:
        primary = case.task.metrics[0].name
        oracle, null = (known[name].values[primary].mean() for name in (case.task.config.ORACLE, case.task.config.NULL))
        assert oracle < null


def test_a_level_is_higher_where_the_error_is_lower(case):
    for metric in case.task.metrics:
        levels = [float(metric.of_mean(torch.tensor(error))) for error in (0.01, 0.1, 1.0)]
        assert levels == sorted(levels, reverse=True)
        assert metric.title


def test_a_data_set_without_what_the_task_needs_is_refused(case):
    if not case.task.config.IMAGES:
        pytest.skip("this task needs no images")
    with pytest.raises(ConfigError, match="run 'tiny'"):
        build_model(case.row.run(task={"patch_size": 9}), case.dataset.image_shape)
