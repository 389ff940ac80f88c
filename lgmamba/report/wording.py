"""Numbers as a person reads them."""

import html
import math
import re
from collections.abc import Iterable

MINUS = "\u2212"
DIGITS = {"dB": 2, "pp": 2, "bits": 3}
"""Unit of differences of levels (`lgmamba.metrics.Metric.difference_unit`) -> digits behind the point that say something."""


def number(value: float | None, digits: int = 2) -> str:
    """1.234 -> "1.23"; a missing number is a dash."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def signed(value: float | None, digits: int = 2) -> str:
    """1.234 -> "+1.23"; -1 -> a minus sign and 1.00."""
    text = number(value, digits)
    return (
        text
        if value is None or not math.isfinite(value) or value <= 0 or not float(f"{value:.{digits}f}")
        else f"+{text}"
    )


def effect(value: float | None, unit: str) -> str:
    """A signed effect: a difference of levels with the digits of its unit, one of mean squared errors with four."""
    return signed(value, DIGITS.get(unit, 4))


def limit(value: float) -> str:
    """A margin as it was set, with one digit at least: 0.05, 0.1, 1.0."""
    text = f"{value:g}"
    return text if "." in text else f"{text}.0"


def interval(lo: float | None, hi: float | None, unit: str) -> str:
    """[lo, hi], or a dash where there is none."""
    return "\u2013" if lo is None or hi is None else f"[{effect(lo, unit)}, {effect(hi, unit)}]"


def probability(p: float | None) -> str:
    """0.0312 -> "0.031"; below 0.001 only that."""
    if p is None or not math.isfinite(p):
        return "\u2013"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def span(values: Iterable[float], digits: int = 2, sign: bool = False) -> str:
    """Lowest to highest of some numbers; one number if they look the same."""
    found = sorted(values)
    write = signed if sign else number
    low, high = write(found[0], digits), write(found[-1], digits)
    return low if low == high else f"{low} to {high}"


def listed(names: Iterable[str]) -> str:
    """Names in a row: a, b and c."""
    found = list(names)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}" if found else "none"


def plural(n: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Wall time: 5.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "\u2013"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(megabytes: float | None) -> str:
    """512 MB, 1.5 GB."""
    if megabytes is None:
        return "\u2013"
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def plain_text(text: str | None) -> str:
    """What a person wrote, as text and nothing else in Markdown and in HTML: one line, no tags, links, pictures or cells."""
    line = html.escape(" ".join((text or "").split()), quote=False)
    return re.sub(r"([\\\[\]|])", r"\\\1", line)
