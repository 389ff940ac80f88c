"""How far each training by itself is right."""

import polars as pl

from lgmamba.config.study import load_params
from lgmamba.report.held import held_context
from tests.config.studies import PARAMS

LEVELS = {
    0: {1: 100.0, 20: 95.0, 40: 89.9, 80: 20.0},
    1: {1: 100.0, 20: 90.0, 40: 100.0, 80: 91.0},
    2: {1: 50.0, 20: 0.0, 40: 0.0, 80: 0.0},
}


def frame(**changes: object) -> pl.DataFrame:
    rows = [
        {
            "run": "parity_lstm",
            "seed": seed,
            "mode": "prefix",
            "order": "uniform",
            "method": "model",
            "step": step,
            "psnr": level,
        }
        | changes
        for seed, levels in LEVELS.items()
        for step, level in levels.items()
    ]
    return pl.DataFrame(rows)


def test_the_longest_length_at_which_nine_of_ten_are_right_is_of_each_training():
    params = load_params(PARAMS, "recall_automata")
    others = [frame(mode="stream"), frame(method="chance"), frame(order="another")]
    assert held_context(params, pl.concat([*others, frame()])) == [
        {"run": "parity_lstm", "L0": 40, "to": [None, 20, 80]},
    ]


def test_levels_that_are_no_shares_of_right_answers_are_left_out():
    assert held_context(load_params(PARAMS, "forecast"), frame()) == []
