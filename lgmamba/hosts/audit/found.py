"""What an audit found, and the files that it writes.

    scores.parquet    remedy, kind, mode, tokens, window -> bits for each scored token
    levels.parquet    remedy, kind, mode, tokens -> bits, and the difference from vanilla at L0 and from the best control, with intervals
    position.parquet  first, last, window -> bits of one pass from the start
    passkey.parquet   see `passkey`, where it was asked for
    watched/          what `lgmamba.watch` saw
    values/           calibrated values, for `lgmamba.extend(values=...)`
    audit.json        what was done with what, and the answer
    audit.html        the page

Glossary: `lgmamba.hosts`; n windows.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lgmamba.files import to_json, write_atomic
from lgmamba.frames import write_columns
from lgmamba.hosts.audit.passkey import Passkeys
from lgmamba.hosts.watch import Watched
from lgmamba.remedies.artefacts import Artefact


@dataclass(frozen=True)
class Level:
    """One remedy at one length: bits for each scored token, mean over windows, and differences with intervals; negative is better."""

    remedy: str
    kind: str
    mode: str
    tokens: int
    bits: float
    from_L0: tuple[float, float, float]
    from_control: tuple[float, float, float]
    best_control: str


@dataclass
class Audit:
    """What was found.

    Attributes:
        about: what was done with what.
        watched: see `lgmamba.watch`.
        levels: one for each remedy and length.
        scores: bits by (remedy, tokens), (n,) of each window.
        position: columns of that frame.
        passkeys: what was asked for and found; None where nothing was.
        refused: name of a remedy -> why it is not for this model.
        description: name -> what is done, in words.
        kinds: name -> kind and mode.
        artefacts: name -> calibrated values.
        answer: what a person should know, most important first.
    """

    about: dict[str, Any]
    watched: Watched
    levels: list[Level] = field(default_factory=list)
    scores: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    position: dict[str, list[Any]] = field(default_factory=dict)
    passkeys: Passkeys | None = None
    refused: dict[str, str] = field(default_factory=dict)
    description: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    artefacts: dict[str, Artefact] = field(default_factory=dict)
    answer: list[str] = field(default_factory=list)

    def level(self, remedy: str, tokens: int) -> Level:
        """One of them.

        Raises:
            KeyError: that remedy was not read at that length.
        """
        if (found := self.level_if_read(remedy, tokens)) is None:
            raise KeyError(f"{remedy!r} was not read at {tokens:,} tokens; read were {sorted(self.scores)}")
        return found

    def level_if_read(self, remedy: str, tokens: int) -> Level | None:
        """None where it was not."""
        return next((v for v in self.levels if (v.remedy, v.tokens) == (remedy, tokens)), None)

    def write(self, out: str | Path) -> Path:
        """Frames, figures and the page; returns the page."""
        from lgmamba.hosts.audit.page import write_page  # needs what draws

        out = Path(out)
        rows = [
            (name, *self.kinds[name], T, i, bits) for (name, T), v in self.scores.items() for i, bits in enumerate(v)
        ]
        names = ("remedy", "kind", "mode", "tokens", "window", "bits")
        write_columns(out / "scores.parquet", dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
        write_columns(out / "levels.parquet", self.level_columns())
        write_columns(out / "position.parquet", self.position)
        if self.passkeys is not None:
            write_columns(out / "passkey.parquet", self.passkeys.columns)
        self.watched.write(out / "watched")
        for artefact in self.artefacts.values():
            artefact.write(out / "values")
        page = write_page(self, out)
        write_atomic(out / "audit.json", to_json(self.about | {"answer": self.answer, "refused": self.refused}))
        return page

    def level_columns(self) -> dict[str, list[Any]]:
        """Frame `levels`."""
        plain = ("remedy", "kind", "mode", "tokens", "bits", "best_control")
        columns: dict[str, list[Any]] = {name: [getattr(v, name) for v in self.levels] for name in plain}
        for name in ("from_L0", "from_control"):
            for i, part in enumerate(("", "_low", "_high")):
                columns[name + part] = [_none_if_nan(getattr(v, name)[i]) for v in self.levels]
        return columns


def _none_if_nan(v: float) -> float | None:
    return None if math.isnan(v) else v
