"""Controls keep ascending steps, at most L0 of them, and all of a short sequence."""

import pytest
import torch

from lgmamba.remedies.controls import reset, subset_cover, subset_random, truncate
from lgmamba.tasks.draw.orders import visiting_order

L0, G = 6, 4


def cells(T: int, order: str = "replacement") -> torch.Tensor:
    return visiting_order(order, 2, 2, 5, T, torch.Generator().manual_seed(T))


def kept(name: str, T: int) -> torch.Tensor:
    random_scores = torch.rand(5, T, generator=torch.Generator().manual_seed(0))
    return {
        "truncate": lambda c: truncate(c, L0),
        "reset": lambda c: reset(c, L0),
        "subset_random": lambda c: subset_random(random_scores, L0),
        "subset_cover": lambda c: subset_cover(c, L0, G),
    }[name](cells(T))


NAMES = ["truncate", "reset", "subset_random", "subset_cover"]


@pytest.mark.parametrize("T", [1, 5, 6])
@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_within_the_training_length_is_read_whole(name, T):
    assert torch.equal(kept(name, T), torch.arange(T).expand(5, -1))


@pytest.mark.parametrize("T", [7, 12, 13, 40])
@pytest.mark.parametrize("name", NAMES)
def test_kept_steps_ascend_and_are_at_most_the_training_length(name, T):
    positions = kept(name, T)
    assert positions.shape[1] <= L0
    assert (positions.diff(dim=1) > 0).all()
    assert ((positions >= 0) & (positions < T)).all()


def test_truncate_and_reset_by_hand():
    assert truncate(cells(9), L0)[0].tolist() == [3, 4, 5, 6, 7, 8]
    assert reset(cells(9), L0)[0].tolist() == [6, 7, 8]
    assert reset(cells(12), L0)[0].tolist() == [6, 7, 8, 9, 10, 11]


def test_cover_takes_the_newest_visit_of_every_cell_and_fills_with_the_newest_rest():
    order = torch.tensor([[0, 1, 2, 3, 3, 3, 3, 3, 2, 3]])
    # newest of the cells: 0 at 0, 1 at 1, 2 at 8, 3 at 9; then 7 and 6
    assert subset_cover(order, L0, G)[0].tolist() == [0, 1, 6, 7, 8, 9]


def test_cover_with_fewer_steps_than_cells_takes_the_newest_cells():
    order = torch.tensor([[0, 1, 2, 3, 0, 3]])  # newest: 1 at 1, 2 at 2, 0 at 4, 3 at 5
    assert subset_cover(order, 3, G)[0].tolist() == [2, 4, 5]


def test_random_subsets_are_uniform():
    counts = torch.zeros(10)
    for seed in range(400):
        positions = subset_random(torch.rand(5, 10, generator=torch.Generator().manual_seed(seed)), L0)
        counts += torch.bincount(positions.flatten(), minlength=10)
    expected = 400 * 5 * L0 / 10
    assert ((counts - expected).abs() < 5 * expected**0.5).all()  # five standard deviations
