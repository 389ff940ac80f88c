"""An encoder is one module and a line: nothing else knows which there are."""

import re
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

import lgmamba.tradeoff
from lgmamba.tradeoff.encoders import Encoder
from lgmamba.tradeoff.encoders.base import EncoderBase
from lgmamba.tradeoff.training import StackTraining, batches, build_stack
from tests.tradeoff.studies import images, stack

HOME = Path(lgmamba.tradeoff.__file__).parent
KINDS = [kind.model_fields["kind"].annotation for kind in get_args(get_args(Encoder)[0])]


class RowsEncoder(EncoderBase):
    """One that the package has never heard of: a recurrent layer over the rows of an image."""

    kind: Literal["rows"] = "rows"
    width: int = 4

    def build(self, shape, latent):
        return Rows(shape[0] * shape[2], self.width, latent)

    def halved(self):
        return self.model_copy(update={"width": self.width // 2})


class Rows(nn.Module):
    def __init__(self, pixels: int, width: int, latent: int):
        super().__init__()
        self.read, self.out = nn.Linear(pixels + width, width), nn.Linear(width, latent)
        self.width = width

    def forward(self, images):
        state = images.new_zeros(len(images), self.width)
        for row in images.movedim(2, 0).flatten(2):
            state = torch.tanh(self.read(torch.cat([row, state], -1)))
        return self.out(state)


def test_an_encoder_of_its_own_trains_as_a_stack():
    file, split = stack().model_copy(update={"encoder": RowsEncoder()}), images()
    made = build_stack(file, (1, 8, 8), 4, torch.device("cpu"))
    training = StackTraining(file, made, split)
    before = made.encoder.snapshot()
    for rows, _ in zip(batches(len(split), file), range(3), strict=False):
        training.step(rows)
    moved = {name: value != before[name] for name, value in made.encoder.parameters.items()}
    assert all(bool(changed.flatten(1).any(1).all()) for changed in moved.values())  # of every seed and weight


def test_only_their_own_modules_name_kinds_of_encoders():
    kinds = [get_args(kind)[0] for kind in KINDS]
    assert len(kinds) == len(list((HOME / "encoders").glob("*.py"))) - 2  # base, __init__
    named = re.compile(rf'["\']({"|".join(kinds)})["\']|[A-Z][a-z]+Encoder\b')
    for module in HOME.rglob("*.py"):
        if module.parent.name != "encoders":
            assert not named.search(module.read_text(encoding="utf-8")), module
