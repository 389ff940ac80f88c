"""Batches are a pure function of seed and step, weights are as configured, baselines are what they say."""

import pytest
import torch

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.overlays import merge
from lgmamba.config.run import RunConfig
from tests.tasks.queried.tiny import RUN, TOKEN, batch_of, exact_model, task_of, tiny_run


def test_a_batch_has_one_length_or_one_for_each_sequence():
    for per, several in (("batch", False), ("sample", True)):
        run = tiny_run(task={"per": per})
        task = task_of(run)
        lengths = torch.stack([batch_of(task, run, step).lengths for step in range(40)])
        assert (lengths != lengths[:, :1]).any().item() is several
        assert sorted(lengths.unique().tolist()) == [1, 2, 3, 4, 5, 6]
        one = batch_of(task, run, 7)
        assert all(torch.equal(v, batch_of(task, run, 7).tensors()[name]) for name, v in one.tensors().items())
        assert one.read.shape == (4, int(one.lengths.max()))


def test_places_asked_for_are_uniform_whatever_is_read():
    run = tiny_run(task={"order": "raster"})
    task = task_of(run)
    asked = torch.stack([batch_of(task, run, step).asked for step in range(200)])
    counts = torch.bincount(asked.flatten(), minlength=35).double()
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 34 + 5 * (2 * 34) ** 0.5


@pytest.mark.parametrize(
    "weight, expected",
    [
        (None, lambda T: 1.0),
        ({"kind": "power", "s": 0.5}, lambda T: T**-0.5),
        ({"kind": "tower", "s": 0.5}, lambda T: T ** -(T**0.5)),
    ],
)
def test_the_weight_of_a_sequence_goes_by_its_length(weight, expected):
    run = tiny_run(task={"weight": weight, "per": "sample"})
    batch = batch_of(task_of(run), run)
    assert len(batch.lengths.unique()) > 1
    torch.testing.assert_close(batch.weights[:, 0], torch.tensor([expected(T) for T in batch.lengths.tolist()]))


def test_the_loss_is_on_the_range_that_is_configured():
    losses = []
    for name in ("signed", "unit"):
        run = tiny_run(task={"loss_range": name})
        task = task_of(run)
        losses.append(task.loss(exact_model(run), batch_of(task, run)))
    torch.testing.assert_close(losses[0], 4 * losses[1], rtol=1e-12, atol=0)


def test_training_images_are_mapped_and_held_out_ones_are_not():
    run = tiny_run(task={"augment": {"translation": 0.4, "fill": 0.25}})
    task = task_of(run)
    mapped = task.sequences(batch_of(task, run)).targets
    assert (mapped == 0.25).any()
    held_out = task.held_out(torch.tensor([2]), "uniform", 0, 4)
    torch.testing.assert_close(held_out.targets[0], task.dataset.images[2].float() / 255)


def test_held_out_sequences_belong_to_the_image_and_only_append():
    task = task_of(tiny_run())
    long = task.held_out(torch.tensor([3, 8]), "gaussian", 1, 2000)
    assert torch.equal(task.held_out(torch.tensor([8]), "gaussian", 1, 30).places, long.places[1:, :30])
    assert (task.held_out(torch.tensor([8]), "gaussian", 0, 30).places != long.places[1:, :30]).any()
    assert torch.equal(long.upto(7).places, long.places[:, :7])


def test_ages_are_steps_since_a_patch_covered_each_pixel():
    task = task_of(tiny_run())
    sequences = task.held_out(torch.tensor([3, 8]), "uniform", 0, 9)
    ages = task.ages(sequences, torch.tensor([1, 4, 9])).unflatten(2, (7, 9))
    for b in range(2):
        for s, t in enumerate((1, 4, 9)):
            expected = torch.full((7, 9), -1)
            for step in range(t):
                y, x = divmod(int(sequences.places[b, step]), 7)
                expected[y : y + 3, x : x + 3] = t - 1 - step
            assert torch.equal(ages[b, s], expected)


def test_baselines():
    task = task_of(tiny_run())
    sequences, steps = task.held_out(torch.tensor([3, 8]), "uniform", 0, 9), torch.tensor([1, 9])
    ages = task.ages(sequences, steps)
    found = {name: scores.values["mse"] for name, scores in task.baselines(sequences, steps, ages).items()}
    targets, mean = sequences.targets, task.dataset.mean_image
    of_mean = (targets - mean).square()
    unread = (ages < 0).unflatten(2, (7, 9))[:, :, None]
    torch.testing.assert_close(found["mean_image"], of_mean.flatten(1).mean(1)[:, None].expand(2, 2))
    torch.testing.assert_close(found["oracle_memory"], (of_mean[:, None] * unread).flatten(2).mean(2))
    paper = float(mean.mean() > 0.5)
    torch.testing.assert_close(found["paper"], (targets - paper).square().flatten(1).mean(1)[:, None].expand(2, 2))
    assert (found["nearest"][:, 1] < found["nearest"][:, 0]).all()
    assert set(found) == {"paper", "mean_image", "oracle_memory", "nearest"}


def test_the_nearest_pixel_that_was_read():
    run = tiny_run(task={"patch_size": 1})
    task = task_of(run, shape=(1, 1, 5))
    task.dataset.images[0, 0, 0] = torch.tensor([0, 50, 100, 200, 255], dtype=torch.uint8)
    sequences = task.held_out(torch.tensor([0]), "uniform", 0, 2)
    sequences = type(sequences)(sequences.images, torch.tensor([[0, 3]]))
    steps = torch.tensor([1, 2])
    nearest = task.baselines(sequences, steps, task.ages(sequences, steps))["nearest"].values["mse"][0]
    squared = [sum(v * v for v in (0, 50, 100, 200, 255)), 50**2 + 100**2 + 55**2]
    torch.testing.assert_close(nearest, torch.tensor(squared) / (5 * 255**2))


def refused(message: str, **changes) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(RunConfig, merge(RUN, changes), "params.yaml")


def test_bad_configurations_are_named():
    refused(r"task\.queries: found 0, expected: .*greater than or equal to 1", task={"queries": 0})
    refused(r"task\.lengths\.value: found 0", task={"lengths": {"kind": "fixed", "value": 0}})
    refused(r"ask\.stride <= patch_size.*got 4 and 3", task={"ask": {"stride": 4}})
    refused(
        "model.adaptive.kind: found film, expected: length_token for task queried",
        model={"adaptive": {"kind": "film", "features": "T", "hidden": 4, "beyond": "clamp"}},
    )
    refused(
        "constant, a length, with told: constant only",
        model={"adaptive": TOKEN["model"]["adaptive"] | {"told": "constant"}},
    )


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ConfigError, match=r"task\.patch_size: found 3, expected at most 2"):
        task_of(tiny_run(), shape=(1, 2, 9))


def test_an_image_as_large_as_a_patch_has_one_place():
    task = task_of(tiny_run(), shape=(1, 3, 3))
    assert len(task.field) == 1
    assert task.held_out(torch.tensor([0]), "uniform", 0, 4).places.tolist() == [[0, 0, 0, 0]]
