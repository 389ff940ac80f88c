"""Passkey retrieval: a number that was told once, somewhere in a long dull text, is asked for at its end.

    passkey.parquet   remedy, mode, tokens, depth, key -> right (1 or 0), bits of the number

The number counts as right if every one of its tokens is the most likely one. (Where numbers take different counts of tokens, all
are scored over the longest, with a word of the question before the shorter.) Recall fails earlier than the prediction of next
tokens. After Mohtashami & Jaggi 2023 (arXiv:2305.16300), whose text this is in other words. Glossary: `lgmamba.hosts`.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lgmamba.hosts.audit.scores import outputs_at_the_end
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import TokenSequences
from lgmamba.remedies.remedy import Remedy

Encode = Callable[[str], list[int]]
"""Text -> token ids, without tokens that mark its ends."""
FILLER = "The grass is green. The sky is blue. The sun is warm. On we go. There and back again. "
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key. "
QUESTION = "What is the pass key? The pass key is"
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where the number is told: 0 at the start of the text, 1 right before the question."""
KEYS = 3
"""Numbers for each depth."""


class Passkeys:
    """The same numbers at the same depths, for every length, remedy and control.

    Args:
        encode: of the model's tokenizer.
        lengths: tokens of the text with its question.
        seed: of the numbers.
    Raises:
        HostError: the shortest length has no room for the question.
    """

    def __init__(self, encode: Encode, lengths: list[int], seed: int = 0):
        draw = random.Random(seed)
        self.cases = [(depth, draw.randrange(10_000, 100_000)) for depth in DEPTHS for _ in range(KEYS)]
        answers = [encode(f" {key}") for _, key in self.cases]
        self.answer = max(map(len, answers))
        self._texts = {
            T: torch.stack([_text(encode, T, depth, key, self.answer) for depth, key in self.cases]) for T in lengths
        }
        self.columns: dict[str, list[Any]] = {
            n: [] for n in ("remedy", "mode", "tokens", "depth", "key", "right", "bits")
        }

    def ask(self, host: Host, name: str, remedy: Remedy, T: int, read: int | None = None) -> None:
        """Read and ask, and note the answers.

        Args:
            read: of the T tokens, the last so many are read; None for all.
        """
        sequences = TokenSequences.of(self._texts[T]).to(host.device)
        outputs = outputs_at_the_end(host, remedy, sequences, read or T, self.answer)
        wanted = sequences.targets[:, -self.answer :]
        with torch.no_grad():
            right = (host.predict(outputs).argmax(-1) == wanted).all(1).tolist()
            bits = (host.surprise(outputs, wanted).double().sum(1) / math.log(2)).tolist()
        for (depth, key), ok, cost in zip(self.cases, right, bits, strict=True):
            row = (name, remedy.mode, T, depth, key, int(ok), cost)
            for column, value in zip(self.columns, row, strict=True):
                self.columns[column].append(value)

    def share(self, name: str, T: int) -> float | None:
        """Right answers of all, or None where nobody asked."""
        rows = zip(*(self.columns[c] for c in ("remedy", "tokens", "right")), strict=True)
        right = [ok for remedy, tokens, ok in rows if (remedy, tokens) == (name, T)]
        return sum(right) / len(right) if right else None


def _text(encode: Encode, T: int, depth: float, key: int, answer: int) -> Tensor:
    """T + 1 ids: filler with the number, the question, and the number again."""
    needle, question = encode(NEEDLE.format(key=key)), encode(QUESTION)
    said = encode(f" {key}")
    end = [*question, *said]
    room = T + 1 - len(needle) - len(end)
    if room < 0 or len(end) < answer:
        raise HostError(f"passkey: expected texts of {T + 1 - room} tokens or more; found a length of {T}")
    filler = encode(FILLER)
    before = round(depth * room)
    full = (filler * (room // len(filler) + 1))[:room]
    return torch.tensor([*full[:before], *needle, *full[before:], *end])
