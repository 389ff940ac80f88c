"""Long sequences are read piece by piece: only a piece is ever in memory, and nothing changes by it."""

import pytest
import torch

from lgmamba.model.runner import read_at_steps, run_sequence
from lgmamba.tasks.draw.model import PatchMamba
from lgmamba.tasks.draw.orders import orders_of_images
from lgmamba.tasks.draw.patches import patchify
from tests.model.models import along

LONG = [1, 6, 30, 64, 149, 150]  # up to 25 times the training length of 6


@pytest.fixture
def pieces(monkeypatch) -> list[int]:
    """Steps of every call of `PatchMamba.encode`."""
    seen: list[int] = []
    encode = PatchMamba.encode

    def spy(self, tokens, *args, **options):
        seen.append(tokens.shape[1])
        return encode(self, tokens, *args, **options)

    monkeypatch.setattr(PatchMamba, "encode", spy)
    return seen


def long_reading(study) -> tuple[torch.Tensor, torch.Tensor]:
    rows = study.rows(3)
    patches = patchify(study.dataset.images[rows].float() / 255, 2)
    return patches, orders_of_images("permutation", 4, 4, study.dataset.id_hash[rows], 1, 150)[:, 0]


def test_25_times_the_training_length_keeps_no_more_than_a_piece(study, pieces):
    found = read_at_steps(study.model("plain"), along(*long_reading(study)), LONG, chunk=7)
    assert found.shape == (3, 6, 1, 8, 8)
    assert max(pieces) == 7
    assert sum(pieces) == 150  # every step once


def test_each_length_told_is_read_in_pieces_too(study, pieces):
    run_sequence(study.model("told"), along(*long_reading(study)), LONG, "prefix", chunk=7)
    assert max(pieces) == 7
    assert sum(pieces) == sum(LONG)
    pieces.clear()
    run_sequence(study.model("told"), along(*long_reading(study)), LONG, "stream", chunk=7)
    assert (max(pieces), sum(pieces)) == (7, 150)


def test_the_probe_reads_in_pieces_as_configured(study, pieces, tmp_path):
    study.reconstruct("plain", out=tmp_path, images=2, chunk=5)
    assert max(pieces) == 5
    assert sum(pieces) == 2 * 2 * 24 + 24  # orders x repeats, once for both modes; once for the pictures
    pieces.clear()
    study.reconstruct("told", out=tmp_path, images=2, chunk=5)
    file = study.evaluation_file("told")
    assert max(pieces) == 5
    assert sum(pieces) == 2 * 2 * (24 + sum(file.steps)) + sum(file.panel_steps)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 7, 50, 149])
def test_pieces_give_what_one_pass_gives(study, chunk):
    model, (patches, cells) = study.model("plain"), long_reading(study)
    whole = model(along(patches, cells), torch.tensor(LONG).expand(3, -1))
    found = read_at_steps(model, along(patches, cells), LONG, chunk=chunk)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)  # float32 over 150 steps, grouped differently


def test_nothing_after_the_last_step_asked_for_is_read(study, pieces):
    read_at_steps(study.model("plain"), along(*long_reading(study)), [3, 9], chunk=7)
    assert pieces == [7, 2]


def test_another_mode_is_refused(study):
    with pytest.raises(ValueError, match="mode='both'; expected 'stream' or 'prefix'"):
        run_sequence(study.model("plain"), along(*long_reading(study)), [1], "both")
