"""Images assembled from windows: which steps make a window, what a cell is made of, and ordinary reading up to L0."""

import pytest
import torch

from lgmamba.model.runner import read_at_steps, run_sequence
from lgmamba.remedies.assemble.remedy import (
    assemble,
    consecutive_windows,
    cover_windows,
    random_windows,
    reordered_windows,
)
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


def of_windows(model, patches, cells, positions):
    """What is drawn after each of some windows, each from a fresh state: (n, B, C, H, W)."""
    drawn = [read_at_steps(model, along(patches, cells.gather(1, p)), [L0])[:, 0] for p in positions]
    return torch.stack(drawn)


@pytest.mark.parametrize(("mode", "T"), [("prefix", 3 * L0 - 2), ("stream", 2 * L0)])
def test_with_all_taken_nothing_is_routed(mode, T):
    model = exact()
    patches, cells = images(model)
    want = of_windows(model, patches, cells, consecutive_windows(3, T, L0)).mean(0)
    got = assemble(model, along(patches, cells), [T], mode, combine="all")[:, 0]
    torch.testing.assert_close(got, want, **EXACT)
    assert not torch.allclose(got, assemble(model, along(patches, cells), [T], mode)[:, 0])


def test_reordered_windows_are_the_newest_steps_in_other_orders_as_often():
    positions = reordered_windows(2, 3 * L0 - 2, L0, 0)
    assert positions.shape == consecutive_windows(2, 3 * L0 - 2, L0).shape
    newest = torch.arange(2 * L0 - 2, 3 * L0 - 2)
    assert torch.equal(positions[0, 0], newest)
    assert (positions.sort(2).values == newest).all()
    assert len({tuple(p[0].tolist()) for p in positions}) == 3
    again = reordered_windows(2, 3 * L0 - 2, L0, 1)  # of a second grouping all are at random
    assert len({tuple(p[0].tolist()) for p in (*positions, *again)}) == 6
    model = exact()
    patches, cells = images(model)
    want = of_windows(model, patches, cells, reordered_windows(3, 3 * L0, L0, 0)).mean(0)
    got = assemble(model, along(patches, cells), [3 * L0], "prefix", "reordered", "all")[:, 0]
    torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize("variant", [PLAIN, ADAPTIVE], ids=["plain", "adaptive"])
def test_carried_windows_are_drawn_by_one_pass_and_routed_as_others(variant):
    model = exact(**variant)
    patches, cells = images(model)
    T = 3 * L0 - 2
    length = None if model.conditioning is None else torch.full((3,), L0)
    ends = [L0, 2 * L0 - 2, T]
    passing = read_at_steps(model, along(patches, cells), ends, length)
    passing = torch.stack([patchify(passing[:, k], PATCH_SIZE) for k in range(3)])
    got = patchify(assemble(model, along(patches, cells), [T], "prefix", carried=True)[:, 0], PATCH_SIZE)
    for b in range(3):
        for g in range(model.grid[0] * model.grid[1]):
            readers = [n for n, p in enumerate(consecutive_windows(3, T, L0)) if g in cells[b, p[b]].tolist()]
            torch.testing.assert_close(got[b, g], passing[readers or slice(None), b, g].mean(0), **EXACT)


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
    with pytest.raises(ValueError, match="expected one of consecutive, cover, reordered, and of mean, newest, all"):
        assemble(model, along(patches, cells), [L0], "prefix", "all")
    for form in ({"windows": "cover"}, {"windows": "reordered"}, {"groupings": 2}, {"carried": True}):
        with pytest.raises(ValueError, match="need to know the whole sequence: mode 'prefix'; got mode='stream'"):
            assemble(model, along(patches, cells), [L0], "stream", **form)
    with pytest.raises(ValueError, match="got 2 with combine='newest'"):
        assemble(model, along(patches, cells), [L0], "prefix", combine="newest", groupings=2)
