"""The page of an audit: the answer, two figures, and the tables behind them; one file that asks for nothing from outside."""

from pathlib import Path

import polars as pl

from lgmamba.figures.style import Style, log2_axis, mark_L0, save_figure, use_style
from lgmamba.files import write_atomic
from lgmamba.hosts.audit.found import Audit
from lgmamba.hosts.audit.passkey import Passkeys
from lgmamba.hosts.audit.scores import CONTROLS
from lgmamba.report import html_page, inline_png

DRAWN = 6
"""Remedies in the figure, the best of them."""


def write_page(found: Audit, out: Path) -> Path:
    """Figures as <out>/figures, and <out>/audit.html."""
    use_style()
    figures = out / "figures"
    _draw_lengths(found, figures)
    _draw_position(found, figures)
    _draw_layers(found, figures)
    page = out / "audit.html"
    write_atomic(page, html_page(_text(found, figures), f"Audit of {found.about['model']}"))
    return page


def _text(found: Audit, figures: Path) -> str:
    about, L0 = found.about, found.about["L0"]
    parts = [
        f"# How far can {about['model']} read?",
        "\n\n".join(found.answer),
        f"{about['class']}, {about['parameters'] / 1e6:,.1f} M parameters, {about['layers']}, {about['dtype']}; L0 = {L0:,} tokens. The last "
        f"{about['scored']:,} tokens of {about['windows']} windows of text are scored, the same ones for every length and remedy, after so "
        f"many tokens before them were read. Bits for each token: 1 bit less is half the perplexity. Intervals: Student's, 95 %, over windows.",
        "## By the length that is read",
        _picture(figures, "lengths", "Bits for each token against the tokens read, with remedies and controls"),
        _levels_table(found),
        *(
            []
            if found.passkeys is None
            else ["## Recall of a number told once", _passkey_table(found.passkeys, found.about["lengths"])]
        ),
        "## By position, in one pass from the start",
        _picture(figures, "position", "Bits for each token against its position in the text"),
        "Tokens at different positions are different tokens: read this curve for a rise that goes on, not for its ripples.",
        "## What the layers' memories do",
        _picture(figures, "layers", "State norms beyond L0, and memory of the modes, by layer"),
        _layers_table(found),
        "## What was tried",
        _tried(found),
    ]
    return "\n\n".join(parts) + "\n"


def _levels_table(found: Audit) -> str:
    lengths = found.about["lengths"]
    names = list(dict.fromkeys(name for name, _ in found.scores))
    head = ["", *(f"{T:,}" for T in lengths), "from the best control"]
    rows = []
    for name in names:
        last = found.level(name, lengths[-1])
        cells = ["" if (v := found.level_if_read(name, T)) is None else f"{v.bits:.3f}" for T in lengths]
        mean, low, high = last.from_control
        rows.append([f"`{name}`", *cells, f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"])
    return _table(head, rows) + f"\n\nThe last column is at {lengths[-1]:,} tokens; negative is better."


def _passkey_table(asked: Passkeys, lengths: list[int]) -> str:
    rows = []
    for name in dict.fromkeys(asked.columns["remedy"]):
        cells = ["" if (v := asked.share(name, T)) is None else f"{v:.0%}" for T in lengths]
        rows.append([f"`{name}`", *cells])
    return _table(["right answers", *(f"{T:,}" for T in lengths)], rows) + (
        f"\n\nOf {len(asked.cases)} numbers for each length, told between the start of the text and right before the question; `truncate` can "
        "know those alone that were told within L0. By depth in `passkey.parquet`."
    )


def _layers_table(found: Audit) -> str:
    frames = found.watched.frames
    memory, distance = frames["memory"], frames["distance"]
    last = max(frames["states"]["tokens"])
    grown = {
        layer: v
        for layer, T, v in zip(*(frames["states"][c] for c in ("layer", "tokens", "over_L0")), strict=True)
        if T == last
    }
    rows = [
        [str(n), _steps(memory["tau_median"][n]), _steps(memory["tau_high"][n]), f"{memory['long'][n]:.0%}",
         _steps(distance["distance_median"][n]), f"{grown[n]:.2f}"]
        for n in memory["layer"]
    ]  # fmt: skip
    head = [
        "layer",
        "tau, median",
        "tau, 95 %",
        "modes above 2 L0",
        "distance read, median",
        f"state at {last:,} over that at L0",
    ]
    return _table(head, rows) + "\n\ntau: tokens after which a write has faded to 1/e."


def _tried(found: Audit) -> str:
    rows = [
        [f"`{n}`", found.kinds[n][1], found.description[n]] for n in dict.fromkeys(name for name, _ in found.scores)
    ]
    rows += [[f"`{name}`", "", f"not for this model: {why}"] for name, why in found.refused.items()]
    return _table(["", "mode", "what is done"], rows) + (
        "\n\nprefix: the length is told, and every length is a pass of its own; stream: nobody knows it. Calibrated values lie in `values/`, "
        "for `lgmamba.extend(values=...)`."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _steps(v: float) -> str:
    return f"{v:,.0f}" if v >= 10 else f"{v:.1f}"


def _picture(figures: Path, name: str, description: str) -> str:
    return f'<img alt="{description}" src="{inline_png((figures / f"{name}.png").read_bytes())}">'


def _axes(columns: int, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _draw_lengths(found: Audit, out: Path) -> None:
    lengths, L0 = found.about["lengths"], found.about["L0"]
    remedies = [n for n in dict.fromkeys(n for n, _ in found.scores) if n not in ("vanilla", *CONTROLS)]
    best = sorted(remedies, key=lambda n: found.level(n, lengths[-1]).bits)[:DRAWN]
    names = ["vanilla", *CONTROLS, *best]
    style, (figure, (ax,)) = Style(names), _axes(1, 3.4)
    for name in names:
        levels = [found.level("vanilla", L0), *(v for T in lengths if T > L0 and (v := found.level_if_read(name, T)))]
        look = style[name]
        ax.plot(
            [v.tokens for v in levels],
            [v.bits for v in levels],
            marker=look.marker,
            markersize=3,
            label=look.label,
            **look.stroke,
        )
    log2_axis(ax.xaxis, [float(T) for T in lengths])
    mark_L0(ax, L0)
    ax.set(xlabel="Tokens read", ylabel="Bits for each token")
    ax.legend(ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, pl.DataFrame(found.level_columns()), "lengths", out)


def _draw_position(found: Audit, out: Path) -> None:
    frame = (
        pl.DataFrame(found.position).group_by("first", "last").agg(pl.col("bits").mean(), spread=pl.col("bits").std())
    )
    frame = frame.sort("last").with_columns(error=pl.col("spread").fill_null(0) / found.about["windows"] ** 0.5)
    figure, (ax,) = _axes(1, 2.6)
    middle = ((frame["first"] * frame["last"]).cast(pl.Float64) ** 0.5).to_list()
    ax.errorbar(middle, frame["bits"], yerr=frame["error"], color="0.2", linewidth=1.2, elinewidth=0.7)
    log2_axis(ax.xaxis, [max(1.0, middle[0]), middle[-1]])
    mark_L0(ax, found.about["L0"])
    ax.set(xlabel="Position in the text, tokens", ylabel="Bits for each token")
    save_figure(figure, frame, "position", out)


def _draw_layers(found: Audit, out: Path) -> None:
    states = found.watched.frame("states")
    figure, (left, right) = _axes(2, 2.8)
    layers = sorted(set(states["layer"]))
    for layer in layers:
        one = states.filter(pl.col("layer") == layer)
        shade = str(0.75 - 0.65 * layer / max(1, len(layers) - 1))
        left.plot(one["tokens"], one["over_L0"], color=shade, linewidth=0.9)
    log2_axis(left.xaxis, [float(states["tokens"].min()), float(states["tokens"].max())])
    mark_L0(left, found.about["L0"])
    left.set(
        xlabel="Tokens read", ylabel="Norm of the state, over that at L0", title="States (later layers are darker)"
    )
    memory = found.watched.frame("memory")
    right.fill_between(memory["layer"], memory["tau_low"], memory["tau_high"], color="0.85")
    right.plot(memory["layer"], memory["tau_median"], color="0.2")
    right.axhline(found.about["L0"], color="0.45", linewidth=0.7, linestyle=(0, (4, 3)))
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel="Layer", ylabel="tau, tokens", yscale="log", title="Memory of the modes: median, 5 to 95 %")
    save_figure(figure, states, "layers", out)
