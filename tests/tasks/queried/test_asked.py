"""Errors of single queries: at the places that are said, in both ways, counted by what they are about."""

import numpy as np
import pytest
import torch

from lgmamba.tasks.queried.asked import ASKED, nearest_read
from lgmamba.tasks.queried.places import HeldOutPlaces, field_of
from tests.tasks.queried.tiny import TOKEN, exact_model, task_of, tiny_run

STEPS = [2, 9]


def rows(columns: dict) -> dict[tuple, tuple[float, int]]:
    keys = zip(*(columns[name] for name in ("aspect", "queries", "step", "value")), strict=True)
    return dict(zip(keys, zip(columns["mse"], columns["count"], strict=True), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("form", [{}, TOKEN], ids=["plain", "length token"])
def test_what_single_queries_find(form):
    run = tiny_run(**form)
    task, model = task_of(run), exact_model(run)
    images = torch.tensor([4, 1, 7])
    sequences = task.held_out(images, "uniform", 0, 9)
    details = task.details()
    for part in (slice(0, 2), slice(2, 3)):  # batch by batch
        details.add(model, task.dataset.id_hash[images[part]], sequences[part], STEPS, 4)
    found = rows(details.columns())
    told = torch.full((3,), 6) if form else None
    for step in STEPS:
        state = model.encode(model.tokens(sequences, 0, step), None, told)[1]
        last = sequences.places[:, :step].flip(1)[:, :5]
        for way in ("sequential", "independent"):
            errors = (model.ask_at(state, last, way) - model.cut(sequences.images, last)).square().mean(2)
            assert max(v for a, w, s, v in found if (a, w, s) == ("recall", way, step)) == min(step, 5)
            for k in range(min(step, 5)):
                mse, count = found["recall", way, step, k + 1]
                assert count == 3
                assert mse == pytest.approx(float(errors[:, k].mean()), rel=1e-9)
            ranks = [found["rank", way, step, k] for k in range(1, 6)]
            assert [count for _, count in ranks] == [3] * 5
            by_distance = [v for (a, w, s, _), v in found.items() if (a, w, s) == ("distance", way, step)]
            assert sum(count for _, count in by_distance) == 15  # the same queries
            mean = np.average([m for m, _ in by_distance], weights=[n for _, n in by_distance])
            assert mean == pytest.approx(np.mean([m for m, _ in ranks]), rel=1e-9)
        first = (found["rank", way, step, 1][0] for way in ("sequential", "independent"))
        assert len({round(mse, 12) for mse in first}) == 1  # nobody wrote before the first
    assert found["rank", "sequential", 9, 3][0] != found["rank", "independent", 9, 3][0]


def test_the_distance_to_the_nearest_patch_read():
    field = field_of(6, 8, 3)  # 4 x 6 places
    read = torch.tensor([[0, 23], [8, 8]])
    places = torch.tensor([[0, 1, 7, 22], [8, 9, 0, 23]])
    expected = [[0, 1, 2**0.5, 1], [0, 1, 5**0.5, 13**0.5]]
    torch.testing.assert_close(nearest_read(field, read, places), torch.tensor(expected, dtype=torch.float64))


@torch.no_grad()
def test_a_model_that_is_told_a_length_is_told_wrong_ones():
    run = tiny_run(**TOKEN)
    task, model = task_of(run), exact_model(run)
    images = torch.tensor([4, 1, 7])
    sequences = task.held_out(images, "uniform", 0, 9)
    details = task.details()
    details.add(model, task.dataset.id_hash[images], sequences, STEPS, 4)
    found = rows(details.columns())
    told = {key[2:] for key in found if key[0] == "told"}
    assert told == {(2, length) for length in (1, 2, 4, 6, 8)}  # beyond L0 there is no right one
    assert {key[2:] for key in found if key[0] == "told_other"} == {(2, 0)}
    places = HeldOutPlaces("uniform", task.field, task.dataset.id_hash[images], ASKED).read(0, 5)
    for length in (1, 8):
        state = model.encode(model.tokens(sequences, 0, 2), None, torch.full((3,), length))[1]
        expected = (model.ask_at(state, places) - model.cut(sequences.images, places)).square().mean()
        assert found["told", "sequential", 2, length][0] == pytest.approx(float(expected), rel=1e-9)
    plain = task_of(tiny_run()).details()
    plain.add(exact_model(tiny_run()), task.dataset.id_hash[images], sequences, STEPS, 4)
    assert {key[0] for key in rows(plain.columns())} == {"rank", "distance", "recall"}
