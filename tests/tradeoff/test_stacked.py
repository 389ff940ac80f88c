"""Runs that are trained side by side do what each does alone, and each head follows its own loss."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from lgmamba.tradeoff.networks import decoder, mlp
from lgmamba.tradeoff.training import RAW, StackTraining, batches, build_stack
from tests.tradeoff.studies import images, stack, study

ENCODERS = study().tradeoff.encoders
SHAPE, CLASSES = (1, 8, 8), 4


def trained(file, split, steps=6, device="cpu"):
    made = build_stack(file, SHAPE, CLASSES, torch.device(device), torch.float64)
    training = StackTraining(file, made, split)
    found = [
        training.step(rows.to(device), look=True)
        for rows, _ in zip(batches(len(split), file), range(steps), strict=False)
    ]
    return made, found


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_run_in_a_stack_is_the_run_alone(kind):
    file, split = stack(encoder=ENCODERS[kind]), images()
    together, seen = trained(file, split)
    run = 0
    for seed in file.seeds:
        for w in file.weights:
            alone, seen_alone = trained(file.model_copy(update={"seeds": [seed], "weights": [w]}), split)
            for part, own in zip(together.parts, alone.parts, strict=True):
                for name, value in own.parameters.items():
                    torch.testing.assert_close(part.parameters[name][run], value[0], rtol=1e-9, atol=1e-11)
            for step, one in zip(seen, seen_alone, strict=True):
                for name in ("mse", "ce", "cosine_z", "cosine_encoder"):
                    torch.testing.assert_close(step[name][run], one[name][0], rtol=1e-8, atol=1e-10)
            run += 1


@pytest.mark.parametrize("variant", ["main", "raw"])
def test_gradients_are_those_of_the_paper(variant):
    """Encoder: (1 - w) a MSE + w b CE; each head: its own loss alone, whatever w. By autograd on one plain network."""
    file, split, w = stack(variant=variant, seeds=[3], weights=[0.3]), images(), 0.3
    made = build_stack(file, SHAPE, CLASSES, torch.device("cpu"), torch.float64)
    training = StackTraining(file, made, split)
    built = (
        file.encoder.build(SHAPE, file.latent),
        decoder(file.latent, file.heads.decoder, SHAPE),
        mlp([file.latent, CLASSES]),
    )
    networks = [network.double() for network in built]
    for network, part in zip(networks, made.parts, strict=True):
        network.load_state_dict({name: value[0].detach() for name, value in part.parameters.items()})
    encode, draw, classify = networks

    def losses(rows):
        pixels, labels = split.images[rows].double() / 255, split.labels[rows]
        z = encode(pixels)
        return (draw(z) - pixels).square().mean(), cross_entropy(classify(z), labels)

    mse0, ce0 = (loss.item() for loss in losses(torch.arange(len(split))))
    a, b = (RAW * (1 - w), w) if variant == "raw" else ((1 - w) / mse0, w / ce0)
    rows = next(batches(len(split), file))
    training.optimizer.step = lambda: None  # gradients stay to be looked at
    training.step(rows)
    mse, ce = losses(rows[0])
    for network, part, loss in zip(networks, made.parts, (a * mse + b * ce, mse, ce), strict=True):
        expected = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for (name, _), gradient in zip(network.named_parameters(), expected, strict=True):
            torch.testing.assert_close(part.parameters[name].grad[0], gradient, rtol=1e-9, atol=1e-12)


def test_a_random_encoder_stays_as_it_was_and_its_heads_learn():
    file, split = stack("mlp_m4_random_encoder"), images()
    start = build_stack(file, SHAPE, CLASSES, torch.device("cpu"), torch.float64)
    made, _ = trained(file, split)
    same = [
        all(torch.equal(part.parameters[n], first.parameters[n]) for n in part.parameters)
        for part, first in zip(made.parts, start.parts, strict=True)
    ]
    assert same == [True, False, False]


def test_runs_of_one_seed_start_alike_and_see_the_same_batches():
    file = stack()
    made = build_stack(file, SHAPE, CLASSES, torch.device("cpu"))
    W = len(file.weights)
    for part in made.parts:
        for value in part.parameters.values():
            assert torch.equal(value[0], value[W - 1])
            assert value.ndim == 2 or not torch.equal(value[0], value[W])
    rows = list(batches(24, file))
    assert len(rows) == file.train.steps
    epoch = torch.cat(rows[:3], 1)
    assert all(sorted(order) == list(range(24)) for order in epoch.tolist())
    assert not torch.equal(epoch[0], epoch[1])


def test_random_labels_are_shuffled_and_nothing_else():
    from lgmamba.tradeoff.training import labels_by_seed

    split = images()
    found = labels_by_seed(stack("mlp_m4_random_labels"), split.labels)
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], split.labels)
    assert torch.equal(found.sort(1).values, split.labels.sort().values.expand(2, -1))
