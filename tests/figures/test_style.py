from itertools import combinations

import numpy as np
import polars as pl
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lgmamba.figures import FIGURES
from lgmamba.figures.style import COLOURS, LINES, Style, log2_axis, save_figure, use_style


def test_a_run_without_a_colour_is_named_with_those_that_have_one():
    with pytest.raises(KeyError, match="no colour for run 'uniform_1'; the palette has fixed_8, uniform"):
        Style(["fixed_8", "uniform"])["uniform_1"]


def test_many_runs_all_look_different():
    style = Style([f"run_{k}" for k in range(len(COLOURS) * len(LINES))])
    looks = {(look.colour, str(look.line)) for look in style.looks.values()}
    assert len(looks) == len(style.looks)


SEEN = {
    "everybody": np.eye(3),
    "red-blind": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green-blind": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
"""Linear RGB as it is seen: protanopia and deuteranopia of Machado, Oliveira and Fernandes (2009), severity 1."""


def seen_as(colour, matrix) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour as a reader sees it."""
    c = np.array(to_rgb(colour))
    linear = np.clip(np.array(matrix) @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ linear / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def alike(a, b, matrix) -> bool:
    """Whether two colours are nearer than 10 in CIELAB, some four just noticeable differences of areas side by side."""
    return float(np.linalg.norm(seen_as(a, matrix) - seen_as(b, matrix))) < 10


@pytest.mark.parametrize("reader", SEEN)
def test_runs_of_one_kind_of_line_have_colours_that_every_reader_tells_apart(reader):
    looks = Style([f"run_{k}" for k in range(len(COLOURS))]).looks.values()
    assert len({str(look.line) for look in looks}) == 1
    assert [pair for pair in combinations([look.colour for look in looks], 2) if alike(*pair, SEEN[reader])] == []


def test_the_simulation_finds_colours_that_red_green_blind_readers_confuse():
    found = {reader: alike("#d07050", "#9a8a50", matrix) for reader, matrix in SEEN.items()}
    assert found == {"everybody": False, "red-blind": True, "green-blind": True}


def test_a_run_keeps_its_look_when_runs_are_added_behind_it():
    short, long = Style(["a", "b"]), Style(["a", "b", *(f"c{k}" for k in range(20))])
    assert short["b"] == long["b"]


def test_labels_are_the_names_in_the_configuration():
    assert Style(["uniform_1_64"])["uniform_1_64"].label == "uniform 1 64"


@pytest.mark.parametrize(
    ("values", "ticks"), [([1, 3, 16], [1, 2, 4, 8, 16]), ([1, 1600], [1, 4, 16, 64, 256, 1024])], ids=["few", "many"]
)
def test_log2_ticks(values: list[float], ticks: list[float]):
    ax = Figure().subplots()
    log2_axis(ax.xaxis, values)
    assert list(ax.xaxis.get_majorticklocs()) == ticks
    assert ax.xaxis.get_major_formatter()(ticks[-1], 0) == str(ticks[-1])


def test_saving_writes_picture_vector_and_numbers(tmp_path):
    figure = Figure()
    ax = figure.subplots()
    ax.plot([1, 2])
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    save_figure(figure, frame, "name", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["name.csv", "name.pdf", "name.png"]
    assert pl.read_csv(tmp_path / "new/name.csv").equals(frame)
    assert (tmp_path / "new/name.png").read_bytes().startswith(b"\x89PNG")
    assert not pyplot.get_fignums()  # nothing is kept alive


def long_names(kinds: list[str]) -> pl.DataFrame:
    """A frame of twelve runs of long names, kind after kind, as figures curves and degradation draw them."""
    rows = [
        {"run": f"gated_delta_negative_run_{k}", "kind": kinds[k % len(kinds)], "step": step, "psnr": 15.0 + 0.1 * k}
        for k in range(12)
        for step in (1, 16, 64)
    ]
    level = pl.col("psnr")
    return pl.DataFrame(rows).with_columns(
        panel="kind", method=pl.lit("model"), L0=pl.lit(16), at_L0=pl.col("step") == 16, factor=pl.col("step") / 16,
        psnr_lo=level - 0.1, psnr_hi=level + 0.1, delta=level - 15, delta_lo=level - 15.1, delta_hi=level - 14.9,
        n_seeds=5,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kinds", [["generalist"], ["specialist", "generalist"], ["specialist", "generalist", "length-adaptive"]]
)
@pytest.mark.parametrize("name", ["curves", "degradation"])
def test_legends_of_twelve_long_names_overlap_nothing(name, kinds):
    use_style()
    frame = long_names(kinds)
    figure = FIGURES[name](frame, Style(frame["run"].unique(maintain_order=True).to_list()))
    figure.draw_without_rendering()
    boxes = [ax.get_legend().get_window_extent() for ax in figure.axes]
    labels = [ax.xaxis.label.get_window_extent() for ax in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    text = [box.get_window_extent() for ax in figure.axes for box in ax.get_legend().get_texts()]
    assert not any(a.overlaps(b) for a in text for b in labels)
    assert all(ax.get_window_extent().height > 72 for ax in figure.axes)  # an inch and more
