"""Validation while training: the same images in the same orders, whatever the model's mode."""

import math

import pytest
import torch

from lgmamba.data.dataset import load_dataset
from lgmamba.tasks.draw.orders import orders_of_images
from lgmamba.tasks.draw.patches import patchify
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.validation import Validation, validation_lengths
from tests.model.models import as_read
from tests.train.tiny import ADAPTIVE, build_digits, tiny_run


def setting(data, images: int = 16, adaptive=None, order: str = "permutation"):
    dataset = load_dataset(data)
    run = tiny_run(model={"adaptive": adaptive}, task={"order": order})
    model = build_model(run, dataset.image_shape)
    if adaptive:
        with torch.no_grad():
            for p in model.conditioning.heads.parameters():
                p.normal_(std=0.3)
    return dataset, model, Validation(build_task(run, dataset), dataset, images)


def test_lengths_are_powers_of_four_and_L0():
    assert validation_lengths(64) == [1, 4, 16, 64]
    assert validation_lengths(6) == [1, 4, 6]
    assert validation_lengths(1) == [1]


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["plain", "adaptive"])
def test_twice_gives_the_same_and_training_goes_on_in_training_mode(digits, adaptive):
    _, model, validation = setting(digits, adaptive=adaptive)
    model.train()
    assert validation.levels(model) == validation.levels(model)
    assert model.training
    assert not any(p.grad is not None for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["plain", "adaptive"])
def test_psnr_is_that_of_the_mean_error_over_images_each_told_its_length(digits, adaptive):
    dataset, model, validation = setting(digits, adaptive=adaptive)
    rows = dataset.split("val")[:16]
    cells = orders_of_images("permutation", 4, 4, dataset.id_hash[rows], 1, 6)[:, 0]
    for T, psnr in validation.levels(model).items():
        errors = []
        for row, order in zip(rows, cells, strict=True):
            target = dataset.images[row].float() / 255
            patches = patchify(target[None], 2)[:, order[:T]]
            drawn = model(as_read(patches, order[None, :T]), torch.tensor([[T]]), torch.tensor([T]))
            errors.append(float((drawn[0, 0] - target).square().mean()))
        assert psnr == pytest.approx(-10 * math.log10(sum(errors) / len(errors)), abs=1e-4)  # dB; float32 errors


def test_validation_images_are_held_out_and_at_most_as_many_as_asked_for(digits, tmp_path):
    dataset, _, validation = setting(digits, images=5)
    assert torch.equal(validation.sequences.targets, dataset.images[dataset.split("val")[:5]].float() / 255)
    every = setting(digits, images=10_000)[2]
    assert len(every.sequences.targets) == dataset.manifest.counts["val"]


def test_passes_of_some_images_give_what_one_pass_gives(digits, monkeypatch):
    _, model, validation = setting(digits, images=16)
    whole = validation.levels(model)
    monkeypatch.setattr("lgmamba.train.validation.PASS", 5)
    parts = validation.levels(model)
    assert list(parts.values()) == pytest.approx(list(whole.values()), abs=1e-4)  # dB; another batch size, float32


def test_an_image_keeps_its_order_when_others_join(tmp_path):
    few, many = (build_digits(tmp_path / str(n), max_images=n) for n in (200, 300))
    a, b = (setting(data, images=1000)[2].sequences for data in (few, many))
    orders = {tuple(p.flatten().tolist()): c.tolist() for p, c in zip(b.patches, b.cells, strict=True)}
    shared = [tuple(p.flatten().tolist()) for p in a.patches]
    assert len(shared) > 5
    assert [orders[key] for key in shared] == a.cells.tolist()
