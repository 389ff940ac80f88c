"""A class head beside the decoder: what it changes, what it leaves, and what each half of the model is trained on."""

from contextlib import nullcontext

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import load_dataset
from lgmamba.model.runner import run_sequence
from lgmamba.tasks.class_head import gradient_times, joined, parted
from lgmamba.tasks.draw import task as draw
from lgmamba.tasks.queried import task as queried
from lgmamba.tasks.registry import build_model, build_task
from tests.recording import NothingCarried
from tests.train.tiny import FakeTracker, Stopped, history, tiny_run, train_at, weights

HEAD = {"latent": 5, "class_head": {"classes": 10, "hidden": [7]}}
QUERIED = {
    "task": {
        "kind": "queried",
        "patch_size": 2,
        "order": "uniform",
        "lengths": {"kind": "uniform", "low": 1, "high": 6},
        "per": "batch",
        "queries": 4,
        "position": {"kind": "append", "scale": 4},
        "loss_range": "signed",
        "weight": None,
        "augment": None,
        "ask": {"stride": None, "queries": "sequential"},
    },
    "model": {"position": None, "decoder": None},
}


def run_of(kind: str, w: float | None, model=HEAD, **train):
    changes = QUERIED if kind == "queried" else {"task": {}, "model": {}}
    return tiny_run(
        task=changes["task"], model=changes["model"] | model, train={"class_weight": w, "batch_size": 64} | train
    )


def ready(digits, kind: str, w: float, model=HEAD):
    """Task, model and batches before the first step, in float64."""
    run, dataset = run_of(kind, w, model), load_dataset(digits)
    task, net = build_task(run, dataset), build_model(run, dataset.image_shape).double()
    sampler = task.sampler(dataset.split("train"), run.train, run.seed, True)
    task.before_training(net, sampler)
    return task, net, sampler


def gradients(task, net, batch) -> dict[str, torch.Tensor]:
    net.zero_grad()
    task.loss(net, batch).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def part_of(name: str) -> str:
    return {"decoder": "decoder", "class_head": "class_head"}.get(name.partition(".")[0], "shared")


@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_each_head_has_the_gradient_of_its_own_loss_and_the_rest_the_weighted_sum(digits, kind):
    found = {}
    for w in (0.0, 1.0, 0.25):
        task, net, sampler = ready(digits, kind, w)
        found[w] = gradients(task, net, sampler.draw(3))
    assert {part_of(name) for name in found[0.25]} == {"decoder", "class_head", "shared"}
    for name, mixed in found[0.25].items():
        ends = found[0.0][name], found[1.0][name]
        expected = 0.75 * ends[0] + 0.25 * ends[1] if part_of(name) == "shared" else ends[0]
        torch.testing.assert_close(mixed, expected, rtol=1e-9, atol=1e-12)
        assert part_of(name) == "shared" or torch.equal(*ends)


@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_the_ends_of_w_are_each_loss_alone_over_its_value_before_the_first_step(digits, kind):
    task, net, sampler = ready(digits, kind, 1.0)
    batch = sampler.draw(3)
    mse, ce = task.head_losses(net, batch)
    initial = net.class_head.initial_losses
    torch.testing.assert_close(task.loss(net, batch), mse / initial[0] + ce / initial[1])
    assert initial[1] == pytest.approx(2.3, abs=0.4)  # ln 10, of a head that knows nothing yet
    by_w = gradients(task, net, batch)
    net.zero_grad()
    (ce / initial[1]).backward(retain_graph=True)  # alone
    assert all(torch.equal(by_w[n], p.grad) for n, p in net.named_parameters() if part_of(n) == "shared" and n in by_w)


@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_a_step_with_a_class_head_can_be_recorded(digits, kind):
    task, net, sampler = ready(digits, kind, 0.25)
    batch = sampler.draw(0)
    for mode in (nullcontext(), NothingCarried()):  # the first call is the warm-up
        with mode:
            gradients(task, net, batch)


def test_a_factor_on_the_gradient_leaves_the_value():
    z = torch.tensor([[1.7, -2.0], [3.0, 0.1]], requires_grad=True)
    again = gradient_times(z, torch.tensor([0.25, 0.0]))
    assert torch.equal(again, z)
    again.sum().backward()
    assert z.grad.tolist() == [[0.25, 0.25], [0.0, 0.0]]


@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_pictures_do_not_hang_on_whether_their_class_is_named_too(digits, kind):
    """The same weights with and without the head draw the same; and scores are those of the head."""
    task, net, _ = ready(digits, kind, 0.5, {"class_head": {"classes": 10}})
    plain = build_model(run_of(kind, None, {}), task.dataset.image_shape).double()
    plain.load_state_dict({n: v for n, v in net.state_dict().items() if not n.startswith("class_head")})
    sequences = task.held_out(torch.arange(5), task.config.ORDERS[0], 0, 6)
    both, alone = (run_sequence(m.eval(), sequences, [2, 6], "prefix") for m in (net, plain))
    pictures, scores = parted(both, (1, 8, 8))
    assert scores.shape == (5, 2, 10) and torch.equal(pictures, alone) and parted(alone, (1, 8, 8))[1] is None
    steps = torch.tensor([2, 6])
    errors = task.errors(both, sequences, steps)
    assert torch.equal(errors["mse"], task.errors(alone, sequences, steps)["mse"])
    labels = task.dataset.labels[:5]
    assert torch.equal(errors["error_rate"], (scores.argmax(-1) != labels[:, None]).double())
    nll = torch.nn.functional.cross_entropy(scores.transpose(1, 2), labels[:, None].expand(-1, 2), reduction="none")
    torch.testing.assert_close(errors["cross_entropy"], nll)


def test_a_training_that_was_killed_ends_with_the_same_bits(digits, tmp_path):
    run = run_of("draw", 0.5)
    train_at(tmp_path / "once", run, digits)
    with pytest.raises(Stopped):
        train_at(tmp_path / "twice", run, digits, FakeTracker(stop_at=8))
    train_at(tmp_path / "twice", run, digits)
    assert weights(tmp_path / "twice") == weights(tmp_path / "once")
    named = {row["metric"] for row in history(tmp_path / "once").to_dicts()}
    assert {"val_psnr", "val_accuracy"} <= named


def test_what_is_cut_in_cells_comes_back_and_scores_become_a_mean(digits):
    _, net, _ = ready(digits, "draw", 0.5)
    pictures, scores = torch.rand(3, 1, 8, 8).double(), torch.rand(3, 10).double()
    parts = net.split(joined(pictures, scores))
    assert parts.shape == (3, 16, 4 + 10)
    again, mean = parted(net.join(parts), (1, 8, 8))
    assert torch.equal(again, pictures)
    torch.testing.assert_close(mean, scores)


def test_a_run_without_head_and_latent_keeps_its_file_and_its_batches(digits):
    run = tiny_run()
    text = run.model_dump_json()
    assert not any(word in text for word in ("latent", "class_head", "class_weight"))
    task = build_task(run, load_dataset(digits))
    batch = task.sampler(torch.arange(20), run.train, 0, True).draw(0)
    assert set(batch.tensors()) == {"lengths", "others", "steps", "weights", "rows", "cells"}
    names = build_model(run, (1, 8, 8)).state_dict()
    assert not any(name.startswith(("latent", "class_head")) for name in names)


@pytest.mark.parametrize("kind", ["draw", "queried"])
def test_without_a_head_the_picture_alone_is_trained_on_to_the_bit(digits, tmp_path, monkeypatch, kind):
    """As if there were no head in the program: by the squared error of what the decoder makes of the outputs themselves."""
    run = run_of(kind, None, {}, steps=6, warmup_steps=2, validate_every=6)
    train_at(tmp_path / "now", run, digits)
    module, task_class = {"draw": (draw, draw.DrawTask), "queried": (queried, queried.QueriedTask)}[kind]

    def alone(self, model, batch, state=None):
        if kind == "draw":
            sequences = self.sequences(batch)
            drawn = model.decode(model.outputs_at(sequences, batch.steps, batch.lengths, state))
            errors = (drawn - sequences.targets[:, None]).square().flatten(2).mean(2)
            return (errors * batch.weights).sum(1).mean()
        kinds = module.slot_kinds(batch.lengths, batch.read.shape[1], self.config.queries)
        places = module.slot_places(batch.read, batch.asked, batch.lengths)
        patches = model.cut(self.sequences(batch).images, places)
        outputs, _ = model.encode(model.slot_tokens(patches, places, kinds), state, batch.lengths, want_state=False)
        errors = (model.decode(outputs) - patches).square().mean(2) * (kinds == module.QUERY)
        return (errors.sum(1) * (4.0 / self.config.queries) * batch.weights[:, 0]).mean()

    monkeypatch.setattr(task_class, "loss", alone)
    monkeypatch.setattr(task_class, "before_training", lambda *_: None)
    train_at(tmp_path / "alone", run, digits)
    assert weights(tmp_path / "now") == weights(tmp_path / "alone")


@pytest.mark.parametrize(
    "model, w, told",
    [
        (HEAD, 1.5, "train.class_weight: found 1.5, expected: less than or equal to 1"),
        (HEAD, -0.1, "train.class_weight: found -0.1, expected: greater than or equal to 0"),
        (HEAD, None, "train.class_weight: found null, expected: 0 to 1 with model.class_head"),
        ({}, 0.5, "train.class_weight: found 0.5, expected: null without model.class_head"),
        ({"class_head": {"classes": 1}}, 0.5, "model.class_head.classes: found 1, expected: greater"),
    ],
)
def test_weights_and_heads_that_do_not_go_together_are_named(model, w, told):
    from lgmamba.config.base import validate
    from lgmamba.config.overlays import merge
    from lgmamba.config.run import RunConfig
    from tests.train.tiny import RUN

    with pytest.raises(ConfigError) as e:
        validate(RunConfig, merge(RUN, {"model": model, "train": {"class_weight": w}}), "run.json")
    assert told in str(e.value)


@pytest.mark.parametrize(
    "model, told",
    [
        (
            {"class_head": {"classes": 7}},
            "the images: found 10 classes, expected: 7, those of model.class_head.classes",
        ),
        (HEAD | {"latent": 65}, "model.latent: found 65, expected: at most the 64 numbers of an image"),
    ],
)
def test_heads_that_do_not_fit_the_images_are_named(digits, model, told):
    with pytest.raises(ConfigError) as e:
        ready(digits, "draw", 0.5, model)
    assert told in str(e.value)
