"""Images assembled from windows: which steps make a window, what a cell is made of, and ordinary reading up to L0."""

import pytest
import torch

from lgmamba.model.runner import read_at_steps, run_sequence
from lgmamba.remedies.assemble.remedy import assemble, consecutive_windows, cover_windows, random_windows
from lgmamba.tasks.draw.orders import visiting_order
from lgmamba.tasks.draw.patches import patchify
from tests.model.models import EXACT, L0, PATCH_SIZE, along, exact, sequence, told

PLAIN, ADAPTIVE = {}, {"adaptive": told()}
FORMS = [("prefix", "consecutive"), ("stream", "consecutive"), ("prefix", "cover")]


def images(model, B: int = 3, T: int = 5 * L0, order: str = "replacement"):
    """All patches of some images, and a visiting order."""
    patches, _ = sequence(model, B, L=model.grid[0] * model.grid[1])
    return patches, visiting_order(order, *model.grid, B, T, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("T", [L0, L0 + 1, 2 * L0, 3 * L0 - 1])
@pytest.mark.parametrize(
    "windows",
    [
        lambda cells, n: consecutive_windows(*cells.shape, n),
        cover_windows,
        lambda cells, n: cover_windows(cells, n, torch.randperm(cells.shape[1])),
        lambda cells, n: random_windows(consecutive_windows(*cells.shape, n), torch.randperm(cells.shape[1])),
    ],
    ids=["consecutive", "cover", "cover again", "random"],
)
def test_windows_are_of_the_training_length_and_hold_every_step(windows, T):
    cells = images(exact(), T=T)[1]
    positions = windows(cells, L0)
    assert positions.shape == (-(-T // L0), 3, L0)
    assert (positions.diff(dim=2) > 0).all()
    for b in range(3):
        assert set(positions[:, b].flatten().tolist()) == set(range(T))


def test_consecutive_windows_end_at_the_last_step_and_the_first_overlaps():
    starts = consecutive_windows(1, 19, 8)[:, 0, 0]
    assert starts.tolist() == [0, 3, 11]


def test_cover_windows_hold_the_newest_visits_first():
    cells = torch.tensor([[0, 0, 1, 0, 1, 2, 0, 0]])
    # newest visits: 7 (cell 0), 5 (cell 2), 4 (cell 1); second newest: 6, 2; third newest: 3; then 1, 0
    assert cover_windows(cells, 3)[:, 0].tolist() == [[0, 1, 3], [2, 3, 6], [4, 5, 7]]


@pytest.mark.parametrize("variant", [PLAIN, ADAPTIVE], ids=["plain", "adaptive"])
@pytest.mark.parametrize(("mode", "windows"), FORMS)
def test_up_to_the_training_length_it_is_ordinary_reading(variant, mode, windows):
    model = exact(**variant)
    patches, cells = images(model)
    steps = [1, 3, L0]
    assert torch.equal(
        assemble(model, along(patches, cells), steps, mode, windows),
        run_sequence(model, along(patches, cells), steps, mode),
    )


@pytest.mark.parametrize("variant", [PLAIN, ADAPTIVE, {"position": "relative_move"}], ids=["plain", "told", "moves"])
@pytest.mark.parametrize(("mode", "windows"), FORMS)
@pytest.mark.parametrize("combine", ["mean", "newest"])
def test_every_cell_is_that_of_the_windows_that_read_it(variant, mode, windows, combine):
    model = exact(**variant)
    patches, cells = images(model)
    T = 3 * L0 - 2
    read = cells[:, : T if mode == "prefix" else 2 * L0]
    positions = cover_windows(read, L0) if windows == "cover" else consecutive_windows(*read.shape, L0)
    length = None if model.conditioning is None else torch.full((3,), L0)
    drawn = [read_at_steps(model, along(patches, read.gather(1, p)), [L0], length)[:, 0] for p in positions]
    drawn = torch.stack([patchify(image, PATCH_SIZE) for image in drawn])  # (n, B, G, K)
    got = patchify(assemble(model, along(patches, cells), [T], mode, windows, combine)[:, 0], PATCH_SIZE)
    for b in range(3):
        for g in range(model.grid[0] * model.grid[1]):
            readers = [n for n, p in enumerate(positions) if g in read[b, p[b]].tolist()]
            if combine == "newest":
                readers = readers[-1:]
            want = drawn[readers or slice(None), b, g].mean(0)
            torch.testing.assert_close(got[b, g], want, **EXACT)


def test_cover_windows_in_any_order_hold_different_cells_while_they_last():
    cells = visiting_order("replacement", 2, 3, 4, 60, torch.Generator().manual_seed(2))
    for order in (None, torch.randperm(60, generator=torch.Generator().manual_seed(0))):
        last = cells.gather(1, cover_windows(cells, 6, order)[-1])
        assert (last.sort(1).values == torch.arange(6)).all()  # every cell once


@pytest.mark.parametrize("windows", ["consecutive", "cover"])
def test_several_groupings_are_the_mean_over_all_their_windows(windows):
    model = exact()
    patches, cells = images(model, T=3 * L0)
    order = torch.randperm(3 * L0, generator=torch.Generator().manual_seed(1))
    plain = consecutive_windows(*cells.shape, L0)
    groups = [plain, random_windows(plain, order)]
    if windows == "cover":
        groups = [cover_windows(cells, L0), cover_windows(cells, L0, order)]
    positions = torch.cat(groups)
    drawn = [read_at_steps(model, along(patches, cells.gather(1, p)), [L0])[:, 0] for p in positions]
    drawn = torch.stack([patchify(image, PATCH_SIZE) for image in drawn])
    got = patchify(assemble(model, along(patches, cells), [3 * L0], "prefix", windows, groupings=2)[:, 0], PATCH_SIZE)
    for b in range(3):
        for g in set(cells[b].tolist()):
            readers = [n for n, p in enumerate(positions) if g in cells[b, p[b]].tolist()]
            torch.testing.assert_close(got[b, g], drawn[readers, b, g].mean(0), **EXACT)
    alone = assemble(model, along(patches[1:2], cells[1:2]), [3 * L0], "prefix", windows, groupings=2)
    torch.testing.assert_close(patchify(alone[:, 0], PATCH_SIZE), got[1:2], **EXACT)


def test_a_cell_that_nobody_read_is_the_mean_of_all_windows():
    model = exact()
    patches, cells = images(model)
    cells = cells.clamp(max=3)  # 4 and 5 are never read
    drawn = [read_at_steps(model, along(patches, cells[:, s : s + L0]), [L0])[:, 0] for s in (0, L0)]
    want = patchify(torch.stack(drawn).mean(0), PATCH_SIZE)
    got = patchify(assemble(model, along(patches, cells), [2 * L0], "prefix")[:, 0], PATCH_SIZE)
    torch.testing.assert_close(got[:, 4:], want[:, 4:], **EXACT)


@pytest.mark.parametrize(("mode", "windows"), FORMS)
def test_steps_are_read_together_as_alone_and_do_not_see_what_comes_later(mode, windows):
    model = exact()
    patches, cells = images(model)
    steps = [2, L0 + 3, 2 * L0, 4 * L0 + 1]
    together = assemble(model, along(patches, cells), steps, mode, windows)
    for s, t in enumerate(steps):
        alone = assemble(model, along(patches, cells[:, :t]), [t], mode, windows)
        torch.testing.assert_close(together[:, s : s + 1], alone, **EXACT)


def test_the_stream_waits_for_a_window_to_be_complete():
    model = exact()
    patches, cells = images(model)
    at = assemble(model, along(patches, cells), [L0, L0 + 1, 2 * L0 - 1, 2 * L0], "stream")
    assert torch.equal(at[:, 1], at[:, 2])
    torch.testing.assert_close(at[:, 1], at[:, 0], **EXACT)
    assert not torch.allclose(at[:, 3], at[:, 2])


def test_unknown_forms_and_cover_in_a_stream_are_refused():
    model = exact()
    patches, cells = images(model)
    with pytest.raises(ValueError, match="expected 'consecutive' or 'cover'"):
        assemble(model, along(patches, cells), [L0], "prefix", "all")
    with pytest.raises(ValueError, match="windows='cover' and several groupings need to know"):
        assemble(model, along(patches, cells), [L0], "stream", "cover")
    with pytest.raises(ValueError, match="several groupings need to know the whole sequence"):
        assemble(model, along(patches, cells), [L0], "stream", groupings=2)
    with pytest.raises(ValueError, match="got 2 with combine='newest'"):
        assemble(model, along(patches, cells), [L0], "prefix", combine="newest", groupings=2)
