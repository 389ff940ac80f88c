"""`lgmamba.extend`: a remedy on somebody's language model, for its ordinary calls and its generation.

stream   the remedy knows t only; prompts, pieces of them and single tokens are read alike
prefix   a length is told: that of the prompt, or `target_length`; tokens after the prompt are read for the same length, but by
         remedies that need the text in one piece, which leave them alone, as the originals do

Glossary: `lgmamba.hosts`.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import field_validator, model_validator
from torch import nn

from lgmamba.config.base import Strict, validate
from lgmamba.config.remedies import Combination, Remedies, check_names, with_kinds
from lgmamba.hosts.calibration import calibrate as calibrate_entry
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import Tokens
from lgmamba.remedies.artefacts import Artefact, read_artefact
from lgmamba.remedies.assemble.config import AssembleConfig
from lgmamba.remedies.configs import Entry
from lgmamba.remedies.registry import build
from lgmamba.remedies.remedy import Remedy

LENGTHS = (2.0, 4.0)
"""T / L0 calibrated for, unless said otherwise."""
WINDOW_BYTES = 1 << 31
"""Of the states that an exact window holds, at most, for one sequence."""
NO_TEXT: dict[tuple[str, str, str | None], str] = {
    **{
        ("assemble", form, None): "it puts a picture together from windows that each show parts of it"
        for form in AssembleConfig.MODES
    },
    (
        "decimamba",
        "step_size",
        "stream",
    ): "after a step that is left out it says again what it said before, which of text is another token",
}
"""(kind, form, mode) that mean nothing for text -> why."""
NO_GENERATION = {
    ("step_size", "norm"): "its sums are tabulated for a few lengths, and a text of another length has none",
    ("longmamba", "random_steps"): "its shares are tabulated for a few lengths, and a text of another length has none",
}
"""(kind, form) that only `lgmamba.audit` can read -> why."""


class Wanted(Strict):
    """Remedies as a person writes them; the name of an entry is its kind unless it has one."""

    remedies: Remedies

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: dict[str, Any]) -> dict[str, Any]:
        entries = with_kinds(values["remedies"])
        return {"remedies": [{"name": e.get("kind", "remedy")} | e if isinstance(e, dict) else e for e in entries]}

    @field_validator("remedies")
    @classmethod
    def _unique(cls, entries: Remedies) -> Remedies:
        check_names(entries)
        return entries


def wanted(remedies: list[dict[str, Any]]) -> Remedies:
    """Entries from plain values. Raises ConfigError, with one line for each problem."""
    return validate(Wanted, {"remedies": remedies}, "remedy").remedies


def refusal(host: Host, entry: Entry, generates: bool) -> str | None:
    """Why a remedy cannot be on this model; None where it can.

    Args:
        generates: whether it must read texts of any length, token by token.
    """
    for key in ((entry.kind, entry.form_name, entry.mode), (entry.kind, entry.form_name, None)):
        if key in NO_TEXT:
            return NO_TEXT[key]
    if generates and (entry.kind, entry.form_name) in NO_GENERATION:
        return NO_GENERATION[entry.kind, entry.form_name]
    if (reason := entry.refusal(host.config.mixer)) is not None:
        return reason
    if entry.kind == "window" and entry.form == "exact":
        held = 4 * round(entry.r * host.L0) * host.config.channels * host.config.modes
        if held > WINDOW_BYTES:
            return f"form exact would hold {held / 2**30:.1f} GiB of states for each sequence; form: overlap needs none of it"
    return None


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of names, types, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, v in sorted(model.state_dict().items()):
        digest.update(f"{name} {v.dtype} {tuple(v.shape)}\n".encode())
        flat = v.detach().contiguous().reshape(-1)
        for i in range(0, flat.numel(), 1 << 24):
            digest.update(flat[i : i + (1 << 24)].cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


class Extension:
    """A model with a remedy, until `remove`. A context manager that removes it at its end.

    Attributes:
        model: the model, whose own calls are changed meanwhile.
        host: what remedies see of it.
        remedy: what is done.
        values: calibrated values by name of the entry.
    """

    def __init__(self, host: Host, remedy: Remedy, artefacts: dict[str, Artefact]):
        self.host, self.remedy, self._artefacts = host, remedy, artefacts
        self.model = host.model
        host.remedy = remedy
        host.attach()

    @property
    def values(self) -> dict[str, Any]:
        return {name: found.values for name, found in self._artefacts.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own `generate`."""
        return self.host.package.model.generate(*args, **kwargs)

    def remove(self) -> None:
        """Leave the model as it was, to the bit. Again is no error."""
        if self.host.remedy is not None:
            self.host.detach()
            self.host.remedy = None

    def save(self, folder: str | Path) -> list[Path]:
        """Write the calibrated values, one file for each remedy: <folder>/<name>.json.

        Raises:
            HostError: nothing was calibrated.
        """
        if not self._artefacts:
            raise HostError(f"remedy {self.remedy.name!r} has no calibrated values to save")
        return [found.write(Path(folder)) for found in self._artefacts.values()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def extend(
    model: nn.Module,
    remedy: dict[str, Any] | list[dict[str, Any]],
    L0: int | None = None,
    *,
    calibrate: Tokens | None = None,
    values: str | Path | None = None,
    lengths: tuple[float, ...] = LENGTHS,
    windows: int = 8,
    steps: int = 30,
    seed: int = 0,
    target_length: int | None = None,
) -> Extension:
    """Put a remedy on a language model, until `remove()`.

    Args:
        model: transformers' Mamba, FalconMamba, Mamba2, Jamba, Bamba, Zamba2, or mamba_ssm's MambaLMHeadModel.
        remedy: an entry as in `remedies:` of params.yaml (`docs/remedies.md`), or several, applied one after the other.
        L0: the length that the model was trained to read, tokens.
        calibrate: token ids to calibrate on; at least `windows` times the longest of the lengths.
        values: folder that `Extension.save` wrote for these weights, instead.
        lengths: T / L0 that are calibrated for; a factor given by hand is reached at the longest.
        windows: sequences to calibrate on; half to optimise on, half to keep the best by.
        steps: iterations of a search (zeroth order: two passes each; back-propagation: three).
        seed: of random signs.
        target_length: in prefix mode, the length to read for; None: that of the prompt.
    Raises:
        ConfigError: an entry that is wrong, or values of other weights; says which and why.
        HostError: a model, a text or a combination that does not go; says what would.
    """
    host = Host(model, L0)
    entries = wanted([remedy] if isinstance(remedy, dict) else list(remedy))
    parts = [e for e in entries if not isinstance(e, Combination)]
    for entry in parts:
        if (reason := refusal(host, entry, generates=True)) is not None:
            raise HostError(f"remedy {entry.name!r} ({entry.kind}, mode: {entry.mode}) is not for this model: {reason}")
    whole = _joined(parts)
    host.target_length = _told(target_length, parts)
    found = _values(host, parts, calibrate, values, list(lengths), windows, steps, seed)
    last = round(max(lengths) * host.L0)
    applied: Remedies = [*parts, whole] if isinstance(whole, Combination) else [*parts]
    made = build(whole, applied, {n: a.values for n, a in found.items()}, host, last)
    return Extension(host, made, found)


def _joined(parts: list[Entry]) -> Entry | Combination:
    """One entry that stands for all of them."""
    if not parts:
        raise HostError("found no remedy; expected one entry or more")
    if len(parts) == 1:
        return parts[0]
    values = [e.model_dump(exclude_none=True) for e in parts] + [
        {"name": "all_of_them", "combine": [e.name for e in parts]}
    ]
    return wanted(values)[-1]


def _told(target_length: int | None, parts: list[Entry]) -> int | None:
    if target_length is not None and (parts[0].mode == "stream" or target_length < 1):
        raise HostError(
            f"found target_length={target_length} with mode: {parts[0].mode}; expected a number of tokens, in mode: prefix only"
        )
    return target_length


def _values(
    host: Host, parts: list[Entry], tokens: Tokens | None, folder: str | Path | None, lengths: list[float],
    windows: int, steps: int, seed: int,
) -> dict[str, Artefact]:  # fmt: skip
    """Calibrated values of the entries that have some, found now or read."""
    needy = [e for e in parts if e.calibrated]
    if not needy and (tokens is not None or folder is not None):
        given = "calibrate" if tokens is not None else "values"
        raise HostError(f"found {given}, but {', '.join(e.name for e in parts)} has nothing to calibrate; leave it out")
    if needy and (tokens is None) == (folder is None):
        raise HostError(
            f"remedy {needy[0].name!r} has values to find: expected either calibrate=token ids or values=folder of Extension.save"
        )
    digest = weights_digest(host.model) if needy else ""
    found = {}
    for entry in needy:
        key = {"weights": digest, "L0": host.L0, "entry": entry.model_dump(mode="json", exclude={"name"})}
        if folder is not None:
            found[entry.name] = read_artefact(Path(folder) / f"{entry.name}.json", key)
            continue
        assert tokens is not None  # there is either
        begun = time.monotonic()
        fitted = calibrate_entry(host, entry, tokens, windows, steps, lengths, [], seed)
        seconds = time.monotonic() - begun
        found[entry.name] = Artefact(entry.name, key, fitted.values, windows, fitted.n_forward, seconds)
    return found
