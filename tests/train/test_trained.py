"""A trained model drawn from in two lines, and what people are told whose arguments do not fit."""

import pytest
import torch

import lgmamba
from lgmamba.config.base import ConfigError
from lgmamba.data.dataset import in_memory
from lgmamba.model.runner import run_sequence
from lgmamba.tasks.registry import build_model, build_task
from lgmamba.train.checkpoint import save_model
from lgmamba.trained import TrainedModel
from tests.tasks.contract import TASKS

STEPS = [1, 5, 20]


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def trained(row: str, folder, **changes) -> TrainedModel:
    run = TASKS[row].run(**changes)
    save_model(build_model(run, (1, 8, 8)), run, folder / "model.safetensors")
    return lgmamba.load(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("row", "order"), [("draw", "permutation"), ("queried", "uniform"), ("queried-length_token", "grid")]
)
def test_a_named_order_draws_what_the_study_draws(row, order, images, tmp_path):
    loaded = trained(row, tmp_path)
    held_out = build_task(loaded.run, in_memory(images)).held_out(torch.arange(3), order, 0, 20)
    expected = run_sequence(loaded.model, held_out, STEPS, "prefix")
    drawn = loaded.reconstruct(images, order, STEPS)
    assert drawn.shape == (3, 3, 1, 8, 8)
    assert torch.equal(drawn, expected)
    assert torch.equal(loaded.reconstruct(images.numpy() / 255, order, STEPS), expected)  # float64 from 0 to 1
    torch.testing.assert_close(loaded.reconstruct(images[0, 0], order, STEPS), expected[0], rtol=1e-5, atol=1e-6)


def test_cells_of_ones_own_are_read_in_that_order(images, tmp_path):
    loaded = trained("draw", tmp_path)
    raster = loaded.reconstruct(images, "raster", STEPS)
    cells = [t % 16 for t in range(20)]
    assert torch.equal(loaded.reconstruct(images, cells, STEPS), raster)
    assert torch.equal(loaded.reconstruct(images, [cells] * 3, STEPS), raster)
    assert not torch.equal(loaded.reconstruct(images, cells[::-1], STEPS), raster)
    assert loaded.reconstruct(images).shape == (3, 1, 1, 8, 8)  # at L0, in the order of training


def test_places_are_rows_and_columns_of_pixels(images, tmp_path):
    loaded = trained("queried", tmp_path)
    grid = loaded.reconstruct(images, "grid", [4, 9])
    corners = [(y, x) for y in (0, 3, 5) for x in (0, 3, 5)]
    assert torch.equal(loaded.reconstruct(images, places=corners, steps=[4, 9]), grid)
    assert torch.equal(loaded.reconstruct(images, places=[corners] * 3, steps=[4, 9]), grid)


@pytest.mark.parametrize(
    ("row", "arguments", "message"),
    [
        ("draw", {"order": "spiral"}, "order: found 'spiral', expected one of permutation, cycle"),
        ("draw", {"order": [0, 16], "steps": 1}, "order: found cell 16, expected 0 to 15"),
        ("draw", {"order": [0.5], "steps": 1}, "order: found torch.float64 of shape (1,), expected integers: cells"),
        (
            "draw",
            {"order": [[0]] * 2, "steps": 1},
            "order: found shape (2, 1) for 3 images, expected one sequence for all or 3",
        ),
        ("draw", {"order": [0, 1], "steps": 3}, "steps: found 3, expected at most 2, the patches that are read"),
        ("draw", {"steps": [4, 2]}, "steps: found [4, 2], expected numbers from 1, ascending, each once"),
        ("draw", {"steps": 0}, "steps: found [0], expected"),
        ("draw", {"places": [(0, 0)]}, "places: expected with task queried alone"),
        ("draw", {"mode": "whole"}, "mode: found 'whole', expected one of stream, prefix"),
        ("draw", {"image": torch.zeros(3, 8, 8)}, "image: found shape (3, 8, 8), expected (1, 8, 8), channels first"),
        ("draw", {"image": torch.full((1, 8, 8), 255.0)}, "image: found values from 255 to 255, expected 0 to 1"),
        ("draw", {"image": torch.full((1, 8, 8), torch.nan)}, "image: found values from nan to nan"),
        ("draw", {"image": torch.zeros(1, 8, 8, dtype=torch.int64)}, "image: found torch.int64, expected uint8"),
        ("queried", {"order": [0, 1], "steps": 1}, "order: found numbers, expected one of uniform, gaussian"),
        ("queried", {"places": [(0, 6)], "steps": 1}, "places: found column 6, expected 0 to 5"),
        ("queried", {"places": [0, 1, 2], "steps": 1}, "places: found shape (3,), expected (T, 2) or (B, T, 2)"),
        ("regression", {}, "has task regression, which reads no images"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(row, arguments, message, images, tmp_path):
    if row == "regression":
        run = TASKS[row].run()
        loaded = TrainedModel(build_model(run, (0, 0, 0)).eval(), run)
    else:
        loaded = trained(row, tmp_path)
    with pytest.raises(ConfigError) as error:
        loaded.reconstruct(**{"image": images} | arguments)
    assert message in str(error.value)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.safetensors: expected a checkpoint written by `lgmamba train`"):
        lgmamba.load(tmp_path / "absent.safetensors")


def test_a_model_goes_to_a_folder_of_the_hub_and_back(images, tmp_path):
    hub = pytest.importorskip("lgmamba.hub")
    loaded = trained("draw", tmp_path)
    hub.HubModel(loaded.model, loaded.run).save_pretrained(tmp_path / "kept")
    back = hub.HubModel.from_pretrained(tmp_path / "kept")
    assert back.run == loaded.run
    assert (tmp_path / "kept/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert torch.equal(back.reconstruct(images, "raster", STEPS), loaded.reconstruct(images, "raster", STEPS))
    card = (tmp_path / "kept/README.md").read_text(encoding="utf-8")
    head, text = card.split("---\n")[1:]
    assert {"library_name: lgmamba", "license: mit"} <= set(head.splitlines())
    assert f"Task `draw`, L0 = {loaded.run.L0} patches" in text and f"run `{loaded.run.run}`" in text
    assert "More Information Needed" not in text
