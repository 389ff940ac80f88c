"""Figures of a study of classification against reconstruction: pure functions of its frames, in the look of all others."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from lgmamba.config.base import ConfigError
from lgmamba.figures.style import Style, save_figure, use_style
from lgmamba.records import begin, checked, finish, read_record
from lgmamba.tradeoff.config import TradeoffParams
from lgmamba.tradeoff.figures.controls import controls_drawn, fig_controls
from lgmamba.tradeoff.figures.exchange import exchange_drawn, fig_exchange
from lgmamba.tradeoff.figures.frontier import fig_frontier, frontier_drawn
from lgmamba.tradeoff.figures.gradients import fig_gradients, gradients_drawn
from lgmamba.tradeoff.figures.pictures import fig_pictures, pictures_drawn
from lgmamba.tradeoff.keys import figure_key

Frames = dict[str, pl.DataFrame]

FIGURES: dict[str, tuple[Callable[[Frames, TradeoffParams], pl.DataFrame], Callable[[pl.DataFrame, Style], Figure]]] = {
    "frontier": (frontier_drawn, fig_frontier),
    "exchange": (exchange_drawn, fig_exchange),
    "pictures": (pictures_drawn, fig_pictures),
    "controls": (controls_drawn, fig_controls),
    "gradients": (gradients_drawn, fig_gradients),
}
"""Figure -> what it draws, from the frames, and how."""
READ = ("points", "summary", "history", "pictures", "stacks")
SUFFIXES = ("png", "pdf", "csv")


def draw(name: str, params: TradeoffParams, frames: Path, out: Path) -> None:
    """Draw one figure: <out>/<name>.png, .pdf and .csv, and last its record.

    Raises:
        ConfigError: no such figure.
        ArtefactError: a frame is missing or damaged.
    """
    if name not in FIGURES:
        raise ConfigError(f"figure={name!r} is unknown; expected one of {', '.join(FIGURES)}")
    record = read_record(frames, "tradeoff evaluate")
    read = {n: pl.read_parquet(checked(frames, f"{n}.parquet", "tradeoff evaluate")) for n in READ}
    use_style()
    rows, figure = FIGURES[name]
    figure_data = rows(read, params)
    begin(out, name)
    style = Style(list(params.tradeoff.encoders))
    shown = figure_data.drop("pixels") if "pixels" in figure_data.columns else figure_data
    save_figure(figure(figure_data, style), shown, name, out, pictures="pixels" in figure_data.columns)
    finish(figure_key(params, record), out, [f"{name}.{suffix}" for suffix in SUFFIXES], name)
