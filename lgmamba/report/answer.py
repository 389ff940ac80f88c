"""The answer in sentences: what was measured for each claim, in numbers from the frames, whatever they turned out to be."""

from collections.abc import Callable, Iterable

import polars as pl

from lgmamba.analysis.statistics import HOLDS, UNTESTABLE
from lgmamba.report.words import effect, interval, listed, number, plural, signed, span


def answers(
    claims: pl.DataFrame, envelope: pl.DataFrame, training_lengths: dict[str, int], n_cells: int
) -> dict[str, str]:
    """{claim: sentence with its effects}; claims without any measured cell are left out.

    Args:
        claims: claims.parquet.
        envelope: envelope.parquet, for the share of the gap that is closed.
        training_lengths: L0 of every run, patches.
        n_cells: cells of an image, G.
    """
    measured = claims.filter(pl.col("effect").is_not_null())
    sentences = {
        claim: write(measured.filter(pl.col("claim") == claim))
        for claim, write in WRITERS.items()
        if claim in set(measured["claim"])
    }
    if "C1" in sentences:
        sentences["C1"] += _by_cover(measured.filter(pl.col("claim") == "C1"), training_lengths, n_cells)
    if "C2" in sentences:
        sentences["C2"] += _by_length(measured.filter(pl.col("claim") == "C2"), training_lengths)
    closed = envelope.filter(pl.col("gap_closed").is_not_null())
    if "C4" in sentences and len(closed):
        share = span((100 * closed["gap_closed"]).to_list(), 0)
        sentences["C4"] += (
            f" Where specialists lead, this closes {share} % of the gap to them ({plural(len(closed), 'length')})."
        )
    if "C4" in sentences:
        sentences["C4"] += _beside(envelope)
    return sentences


def _c1(cells: pl.DataFrame) -> str:
    parts = []
    for factor in _ends(cells["factor"]):
        here = cells.filter(pl.col("factor") == factor)
        parts.append(f"{_change(here['effect'].to_list(), 'falls', 'rises')} at {factor:g} \u00d7 L0")
    worst = cells.sort("effect").row(0, named=True)
    return (
        f"Read on past the training length L0, PSNR {listed(parts)} (range over {plural(cells['run'].n_unique(), 'run')}). "
        f"The largest change is that of `{worst['run']}`: {signed(worst['effect'])} dB at t = {worst['step']}."
    )


def _c2(cells: pl.DataFrame) -> str:
    levels = cells.filter(pl.col("against") == "mean image")
    maps = cells.filter(pl.col("against") != "mean image")
    specialists = levels.filter(pl.col("claimed_sign") < 0)
    parts = []
    if len(specialists):
        last = specialists.sort("step").row(-1, named=True)  # the longest specialist at its latest early step
        parts.append(
            f"Long before its length, at t = {last['step']}, the specialist `{last['run']}` is {_above(last['effect'])} the mean image"
        )
        same = levels.filter(
            (pl.col("claimed_sign") > 0) & (pl.col("step") == last["step"]) & (pl.col("family") == last["family"])
        )
        parts += [
            f"the generalist `{row['run']}` at the same step is {_above(row['effect'])} it"
            for row in same.iter_rows(named=True)
        ]
    sentence = ", ".join(parts) + "." if parts else ""
    if len(maps):
        n = len(maps.filter(pl.col("verdict") == HOLDS))
        sentence += f" The retention maps of specialist and generalist differ by more than those of two seeds in {n} of {plural(len(maps), 'pair')}."
    return sentence.strip()


def _by_cover(cells: pl.DataFrame, training_lengths: dict[str, int], n_cells: int) -> str:
    """C1, apart for runs that have seen a whole image by L0 and runs for which new cells keep arriving."""
    covering = [run for run, L0 in training_lengths.items() if L0 >= n_cells]
    whole = cells.filter(pl.col("run").is_in(covering))
    part = cells.filter(~pl.col("run").is_in(covering))
    if not len(whole) or not len(part):
        return ""
    held = {name: len(some.filter(pl.col("verdict") == HOLDS)) for name, some in (("whole", whole), ("part", part))}
    return (
        f" Where L0 covers the {n_cells} cells of an image, {held['whole']} of {plural(len(whole), 'test')} hold; where it does not, "
        f"reading on also brings cells that were never read, which may lower the error, and {held['part']} of {len(part)} do."
    )


def _by_length(cells: pl.DataFrame, training_lengths: dict[str, int]) -> str:
    """C2's early levels of the specialists against the length that they were trained at."""
    levels = cells.filter(pl.col("against") == "mean image", pl.col("claimed_sign") < 0)
    latest = {row["run"]: row for row in levels.sort("step").iter_rows(named=True)}
    if len(latest) < 2:
        return ""
    by_length = sorted(latest.values(), key=lambda row: training_lengths[row["run"]])
    parts = [f"{signed(row['effect'])} dB at t = {row['step']} of {training_lengths[row['run']]}" for row in by_length]
    return f" Specialists by training length, against the mean image: {listed(parts)}."


def _c3(cells: pl.DataFrame) -> str:
    lengths = listed(map(str, cells["step"].unique().sort()))
    return f"Trained at one length T alone, a specialist {_from(cells['effect'].to_list())} the generalist at T (T = {lengths})."


def _c4(cells: pl.DataFrame) -> str:
    parts = []
    for family, here in cells.group_by("family", maintain_order=True):
        steps = here["step"].to_list()
        change = _from(here["effect"].to_list())
        parts.append(
            f"Told the length, `{here['run'][0]}` {change} the generalist `{family[0]}` at the lengths T = {min(steps)} to {max(steps)}"
        )
    return ". ".join(parts) + "."


def _beside(envelope: pl.DataFrame) -> str:
    """Each adaptive run against the specialists of its family, which are the bar that it should reach."""
    parts = [
        f" From the specialists `{run}` differs by {span(here['beside'].to_list(), 2, sign=True)} dB (T = {listed([str(T) for T in here['step']])})."
        for (run,), here in envelope.filter(pl.col("beside").is_not_null()).group_by("run", maintain_order=True)
    ]
    return "".join(parts)


def _c5(cells: pl.DataFrame) -> str:
    parts = []
    for factor in _ends(cells["factor"]):
        here = cells.filter(pl.col("factor") == factor)
        parts.append(f"{span(here['effect'].to_list(), 4, sign=True)} at {factor:g} \u00d7 L0")
    runs = plural(cells["run"].n_unique(), "run")
    return f"Compared with L0, the squared error gained per doubling of a patch's age changes by {listed(parts)} (range over {runs})."


WRITERS: dict[str, Callable[[pl.DataFrame], str]] = {"C1": _c1, "C2": _c2, "C3": _c3, "C4": _c4, "C5": _c5}


def exceptions(claims: pl.DataFrame, most: int = 12) -> dict[str, list[str]]:
    """{claim: one line for each tested cell that does not hold, with its effect}; beyond `most` cells the rest is counted."""
    lines: dict[str, list[str]] = {}
    for claim, cells in claims.group_by("claim", maintain_order=True):
        others = cells.filter(~pl.col("verdict").is_in([HOLDS, UNTESTABLE]))
        texts = [_cell_line(row) for row in others.head(most).iter_rows(named=True)]
        if len(others) > most:
            texts.append(f"and {len(others) - most} more, in the tables at the end")
        if texts:
            lines[claim[0]] = texts
    return lines


def _cell_line(row: dict) -> str:
    size = f"{effect(row['effect'], row['unit'])} {row['unit']}, interval {interval(row['lo'], row['hi'], row['unit'])}"
    seeds = ", ".join(effect(value, row["unit"]) for value in row["per_seed"])
    return f"`{row['run']}` against {_against(row['against'])} at t = {row['step']}: {row['verdict']}; {size}, seeds {seeds}"


def _against(name: str) -> str:
    return name if " " in name else f"`{name}`"


def _ends(factors: Iterable[float]) -> list[float]:
    """The smallest and the largest."""
    found = sorted(set(factors))
    return found if len(found) < 2 else [found[0], found[-1]]


def _change(values: list[float], down: str, up: str) -> str:
    if max(values) < 0:
        return f"{down} by {span([-v for v in values])} dB"
    if min(values) > 0:
        return f"{up} by {span(values)} dB"
    return f"changes by {span(values, sign=True)} dB"


def _from(values: list[float]) -> str:
    if min(values) > 0:
        return f"is {span(values)} dB above"
    if max(values) < 0:
        return f"is {span([-v for v in values])} dB below"
    return f"differs by {span(values, sign=True)} dB from"


def _above(value: float) -> str:
    return f"{number(abs(value))} dB {'above' if value > 0 else 'below'}"
