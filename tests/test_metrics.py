"""PSNR is the same number wherever it is computed, and always a number that can be drawn and averaged."""

import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lgmamba.metrics import LIMIT, psnr

ORDINARY = [0.64, 0.1, 0.0123456789, 3e-5, 2.5]


def everywhere(values: list[float]) -> dict[str, list[float]]:
    """PSNR of the same errors in every form that they come in."""
    return {
        "numbers": [float(psnr(v)) for v in values],
        "numpy": psnr(np.array(values)).tolist(),
        "torch": psnr(torch.tensor(values, dtype=torch.float64)).tolist(),
        "polars": pl.DataFrame({"mse": values}).select(psnr=psnr(pl.col("mse")))["psnr"].to_list(),
    }


def test_ordinary_errors_give_ten_times_their_logarithm_to_the_bit():
    found = everywhere(ORDINARY)
    assert found["numpy"] == (-10 * np.log10(np.array(ORDINARY))).tolist()
    assert found["torch"] == (-10 * torch.tensor(ORDINARY, dtype=torch.float64).log10()).tolist()
    assert found["polars"] == pl.DataFrame({"m": ORDINARY}).select(p=-10 * pl.col("m").log10())["p"].to_list()
    single = np.array(ORDINARY, np.float32)
    assert psnr(single).dtype == np.float32
    assert (psnr(single) == -10 * np.log10(single)).all()


def test_a_perfect_copy_and_an_overflow_stay_finite_in_every_form():
    for form, found in everywhere([0.0, 1e-20, math.inf]).items():
        assert found == pytest.approx([LIMIT, LIMIT, -LIMIT], abs=1e-12), form
    assert psnr(np.zeros(2, np.float32)) == pytest.approx([LIMIT, LIMIT], abs=1e-5)


def test_what_is_no_number_stays_none():
    assert all(math.isnan(found[0]) for found in everywhere([math.nan]).values())


def test_no_other_module_takes_the_logarithm():
    package = Path(__file__).parents[1] / "lgmamba"
    found = [p.name for p in package.rglob("*.py") if re.search(r"-\s*10(\.0)? \* .*log10", p.read_text("utf-8"))]
    assert found == ["metrics.py"]
