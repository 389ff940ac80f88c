"""A sliding window over the steps: every layer's state holds what the last r steps wrote (Stuffed Mamba, arXiv:2410.07145, method 3).

How is the mixer's business: see `lgmamba.mixers.mamba.window`.
"""

from typing import Any, Literal

from lgmamba.mixers.contract import Hook
from lgmamba.model.reading import AnyReadable
from lgmamba.remedies.remedy import Kind, Parts
from lgmamba.remedies.window.config import WindowConfig


def sliding_window(r: int, form: Literal["exact", "overlap"] = "exact") -> Hook:
    """Restrict every layer's state to the last r steps. Stream mode: no step looks at later ones.

    Args:
        r: window, steps, >= 1. Sequences of at most r steps are read as ever.
        form: exact; or overlap, which is cheaper and holds between r / 2 and r steps.
    Raises:
        ValueError: r or form out of range; when called, if an earlier hook of a chain replaces the scan too, or the piece
            before was read without the window.
    """
    if r < 1 or form not in ("exact", "overlap"):
        raise ValueError(f"expected r >= 1 and form 'exact' or 'overlap'; got r={r}, form={form!r}")
    return lambda call: call.window(r, form)


def build(entry: WindowConfig, values: Any, model: AnyReadable, last: int) -> Parts:
    r = max(1, round(entry.r * model.L0))
    return {"make_hook": lambda T: None if T is not None and T <= model.L0 else sliding_window(r, entry.form)}


KIND = Kind(build)
