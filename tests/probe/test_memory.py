"""Cumulative steps, survival and horizons against loops."""

import math

import torch

from lgmamba.probe.memory import cumulative_steps, horizons, survival
from tests.model.models import exact, fresh, moved, sequence
from tests.model.passes import seen


@torch.no_grad()
def test_horizons_and_survival_equal_brute_force():
    model = exact({"dt_min": 0.2, "dt_max": 0.9})
    for call in seen(model, *sequence(model, L=40)):
        total = cumulative_steps(call)
        for t in (1, 3, 17, 40):
            got, left = horizons(total, call.rates(), t), survival(total, call.rates(), t)
            for b in range(3):
                for d in range(0, 24, 5):
                    S = [0.0, *total[b, :, d].tolist()]
                    for n in range(4):
                        size = call.rates()[d, n].item()
                        found = [w for w in range(1, t + 1) if size * (S[t] - S[t - w]) >= 1 - 1e-12]
                        assert float(got[b, d, n]) == (found[0] if found else math.inf)
                        assert abs(float(left[b, d, n]) - math.exp(-size * S[t])) < 1e-14


def test_sums_of_a_single_precision_model_are_double():
    model = moved(fresh())
    (call, _) = seen(model, *sequence(model, L=40))
    total = cumulative_steps(call)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total[:, -1], call.dt.double().sum(1), rtol=1e-14, atol=0)
    assert torch.isinf(horizons(total, call.rates() * 1e-6, 40)).all()
    assert (horizons(total, call.rates() * 1e6, 40) == 1).all()
