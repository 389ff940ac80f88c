"""Visiting orders: by hand, by law, and the promises that probing relies on."""

import pytest
import torch

from lgmamba.tasks.draw.orders import ORDERS, last_visits, orders_of_images, visiting_order
from tests.tasks.counts import assert_drawn_from, seeded

RANDOM = ("permutation", "cycle", "replacement")
IDS = torch.tensor([7, 0, 123456789, 2**63 - 1, 7 + 1])


def order(name: str, gh: int, gw: int, batch: int = 1, steps: int | None = None, seed: int = 0) -> torch.Tensor:
    return visiting_order(name, gh, gw, batch, gh * gw if steps is None else steps, seeded(seed))


@pytest.mark.parametrize(
    ("name", "gh", "gw", "path"),
    [
        ("raster", 2, 3, [0, 1, 2, 3, 4, 5]),
        ("raster", 3, 2, [0, 1, 2, 3, 4, 5]),
        ("snake", 2, 3, [0, 1, 2, 5, 4, 3]),
        ("snake", 3, 2, [0, 1, 3, 2, 4, 5]),
        ("snake", 1, 4, [0, 1, 2, 3]),
        ("snake", 3, 1, [0, 1, 2]),
        ("hilbert", 1, 1, [0]),
        ("hilbert", 2, 2, [0, 2, 3, 1]),
        ("hilbert", 4, 4, [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3]),
        ("hilbert", 2, 3, [0, 1, 4, 3, 5, 2]),  # the 4 x 4 curve without row 2 and 3 and column 3
        ("hilbert", 3, 2, [0, 1, 3, 2, 4, 5]),
        ("hilbert", 1, 4, [0, 1, 2, 3]),
    ],
)
def test_fixed_paths_by_hand(name, gh, gw, path):
    assert order(name, gh, gw, batch=2).tolist() == [path, path]
    assert order(name, gh, gw, steps=2 * len(path) + 1)[0].tolist() == [*path, *path, path[0]]


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_a_hilbert_curve_moves_to_a_neighbour(side):
    cells = order("hilbert", side, side)[0]
    moves = (cells // side).diff().abs() + (cells % side).diff().abs()
    assert torch.equal(moves, torch.ones_like(moves))


@pytest.mark.parametrize("name", sorted(set(ORDERS) - {"replacement"}))
@pytest.mark.parametrize(("gh", "gw"), [(1, 1), (2, 3), (5, 3), (4, 4), (7, 8)], ids=str)
def test_each_cell_is_visited_once_a_round(name, gh, gw):
    G = gh * gw
    cells = order(name, gh, gw, batch=3, steps=3 * G + G // 2)
    rounds = cells[:, : 3 * G].unflatten(1, (3, G)).sort(-1).values
    assert torch.equal(rounds, torch.arange(G).expand(3, 3, G))
    assert all(len(set(rest)) == G // 2 for rest in cells[:, 3 * G :].tolist())


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("steps", [1, 11, 12, 13, 30])
def test_shape_type_and_range_at_any_length(name, steps):
    cells = order(name, 3, 4, batch=5, steps=steps)
    assert (cells.shape, cells.dtype) == ((5, steps), torch.int64)
    assert (cells >= 0).all() and (cells < 12).all()


@pytest.mark.parametrize("name", RANDOM)
def test_random_orders_follow_the_generator_and_differ_within_a_batch(name):
    first = order(name, 4, 4, batch=8, seed=3)
    assert torch.equal(first, order(name, 4, 4, batch=8, seed=3))
    assert not torch.equal(first, order(name, 4, 4, batch=8, seed=4))
    assert len({tuple(row) for row in first.tolist()}) == 8


def test_a_permutation_is_drawn_afresh_every_round_and_a_cycle_is_repeated():
    fresh, same = (order(name, 4, 4, batch=8, steps=48).unflatten(1, (3, 16)) for name in ("permutation", "cycle"))
    assert not (fresh[:, 0] == fresh[:, 1]).all(-1).any()
    assert not (fresh[:, 1] == fresh[:, 2]).all(-1).any()
    assert torch.equal(same[:, :1].expand_as(same), same)


@pytest.mark.parametrize("name", ["permutation", "cycle"])
def test_all_permutations_are_equally_likely(name):
    cells = order(name, 1, 3, batch=6000, seed=1)
    assert_drawn_from(cells @ torch.tensor([9, 3, 1]), permutations_of_3())


def test_the_rounds_of_a_permutation_are_independent():
    last, first = order("permutation", 1, 4, batch=8000, steps=8, seed=2)[:, 3:5].unbind(1)
    assert_drawn_from(4 * last + first, torch.full((16,), 1 / 16))


def test_replacement_is_uniform_and_independent():
    cells = order("replacement", 3, 4, batch=200, steps=100, seed=5)
    assert_drawn_from(cells, torch.full((12,), 1 / 12))
    assert_drawn_from(12 * cells[:, :-1] + cells[:, 1:], torch.full((144,), 1 / 144))


@pytest.mark.parametrize("name", ORDERS)
def test_a_longer_order_of_an_image_only_appends(name):
    longest = orders_of_images(name, 3, 4, IDS, 2, 300)
    for steps in (1, 5, 11, 12, 13, 24, 25, 200):
        assert torch.equal(orders_of_images(name, 3, 4, IDS, 2, steps), longest[..., :steps])


@pytest.mark.parametrize("name", ORDERS)
def test_the_orders_of_an_image_do_not_depend_on_the_others(name):
    together = orders_of_images(name, 4, 4, IDS, 3, 40)
    assert together.shape == (len(IDS), 3, 40)
    for i in range(len(IDS)):
        assert torch.equal(orders_of_images(name, 4, 4, IDS[i : i + 1], 3, 40)[0], together[i])
    shuffled = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(orders_of_images(name, 4, 4, IDS[shuffled], 3, 40), together[shuffled])
    assert torch.equal(orders_of_images(name, 4, 4, IDS, 1, 40), together[:, :1])


@pytest.mark.parametrize("name", RANDOM)
def test_images_and_repeats_have_orders_of_their_own(name):
    rows = orders_of_images(name, 4, 4, IDS, 3, 16).flatten(0, 1).tolist()
    assert len({tuple(row) for row in rows}) == len(rows)


def test_the_first_cells_of_images_are_uniform_over_neighbouring_ids():
    cells = orders_of_images("permutation", 2, 4, torch.arange(1500), 2, 8)
    assert_drawn_from(cells[..., 0], torch.full((8,), 1 / 8))
    assert_drawn_from(8 * cells[:, 0, 0] + cells[:, 1, 0], torch.full((64,), 1 / 64))


def test_an_unknown_order_is_answered_with_those_that_exist():
    with pytest.raises(
        ValueError, match=r"order='zigzag' is unknown; expected one of \['cycle', 'hilbert', .*'snake'\]"
    ):
        order("zigzag", 2, 2)


@pytest.mark.parametrize("name", ["replacement", "permutation", "snake"])
def test_the_last_visit_by_brute_force(name):
    cells, steps = order(name, 2, 3, batch=3, steps=17, seed=6), [1, 2, 5, 6, 11, 16]
    found = last_visits(cells, 6, torch.tensor(steps))
    assert (found.shape, found.dtype) == ((3, 6, 6), torch.int64)
    for b, row in enumerate(cells.tolist()):
        for s, step in enumerate(steps):
            for cell in range(6):
                visits = [t for t in range(step) if row[t] == cell]
                assert found[b, s, cell] == (visits[-1] if visits else -1)


@pytest.mark.parametrize("steps", [[], [0, 3], [3, 2], [2, 2], [4, 18]])
def test_last_visits_are_asked_for_at_ascending_steps_that_there_are(steps):
    with pytest.raises(ValueError, match="expected ascending steps from 1 to 17"):
        last_visits(order("snake", 2, 3, steps=17), 6, torch.tensor(steps, dtype=torch.int64))


def permutations_of_3() -> torch.Tensor:
    """Law of 9 a + 3 b + c over the permutations (a, b, c) of 0, 1, 2."""
    law = torch.zeros(22, dtype=torch.float64)
    law[[9 * a + 3 * b + (3 - a - b) for a in range(3) for b in range(3) if a != b]] = 1 / 6
    return law
