from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from lgmamba.analysis import FIGURE_CONDITIONS, figures_of
from lgmamba.analysis.collect import load_study
from lgmamba.analysis.evaluate import evaluate
from lgmamba.analysis.frames import of_accuracy
from lgmamba.analysis.panel import read_panel
from lgmamba.analysis.shown import runs_first_drawn, shown_rows
from lgmamba.figures import FIGURES, WITH_PICTURES, draw
from lgmamba.figures.levels import by_level
from lgmamba.figures.pictures import show
from lgmamba.figures.style import Style, grid_of_axes, panel_title, use_style
from lgmamba.metrics import ACCURACY, PIXELS
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values
from tests.figures.thumbnails import thumbnails

ROOT = Path(__file__).parents[2]
LABELS = {  # axis labels that must be there, with their units
    "task": set(),
    "gallery": set(),
    "curves": {"Step t (patches)", "PSNR (dB)"},
    "retention": {"Step t (patches)", "Age (steps since read)", "MSE (pixel value$^2$)"},
    "envelope": {"Sequence length T (patches)", "PSNR at T (dB)", "Difference (dB)"},
    "budget": {"Training steps", "PSNR at T (dB)", "Difference at T (dB)", "PSNR(2 L0) \u2212 PSNR(L0) (dB)"},
    "forms": {"Minus the generalist (dB); red: the specialist", "Minus its PSNR at L0 (dB)"},
    "read_outs": {"T / L0 (training lengths)", "PSNR (dB)", "fitted at T", "fitted at L0", "the trained one"},
    "degradation": {"T / L0 (training lengths)", "PSNR(T) \u2212 PSNR(L0) (dB)"},
    "remedies": {"PSNR (dB)", "T / L0 (training lengths)", "PSNR at 25 L0 minus PSNR at L0 (dB)"},
    "remedies_retention": {"Step t (patches)", "Age (steps since read)", "MSE (pixel value$^2$)"},
    "modes": {"Forecast growth from L0 to T", "PSNR gained (dB)", "Measured growth from L0 to T (median)"},
    "states": {"T / L0 (training lengths)", "Entries (%)", "PSNR (dB)"},
    "receptive_field": {"T / L0 (training lengths)", "Age + 1 (steps)", "Mean distance / T", "Share drawn"},
    "training": {"Optimiser step", "Validation PSNR (dB)", "Sequence length (patches)"},
    "lengths": {"Training length (patches)", "Probability"},
}


COMPARISONS = ("budget", "forms")
ELSEWHERE = ("asked", "theory", "mixers")
"""Figures of studies that the made-up ones here are not like; the tests of these draw them."""
DRAWN = [name for name in FIGURE_CONDITIONS if name not in ELSEWHERE]


def build(name: str, study) -> tuple[Figure, pl.DataFrame]:
    use_style()
    frame = pl.read_parquet(study.frames / f"figure_{name}.parquet")
    style = Style(list(load_study(study.study).runs))
    more = (read_panel(study.frames / "panel.safetensors"),) if name in WITH_PICTURES else ()
    return FIGURES[name](frame, style, *more), frame


@pytest.fixture(scope="module")
def built(study, compared) -> Callable[[str], tuple[Figure, pl.DataFrame]]:
    """Name -> the figure of the synthetic study that has it, and its frame; for all tests that look at one and change nothing."""
    return cache(lambda name: build(name, compared if name in COMPARISONS else study))


def texts(figure: Figure) -> set[str]:
    found = {text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))}
    return found | {ax.get_xlabel() for ax in figure.axes} | {ax.get_ylabel() for ax in figure.axes}


NAMED = {  # where classes are named, the same of accuracy
    "curves": {"Accuracy (%)"},
    "envelope": {"Accuracy at T (%)", "Difference (pp)"},
    "budget": {"Accuracy at T (%)", "Difference at T (pp)", "Accuracy(2 L0) \u2212 Accuracy(L0) (pp)"},
    "forms": {"Minus the generalist (pp); red: the specialist", "Minus its Accuracy at L0 (pp)"},
    "degradation": {"Accuracy(T) \u2212 Accuracy(L0) (pp)"},
    "remedies": {"Accuracy (%)", "Accuracy at 25 L0 minus accuracy at L0 (pp)"},
    "training": {"Validation accuracy (%)"},
}
LEVELS = ("psnr", "value", "lead", "gain", "beside", "delta", "ahead", "change")
BANDS = [f"{name}{end}" for name in LEVELS for end in ("", "_lo", "_hi")] + ["lo", "hi", "seeds_lo", "seeds_hi"]


@pytest.mark.parametrize("name", NAMED)
def test_where_classes_are_named_accuracy_stands_below(name: str, study, compared):
    study = compared if name in COMPARISONS else study
    frame = pl.read_parquet(study.frames / f"figure_{name}.parquet")
    runs = frame["run"].drop_nulls().unique(maintain_order=True).to_list()
    headless = runs[-1] if name in ("curves", "degradation", "training") else None  # a run that names none
    known = pl.col("run").is_not_null() & (pl.col("run") != headless if headless else True)
    columns = [column for column in BANDS if column in frame.columns]
    named = frame.with_columns(pl.when(known).then(50 + pl.col(c) / 2).alias(of_accuracy(c)) for c in columns)
    use_style()
    style = Style(list(load_study(study.study).runs))
    figure = FIGURES[name](named, style)
    figure.draw_without_rendering()
    assert texts(figure) >= LABELS[name] | NAMED[name]
    (own, _), (second, looks) = by_level(named, style)
    assert own.equals(frame) and looks.metric is ACCURACY and style.metric is PIXELS
    assert headless not in second["run"].to_list() and second["run"].n_unique() == len(runs) - (headless is not None)
    level = columns[0]
    assert second[level].to_list() == pytest.approx((50 + frame.filter(known)[level] / 2).to_list(), nan_ok=True)


def test_the_names_are_known_without_heavy_imports():
    assert list(FIGURES) == list(FIGURE_CONDITIONS)


@pytest.mark.parametrize("name", DRAWN)
def test_labels_have_units(name: str, built):
    figure, _ = built(name)
    assert texts(figure) >= LABELS[name]


@pytest.mark.parametrize("name", DRAWN)
def test_figures_leave_their_frame_alone_and_repeat(name: str, study, compared, built):
    figure, frame = built(name)
    again, untouched = build(name, compared if name in COMPARISONS else study)
    assert frame.equals(untouched)
    np.testing.assert_array_equal(figure.get_size_inches(), again.get_size_inches())


def test_draw_writes_the_frame_as_numbers(study, tmp_path):
    draw("degradation", study.study, study.frames, tmp_path)
    frame = pl.read_parquet(study.frames / "figure_degradation.parquet")
    assert pl.read_csv(tmp_path / "degradation.csv").select("run", "step").equals(frame.select("run", "step"))


def test_an_unknown_figure_lists_the_known_ones(study, tmp_path):
    with pytest.raises(ValueError, match="figure='curve' is unknown; expected one of task, curves"):
        draw("curve", study.study, study.frames, tmp_path)


def test_a_run_of_another_study_is_not_drawn_in_a_made_up_colour(study):
    frame = pl.read_parquet(study.frames / "figure_degradation.parquet")
    with pytest.raises(KeyError, match="no colour for run 'fixed_2'"):
        FIGURES["degradation"](frame, Style(["uniform"]))


def test_curves_show_every_run_and_where_training_ends(built):
    figure, frame = built("curves")
    lines = [line for ax in figure.axes for line in ax.lines]
    labels = {line.get_label() for line in lines}
    assert {run.replace("_", " ") for run in frame["run"].drop_nulls()} <= labels
    specialist_panel = figure.axes[0]
    dashed = {line.get_xdata()[0] for line in specialist_panel.lines if list(line.get_ydata()) == [0, 1]}
    assert dashed == {2, 4, 8, 16}


def test_a_star_has_the_colour_of_the_one_run_that_is_measured_by_it():
    rows = [
        {
            "run": run,
            "method": "model",
            "step": 8,
            "psnr": psnr,
            "psnr_lo": psnr,
            "psnr_hi": psnr,
            "panel": panel,
            "L0": 8,
        }
        | {"at_L0": True, "against": against, "regret": None if against is None else regret}
        for run, panel, psnr, against, regret in (
            ("s", "specialist", 20.0, None, None),
            ("t", "specialist", 18.0, None, None),
            ("a", "generalist", 15.0, "s", 5.5),  # of fewer trainings than the line of s
            ("b", "generalist", 16.0, "s", 4.0),
            ("c", "generalist", 17.0, "t", 1.0),
        )
    ]
    style = Style(list("stabc"))
    figure = FIGURES["curves"](pl.DataFrame(rows), style)
    stars = [line for line in figure.axes[1].lines if line.get_marker() == "*"]
    drawn = {float(line.get_ydata()[0]): line.get_color() for line in stars}
    assert drawn == {20.0: "black", 18.0: style["c"].colour}


def test_two_trainings_have_no_band_of_an_interval():
    rows = [
        {"run": run, "kind": "generalist", "L0": 8, "step": 8 * factor, "factor": float(factor), "delta": 1.0 - factor}
        | {"delta_lo": -20.0, "delta_hi": 20.0, "n_seeds": n}
        for run, n in (("a", 2), ("b", 3))
        for factor in (1, 2)
    ]
    figure = FIGURES["degradation"](pl.DataFrame(rows), Style(list("ab")))
    areas = [band.get_paths() for band in figure.axes[0].collections]
    assert [bool(len(paths) and len(paths[0].vertices)) for paths in areas] == [False, True]


def test_a_gallery_of_many_rows_and_few_pictures_stays_on_a_page():
    params = load_study(ROOT / "reports" / "cifar10_lr" / "frames" / "study.json")
    frames = ROOT / "reports" / "cifar10_lr" / "frames"
    frame, panel = pl.read_parquet(frames / "figure_gallery.parquet"), read_panel(frames / "panel.safetensors")
    figure = FIGURES["gallery"](frame, Style(list(params.runs_by_name())), panel)
    assert figure.get_size_inches()[1] <= 7.01


def test_a_run_has_one_colour_in_all_figures(study, built):
    style = Style(list(load_study(study.study).runs))
    for name in ("curves", "degradation"):
        figure, _ = built(name)
        drawn = {
            line.get_label().split(" (")[0]: line.get_color()
            for ax in figure.axes
            for line in ax.lines
            if not line.get_label().startswith("_")
        }
        for run, look in style.looks.items():
            assert drawn[look.label] == look.colour, (name, run)


def test_titles_of_mixtures_leave_the_next_panel_alone():
    laws = ["always 16", "50% always 64, 25% uniform 1\u201364, 25% log-uniform 1\u201364"] * 2
    laws = [f"{law}{' ' * k}" for k, law in enumerate(laws)]  # four laws of two wordings
    frame = pl.DataFrame(
        {"distribution": laws, "runs": ["a"] * 4, "length": [16, 64, 16, 64], "probability": [0.5] * 4}
    )
    use_style()
    figure = FIGURES["lengths"](frame, Style(["a"]))
    figure.draw_without_rendering()
    titles = [text for ax in figure.axes for text in ax.findobj(Text) if "lways" in text.get_text()]
    boxes = [title.get_window_extent() for title in titles]
    assert len(boxes) == len(laws)
    assert all(box.x1 < after.x0 for box, after in pairwise(boxes))
    assert boxes[-1].x1 < figure.bbox.x1


@pytest.mark.parametrize("columns", [2, 4])
def test_long_titles_are_broken_where_their_panel_ends(columns):
    use_style()
    figure, axes = grid_of_axes(columns, columns, 2)
    for ax in axes:
        panel_title(ax, "normed half log weighted and longer than any run is named", "L0 = 64")
    figure.draw_without_rendering()
    titles = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text().startswith("normed")]
    assert len(titles) == columns
    assert all(box.x1 < after.x0 for box, after in pairwise(titles))
    assert titles[-1].x1 < figure.bbox.x1


def drawn_again(study: str, figure: str, *, pictures: bool = False):
    """A figure of a kept study, laid out."""
    frames = ROOT / "reports" / study / "frames"
    params, frame = load_study(frames / "study.json"), pl.read_parquet(frames / f"figure_{figure}.parquet")
    use_style()
    more = [read_panel(frames / "panel.safetensors")] if pictures else []
    drawn = FIGURES[figure](shown_rows(params, figure, frame), Style(runs_first_drawn(params), params.task), *more)
    drawn.draw_without_rendering()
    return drawn


def touch(texts: list[Text]) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]


def test_titles_end_before_the_colour_bar():
    figure = drawn_again("mixers_cifar10", "retention")
    *_, bar = figure.axes
    assert "MSE" in bar.get_ylabel()
    titles = [text for ax in figure.axes for text in ax.findobj(Text) if "uniform" in text.get_text()]
    assert len(titles) == 8
    assert max(title.get_window_extent().x1 for title in titles) < bar.get_window_extent().x0
    assert touch(titles) == []


@pytest.mark.parametrize("height", [1.5, 6])
def test_details_stand_below_their_titles_however_tall_the_panel(height):
    use_style()
    figure, (ax,) = grid_of_axes(1, 1, height)
    panel_title(ax, "gap", "uniform 64, (L0 = 64)")
    figure.draw_without_rendering()
    title, detail = (t for t in figure.findobj(Text) if t.get_text() in ("gap", "uniform 64, (L0 = 64)"))
    above, below = sorted((title.get_window_extent(), detail.get_window_extent()), key=lambda box: -box.y0)
    assert below.y1 <= above.y0 + 1
    assert ax.get_window_extent().y1 < below.y0


def test_a_single_length_of_a_thousand_is_seen():
    frame = pl.DataFrame(
        {
            "distribution": ["always 64", "always 1024", "uniform 1\u20134"] + ["uniform 1\u20134"] * 3,
            "runs": ["a", "b", "c", "c", "c", "c"],
            "length": [64, 1024, 1, 2, 3, 4],
            "probability": [1.0, 1.0] + [0.25] * 4,
        }
    )
    use_style()
    figure = FIGURES["lengths"](frame, Style(list("abc")))
    figure.draw_without_rendering()
    bars = [bar for ax in figure.axes for bar in ax.patches]
    points = [bar.get_window_extent().width / figure.dpi * 72 + bar.get_linewidth() for bar in bars]
    assert len(points) == 6
    assert min(points) >= 0.7  # as wide as an axis


@pytest.mark.parametrize("study", ["mixers_digits", "mixers_omniglot", "mixers_second", "in_context"])
def test_numbers_of_mixers_do_not_touch(study):
    figure = drawn_again(study, "mixers")
    for ax in figure.findobj(Axes):
        assert touch(ax.texts) == []
        assert touch(ax.get_xticklabels()) == []
        names = [name.get_window_extent().x0 for name in ax.get_yticklabels() if name.get_text()]
        assert min(names, default=0) >= 0


def test_every_star_is_within_its_panel():
    figure = drawn_again("robustness", "curves")
    stars = [(ax, y) for ax in figure.axes for line in ax.lines if line.get_marker() == "*" for y in line.get_ydata()]
    assert len(stars) > 3
    for ax, y in stars:
        low, high = ax.get_ylim()
        assert low < y < high


def test_steps_above_small_pictures_do_not_touch_and_no_number_is_minus_zero():
    figure = drawn_again("cifar10_adaptive", "gallery", pictures=True)
    above = [text for text in figure.axes[0].texts if text.get_text().removeprefix("t = ").isdigit()]
    steps = [text for text in above if text.get_va() == "bottom" and text.get_ha() == "center"]
    assert len(steps) == 7
    assert touch(steps) == []
    figure = drawn_again("cifar10_budget", "gallery", pictures=True)
    numbers = {text.get_text() for text in figure.axes[0].texts}
    assert {"0", "\u22122"} <= numbers
    assert not {"-0", "\u22120", "-2"} & numbers


@pytest.mark.parametrize("study", ["transformer_omniglot", "mixers_omniglot", "omniglot"])
def test_the_words_below_the_image_leave_the_names_of_rows_alone(study):
    frames = ROOT / "reports" / study / "frames"
    params, frame = load_study(frames / "study.json"), pl.read_parquet(frames / "figure_task.parquet")
    use_style()
    figure = FIGURES["task"](frame, Style(list(params.runs_by_name())), read_panel(frames / "panel.safetensors"))
    figure.draw_without_rendering()
    (below,) = (ax.xaxis.label for ax in figure.axes if "numbered in the" in ax.get_xlabel())
    names = [ax.yaxis.label for ax in figure.axes if ax.get_ylabel()]
    assert any(name.get_text().startswith("rebuilt by") for name in names)
    boxes = [text.get_window_extent() for text in (below, *names)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_budget_figure_has_a_line_for_each_role_and_length(built):
    figure, frame = built("budget")
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(drawn) == {
        f"{role}, T = {T}" for role in ("specialist", "generalist", "length-adaptive") for T in (8, 16)
    }
    at = {row["budget"]: row["value"] for row in frame.filter(measure="PSNR at T", role="adaptive", step=16).to_dicts()}
    line = drawn["length-adaptive, T = 16"]
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == pytest.approx(at)
    assert set(at) == {400, 800}


def test_the_forms_figure_has_a_row_for_each_run_of_many_lengths(built):
    figure, frame = built("forms")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "uniform",
        "adaptive",
        "film",
        "rescaled",
    ]
    lead = frame.filter(run="film", measure="adaptive minus generalist at T", step=16)["lead"].item()
    red = [line for line in figure.axes[1].lines if line.get_color() == "#d1001f"]
    assert [line.get_xdata()[0] for line in red] == [pytest.approx(lead)]


def test_families_beyond_two_stand_below_the_first_ones(study):
    use_style()
    names = list(load_study(study.study).runs)
    frame = pl.read_parquet(study.frames / "figure_envelope.parquet")
    frame = frame.filter(family=frame["family"][0])
    three = pl.concat([frame.with_columns(family=pl.lit(name)) for name in names[:3]])
    figure = FIGURES["envelope"](three, Style(names))
    figure.draw_without_rendering()
    titled = [ax for ax in figure.axes if ax.get_title(loc="left")]
    left = [round(ax.get_position().x0, 2) for ax in titled]
    assert len(titled) == 3 and left[0] == left[2] < left[1]
    assert min(ax.get_position().width for ax in titled) > 0.3


def test_remedies_show_the_best_and_what_they_are_compared_with(built):
    figure, frame = built("remedies")
    changes = figure.axes[4]  # below the curves of two runs in two orders
    names = [label.get_text() for label in changes.get_yticklabels()]
    compared = ["as it is", "truncate", "reset", "freeze", "subset cover"]  # the best control, too, wherever it is one
    assert names == ["dt running", "together", "deci random", "a gradient", *compared]
    assert (figure.axes[0].get_title(loc="left"), len(figure.axes)) == ("uniform short", 8)
    far = frame.filter(run="uniform_short", order="permutation", factor=25.0)
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in changes.lines if line.get_marker() in ("o", "s")}
    called = {name: "vanilla" if name == "as it is" else name.replace(" ", "_") for name in names}
    expected = {name: far.filter(remedy=called[name])["delta"].item() for name in names}
    assert {names[place]: value for place, value in drawn.items()} == expected


def test_pictures_share_one_range_and_show_what_was_not_read():
    ax = Figure().subplots()
    image = np.array([[[-0.5, 0.25], [0.5, 1.7]]])
    show(ax, image, np.array([[True, True], [True, False]]))
    drawn = ax.images[0]
    assert drawn.get_clim() == (0, 1)
    pixels = np.asarray(drawn.get_array())
    assert pixels[0, 0].tolist() == [0, 0, 0]  # clipped
    assert len(set(pixels[1, 1])) > 1  # no grey of an image: the pattern is tinted


@pytest.mark.slow
def test_many_rgb_runs_two_families_and_one_seed(tmp_path):
    runs = {f"fixed_{T}": {"task": {"lengths": {"kind": "fixed", "value": T}}} for T in (2, 4, 8, 16)}
    runs |= {f"uniform_{T}": {"task": {"lengths": {"kind": "uniform", "low": 1, "high": T}}} for T in (4, 8, 16)}
    runs |= {
        f"adaptive_{T}": {**DIGITS_RUNS["adaptive"], "task": {"lengths": {"kind": "uniform", "low": 1, "high": T}}}
        for T in (4, 16)
    }
    runs |= {f"random_{k}": {"task": {"supervision": {"kind": "random_k", "k": k}}} for k in (1, 2, 4)}
    comparisons = [{"generalist": f"uniform_{T}", "adaptive": f"adaptive_{T}"} for T in (4, 16)]
    values = study_values(runs, evaluation={"images": 4, "panel_images": 1}, claims={"comparisons": comparisons}) | {
        "seeds": [0]
    }
    pictures = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    study_json, results = make_study(tmp_path, values, pictures)
    evaluate(study_json, results, tmp_path / "frames")
    names = figures_of(load_study(study_json))
    with thumbnails():
        for name in names:
            draw(name, study_json, tmp_path / "frames", tmp_path / "figures")
    assert len(list((tmp_path / "figures").iterdir())) == 4 * len(names)  # picture, print, numbers, record


def test_levels_are_named_at_the_left_of_every_row_of_read_outs():
    rows = [
        {"run": run, "L0": 16, "series": name, "x": x, "y": 9.0, "lo": 8.0, "hi": 10.0}
        for run in "abcd"  # four panels: two rows of two
        for name in ("trained", "refitted", "refitted_at_L0")
        for x in (0.25, 1.0, 4.0)
    ]
    figure = FIGURES["read_outs"](pl.DataFrame(rows), Style(list("abcd")))
    assert [ax.get_ylabel() for ax in figure.axes] == ["PSNR (dB)", "", "PSNR (dB)", ""]


def test_a_run_that_was_validated_once_is_seen():
    frame = pl.DataFrame(
        [
            {"run": run, "L0": 16, "length": 16, "step": step, "psnr": 9.0, "psnr_lo": 8.0, "psnr_hi": 10.0}
            for run, steps in {"long": (500, 1000), "short": (100,)}.items()
            for step in steps
        ]
    )
    figure = FIGURES["training"](frame, Style(["long", "short"]))
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    markers = {name: [line.get_marker() for line in ax.lines] for name, ax in panels.items()}
    assert markers == {"long": ["None"], "short": ["o"]}
