"""Retention maps against counting by hand, the pasted baseline, and the pictures that are kept."""

from collections import defaultdict

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from lgmamba.probe.retention import RetentionMap
from lgmamba.tasks.draw.patches import patchify
from lgmamba.tasks.draw.sequences import ages_at
from tests.model.models import along, draw_task
from tests.probe.test_reconstruct import STEPS


def test_ages_of_a_hand_made_order():
    """Cells 2, 0, 2 are read; looked at after steps 1 and 3."""
    last = torch.tensor([[[-1, -1, 0], [1, -1, 2]]])
    assert ages_at(last, torch.tensor([1, 3])).tolist() == [[[-1, -1, 0], [1, -1, 0]]]


def test_a_map_of_two_batches_by_hand():
    found = RetentionMap([1, 3])
    ages = torch.tensor([[[-1, 0], [2, 0]]])
    found.add(torch.tensor([[[1.0, 0.5], [0.25, 0.0]]]), ages)
    found.add(torch.tensor([[[2.0, 0.25], [0.5, 0.125]]]), torch.tensor([[[-1, 0], [-1, 1]]]))
    rows = list(zip(*found.columns().values(), strict=True))
    assert list(found.columns()) == ["step", "age", "mse", "count"]
    assert rows == [
        (1, -1, 1.5, 2),
        (1, 0, 0.375, 2),
        (3, -1, 0.5, 1),
        (3, 0, 0.0, 1),
        (3, 1, 0.125, 1),
        (3, 2, 0.25, 1),
    ]


def test_pasting_two_cells_of_two_by_hand():
    images = torch.tensor([[[[0, 255]]], [[[255, 255]]]], dtype=torch.uint8)  # two cells of one pixel; mean 0.5 and 1
    task = draw_task((1, 1, 2), 1, images)
    sequences = along(torch.tensor([[[0.0], [0.0]], [[1.0], [0.5]]]), torch.tensor([[0, 1], [1, 1]]))
    steps = torch.tensor([1, 2])
    found = task.baselines(sequences, steps, task.ages(sequences, steps))
    assert found["paste"].parts.tolist() == [[[0.0, 1.0], [0.0, 0.0]], [[0.25, 0.0], [0.25, 0.0]]]
    assert found["paste"].values["mse"].tolist() == [[0.5, 0.0], [0.125, 0.125]]
    assert found["mean_image"].values["mse"].tolist() == [[0.625, 0.625], [0.25, 0.25]]


@pytest.mark.parametrize("run, mode", [("plain", "stream"), ("told", "stream"), ("told", "prefix")])
@pytest.mark.parametrize("order", ["permutation", "replacement"])
def test_the_map_is_what_looping_over_images_repeats_and_cells_gives(study, run, mode, order):
    steps = [1, 5, 6, 17, 24]
    errors = defaultdict(list)
    for i, image in enumerate(study.rows().tolist()):
        for cells in study.cells(order)[i]:
            for step in steps:
                drawn, target = study.drawn(run, image, cells, step, step if mode == "prefix" else 6)
                by_cell = patchify((drawn - target)[None], 2)[0].square().mean(1).tolist()
                read = cells[:step].tolist()
                for cell, error in enumerate(by_cell):
                    age = read[::-1].index(cell) if cell in read else -1
                    errors[step, age].append(error)
    expected = {key: (sum(values) / len(values), len(values)) for key, values in errors.items()}
    frame = study.frame(run, "retention").filter(pl.col("step").is_in(steps), mode=mode, order=order)
    found = {(step, age): (mse, n) for step, age, mse, n in frame.select("step", "age", "mse", "count").iter_rows()}
    assert found.keys() == expected.keys()
    for key, (mse, n) in expected.items():
        assert found[key] == (pytest.approx(mse, rel=1e-4), n)  # float32 errors, read in pieces and batches


@pytest.mark.parametrize("run", ["plain", "told"])
def test_every_cell_of_every_image_and_repeat_is_counted_once_a_step(study, run):
    frame = study.frame(run, "retention")
    assert frame.columns == ["run", "seed", "mode", "order", "method", "step", "age", "mse", "count"]
    assert frame["method"].unique().to_list() == ["model"]
    sums = frame.group_by("mode", "order", "step").agg(pl.col("count").sum(), pl.col("age").max())
    assert len(sums) == 2 * 2 * len(STEPS)
    assert sums["count"].unique().to_list() == [9 * 2 * 16]
    assert sums.filter(pl.col("age") >= pl.col("step")).is_empty()
    assert frame.filter(age=0).group_by("mode", "order", "step").agg(pl.col("count").sum())[
        "count"
    ].unique().to_list() == [18]


def test_the_map_and_the_steps_frame_have_the_same_mean_error(study):
    errors = study.frame("told").filter(method="model").group_by("mode", "order", "step").agg(pl.col("mse").mean())
    weighted = (pl.col("mse") * pl.col("count")).sum() / pl.col("count").sum()
    maps = study.frame("told", "retention").group_by("mode", "order", "step").agg(weighted.alias("map"))
    both = errors.join(maps, on=["mode", "order", "step"])
    assert len(both) == 44
    assert both["mse"].to_list() == pytest.approx(
        both["map"].to_list(), rel=1e-5
    )  # float32 means of cells, then of images


@pytest.mark.parametrize("run", ["plain", "told"])
def test_the_pictures_are_the_first_images_in_the_first_order_told_each_length(study, run):
    panel = load_file(study.home(run) / "evaluation" / "panel.safetensors")
    shapes = {name: (tuple(v.shape), v.dtype) for name, v in panel.items()}
    assert shapes == {
        "images": ((6,), torch.int64),
        "targets": ((6, 1, 8, 8), torch.uint8),
        "cells": ((6, 24), torch.int64),
        "steps": ((24,), torch.int64),
        "mse": ((24, 6), torch.float32),
        "reconstructions": ((24, 6, 1, 8, 8), torch.uint8),
    }
    assert torch.equal(panel["images"], study.rows(6))
    assert torch.equal(panel["targets"], study.dataset.images[study.rows(6)])
    assert torch.equal(panel["cells"], study.cells("permutation", 6)[:, 0])
    assert panel["steps"].tolist() == [*range(1, 25)]  # as many as there are
    for s, step in enumerate(panel["steps"].tolist()):
        for i in (0, 3, 4, 5):  # on both sides of a batch's end
            cells = panel["cells"][i]
            drawn, _ = study.drawn(run, int(panel["images"][i]), cells, step, step)
            torch.testing.assert_close(
                panel["reconstructions"][s, i] / 255, drawn.clamp(0, 1), atol=0.502 / 255, rtol=0
            )
            mse = (drawn - panel["targets"][i] / 255).square().mean()
            torch.testing.assert_close(panel["mse"][s, i], mse, atol=0, rtol=1e-4)


def test_fewer_images_than_pictures_asked_for_are_all_kept(study, tmp_path):
    study.reconstruct("plain", out=tmp_path, images=2, panel_images=6)
    assert load_file(tmp_path / "panel.safetensors")["images"].tolist() == study.rows(2).tolist()
