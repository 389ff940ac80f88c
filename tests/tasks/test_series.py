"""Forecasting and next items: the laws of their sequences, and how forecasts are judged."""

import pytest
import torch
from pydantic import TypeAdapter

from lgmamba.config.base import ConfigError
from lgmamba.config.study import load_params
from lgmamba.data.dataset import in_memory
from lgmamba.metrics import HITS, SKILL
from lgmamba.tasks.base import Task
from lgmamba.tasks.configs import TaskConfig
from lgmamba.tasks.draws import uniform
from lgmamba.tasks.forecast.series import numbers, series
from lgmamba.tasks.next_item.histories import PER_ITEM, Histories
from lgmamba.tasks.registry import TASKS
from tests.tasks.counts import assert_drawn_from, seeded
from tests.workflow.checkouts import ROOT

LENGTHS = {"lengths": {"kind": "fixed", "value": 8}, "supervision": {"kind": "last"}}
IDS = torch.arange(40)
SERIES = {"kind": "forecast", "season": 6, "patch": 2, "waves": 2}
USERS = {"kind": "next_item", "genres": 3, "items": 10}


def task(**values) -> Task:
    config = TypeAdapter(TaskConfig).validate_python(LENGTHS | values)
    return TASKS[config.kind](config, in_memory(torch.zeros(40, 0, 0, 0, dtype=torch.uint8)))


# Forecasting


def test_a_step_reads_the_end_of_the_last_day_and_the_next_day_follows():
    forecast = task(**SERIES)
    read = forecast.held_out(IDS, "time", 0, 9)
    assert (read.x.shape, read.last.shape) == ((40, 9, 2), (40, 9, 6))
    assert torch.equal(read.last[:, :, 4:], read.x)
    assert torch.equal(read.last[:, 1:, :4], read.last[:, :-1, 2:])
    assert torch.equal(read.future[:, :-3], read.last[:, 3:])


def test_noise_and_level_have_their_law_and_the_course_repeats_itself():
    config = task(**SERIES | {"week": 0, "noise": 0.5, "memory": 0.6, "drift": 0.1}).config
    drawn = series(config, *(uniform(seeded(), 4000, n) for n in numbers(config, 9)))
    assert torch.equal(drawn.y, drawn.course + drawn.level + drawn.noise)
    torch.testing.assert_close(drawn.course[:, 6:12], drawn.course[:, :6], rtol=0, atol=1e-5)
    assert float(drawn.course.std()) == pytest.approx(1, abs=0.03)
    for n in (0, 7, 29):
        assert float(drawn.noise[:, n].std()) == pytest.approx(0.5, abs=0.03)
    pairs = torch.corrcoef(drawn.noise[:, 9:11].T)[0, 1]
    assert float(pairs) == pytest.approx(0.6, abs=0.05)
    assert float((drawn.level[:, 9] - drawn.level[:, 5]).std()) == pytest.approx(0.2, abs=0.01)


def test_nothing_added_is_the_naive_forecast_and_the_law_is_better_than_its_neighbours():
    forecast, steps = task(**SERIES), torch.tensor([1, 8])
    read = forecast.held_out(torch.arange(40), "time", 0, 9)
    known = {name: scores.values["mase"] for name, scores in forecast.baselines(read, steps, None).items()}
    torch.testing.assert_close(forecast.errors(torch.zeros(40, 2, 6), read, steps)["mase"], known["seasonal_naive"])
    at = steps - 1
    by_hand = (read.future[:, at] - read.last[:, at]).abs().mean(2) / forecast.scale
    torch.testing.assert_close(known["seasonal_naive"], by_hand)
    assert float(known["seasonal_naive"].mean()) == pytest.approx(1, abs=0.15)
    assert SKILL.of_mean(0.25) == 75
    law = read.law[:, at] - read.last[:, at]
    best = float(forecast.errors(law, read, steps)["mase"].mean())
    assert best == pytest.approx(float(known["law"].mean()))
    for other in (law + 0.3, law - 0.3, 0.5 * law):
        assert float(forecast.errors(other, read, steps)["mase"].mean()) > best


# Next items


def test_users_stay_with_a_genre_and_choose_popular_items_by_their_law():
    config = task(**USERS, stay=0.5, taste=0.0).config
    read = Histories.of(config, *(uniform(seeded(), 3000, n) for n in (3, PER_ITEM * 5)))
    assert torch.equal(read.symbol[:, 1:], read.following[:, :-1])
    assert torch.equal(read.symbol // 10, read.genre)
    assert_drawn_from(read.genre[:, 2], torch.ones(3))
    assert_drawn_from(read.symbol[:, 3] % 10, 1 / torch.arange(1, 11))
    stayed = (read.genre[:, 1:] == read.genre[:, :-1]).float().mean()
    assert float(stayed) == pytest.approx(0.5 + 0.5 / 3, abs=0.02)


def test_a_hit_is_among_the_first_ten_and_counts_by_its_rank():
    users, steps = task(**USERS), torch.tensor([8])
    read = users.held_out(IDS, "time", 0, 8)
    own = torch.nn.functional.one_hot(users.targets(read, steps), 30).float()
    for above, hit, gain in ((0, 1, 1.0), (2, 1, 0.5), (9, 1, 0.2890648), (10, 0, 0.0)):
        others = torch.arange(30).flip(0) < above
        scores = torch.where(own > 0, 0.5, others.float())
        short = (own[:, 0] * others).sum(1)  # where the right item is among those put above it, one is missing
        fair = short == 0
        found = users.errors(scores, read, steps)
        assert (1 - found["miss_10"][fair, 0] == hit).all()
        torch.testing.assert_close(1 - found["ndcg_loss_10"][fair, 0], torch.full((int(fair.sum()),), gain))
    assert users.errors(torch.zeros(40, 1, 30), read, steps)["miss_10"].all()
    assert HITS.of_mean(0.25) == 75


def test_who_knows_taste_and_genre_hits_more_than_popularity():
    users, steps = task(**USERS), torch.tensor([1, 8])
    read = users.held_out(IDS, "time", 0, 8)
    hits = {name: 1 - s.values["miss_10"].mean() for name, s in users.baselines(read, steps, None).items()}
    assert hits["law"] > hits["popularity"] + 0.1


WINDOWS = {"remedies": [{"name": "w", "kind": "assemble", "mode": "stream"}], "claims": {"primary": []}}


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("forecast", {"task": {"patch": 7}}, r"task\.patch: found 7, expected: a divisor of task\.season, 48"),
        ("forecast", WINDOWS, r"remedies\.0: .* the newest values"),
        ("next_item", WINDOWS, r"remedies\.0: .* the newest ones"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_reason(preset, change, message):
    with pytest.raises(ConfigError, match=message):
        load_params(ROOT / "params.yaml", preset=preset, overrides=change)
