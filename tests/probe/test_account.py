"""The account of the modes: moments by hand, the share of variance explained, and a model whose states obey the forecast."""

import math

import pytest
import torch

from lgmamba.probe import remedy_effects
from lgmamba.probe.account import Account, Moments, explained, growth, mode_account
from lgmamba.probe.dynamics import ModeMemory
from lgmamba.probe.remedy_effects import POWERS, REMEDIES, Remedies, remedy_effect
from lgmamba.probe.stops import stops
from lgmamba.remedies.closed_form import StateRecorder
from lgmamba.tasks.draw.sequences import DrawSequences
from tests.model.models import L0, exact
from tests.model.passes import seen
from tests.probe.test_receptive_field import sequences


def test_moments_by_hand():
    h = [torch.tensor([[[1.0, -2.0]], [[3.0, 2.0]]]), torch.tensor([[[2.0, 0.0]]])]
    got = Moments.of(h)
    assert got.mean.tolist() == [[2.0, 0.0]]
    assert got.rms.tolist() == [[pytest.approx((14 / 3) ** 0.5), pytest.approx((8 / 3) ** 0.5)]]
    assert got.error.tolist() == [[pytest.approx((1 / 3) ** 0.5), pytest.approx((4 / 3) ** 0.5)]]
    assert growth(Moments.of([-4 * h[0], -4 * h[1]]), got, "mean")[0, 0].item() == pytest.approx(4.0)
    assert growth(Moments.of([-4 * h[0], -4 * h[1]]), got, "rms").flatten().tolist() == pytest.approx([4.0, 4.0])


def test_share_of_variance_explained_by_hand():
    measured = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    even = torch.ones(4, dtype=torch.float64)
    perfect = explained(measured, measured, even)
    assert (perfect.share, perfect.correlation, perfect.modes) == (1.0, pytest.approx(1.0), 4)
    constant = explained(measured, torch.full_like(measured, 8**0.5), even)  # the mean of the logarithms
    assert constant.share == pytest.approx(0.0, abs=1e-12)
    assert constant.correlation is None
    half = explained(measured, 2 * measured, even)  # off by ln 2 everywhere; variance 5/4 ln^2 2
    assert half.share == pytest.approx(1 - 4 / 5)
    assert half.correlation == pytest.approx(1.0)
    first = explained(measured, torch.tensor([1.0, 2.0, 1.0, 1.0]).double(), torch.tensor([1.0, 1.0, 0, 0]).double())
    assert first.share == pytest.approx(1.0)
    assert explained(measured[:1], measured[:1], even[:1]).share is None


def independent(model, n: int, T: int, seed: int) -> DrawSequences:
    """One image for all, cells drawn independently: what the theory is about."""
    g = torch.Generator().manual_seed(seed)
    seq = sequences(model, 1)
    return DrawSequences(
        seq.targets.expand(n, -1, -1, -1), seq.patches.expand(n, -1, -1), torch.randint(6, (n, T), generator=g)
    )


@pytest.fixture(scope="module")
def known():
    """The first layer without its convolution reads independent tokens, so that it obeys the theory exactly."""
    torch.manual_seed(0)
    model = exact({"d_conv": 1})
    batches = [independent(model, 3000, 5 * L0, seed) for seed in (0, 1)]
    return model, batches, mode_account(model, batches, [L0, 2 * L0, 5 * L0], chunk=7)


def test_states_of_independent_tokens_grow_as_forecast(known):
    _, _, account = known
    for T in (2 * L0, 5 * L0):
        tested = account.tested(0)
        assert tested.float().mean() > 0.9
        measured, predicted = account.measured(0, T, "mean")[tested], account.memory[0].inflation(L0, T)[tested]
        found = explained(measured, predicted, account.weight(0, "mean")[tested])
        assert found.share > 0.99
        assert found.modes == int(tested.sum())
        torch.testing.assert_close(measured.log().mean(), predicted.log().mean(), rtol=0.02, atol=0)


def test_writes_are_summed_with_constant_decays(known):
    """Against a loop, and where the theory holds the sums are the means of the states themselves."""
    model, batches, account = known
    for T in (L0, 2 * L0):
        tested = account.tested(0)
        torch.testing.assert_close(account.totals[T][0][tested], account.moments[T][0].mean[tested], rtol=0.05, atol=0)
    calls = [seen(model, *seq[:50].read(0, 2 * L0)) for seq in batches]
    got = mode_account(model, [seq[:50] for seq in batches], [L0, 2 * L0], chunk=5)
    for layer in (0, 1):
        want = 0
        for t in range(2 * L0):
            writes = [(one[layer].dt * one[layer].x)[:, t, :, None] * one[layer].Bmat[:, t, None] for one in calls]
            want = got.memory[layer].rho * want + torch.stack(writes).mean((0, 1))
        torch.testing.assert_close(got.totals[2 * L0][layer], want, rtol=1e-9, atol=1e-12)
        ratio = (got.totals[2 * L0][layer] / got.totals[L0][layer]).abs()
        torch.testing.assert_close(got.predicted(layer, 2 * L0, "writes"), ratio)
        torch.testing.assert_close(got.predicted(layer, 2 * L0, "memory"), got.memory[layer].inflation(L0, 2 * L0))


def test_the_account_does_not_depend_on_pieces_and_keeps_distances(known):
    model, batches, _ = known
    short = [seq[:20] for seq in batches]
    a, b = (mode_account(model, short, [L0, 2 * L0], chunk) for chunk in (3, 100))
    for layer in (0, 1):
        torch.testing.assert_close(a.memory[layer].rho, b.memory[layer].rho, rtol=1e-12, atol=0)
        torch.testing.assert_close(a.moments[2 * L0][layer].mean, b.moments[2 * L0][layer].mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(a.distances[2 * L0][layer], b.distances[2 * L0][layer], rtol=1e-9, atol=1e-12)
        assert (a.distances[L0][layer] <= L0 - 1).all()
        assert a.weight(layer, "rms").sum().item() == pytest.approx(1.0)


def test_remedies_move_memory_and_growth_as_they_should(known, monkeypatch):
    monkeypatch.setattr(remedy_effects, "RECORDED", None)  # every sequence, for the sake of tolerances
    model, batches, account = known
    remedies = Remedies.of(model, batches[0][:500], account, chunk=9)
    T = 5 * L0
    found = {name: remedy_effect(model, batches[1], T, 16, *remedies.hook(name, T), account) for name in REMEDIES}
    plain = found["none"]
    tested, weight = account.tested(0), account.weight(0, "mean")
    torch.testing.assert_close(plain.tau[0], account.memory[0].tau, rtol=0.05, atol=0)
    for name, got in found.items():
        measured = growth(got.moments[0], account.moments[L0][0], "mean")
        if name != "longmamba":  # six tokens have six step sizes: some channels are masked whole
            assert explained(measured[tested], got.predicted[0][tested], weight[tested]).share > 0.9, name
    lasting = remedies.filters[0].long_memory
    assert (found["longmamba"].tau[0][lasting] > plain.tau[0][lasting]).all()
    torch.testing.assert_close(found["longmamba"].predicted[0][~lasting], plain.predicted[0][~lasting])
    # small decays: a fifth of the step size is five times the memory; nothing grows
    slow = account.memory[0].tau > 5
    torch.testing.assert_close(found["step_size"].tau[0][slow], 5 * plain.tau[0][slow], rtol=0.1, atol=0)
    grown = {name: got.predicted[0][slow].log().abs().mean() for name, got in found.items()}
    assert grown["step_size"] < 0.5 * grown["none"]
    assert (found["retain"].tau[0] < plain.tau[0]).all()
    (end,) = stops(model, batches[1], [T], 16)
    torch.testing.assert_close(plain.stop.output, end.output, rtol=1e-12, atol=1e-12)


def test_the_power_of_the_spectrum_is_the_best_of_those_tried():
    """One mode with rho known: |A| must grow so far as to bring F(T) near F(L0)."""
    A = torch.tensor([[-2.0]], dtype=torch.float64)
    rho = torch.exp(0.02 * A)
    one = torch.ones(1, 1, dtype=torch.float64)
    account = Account(8, [ModeMemory.of(rho)], {8: [Moments(one, one, 0 * one)]}, {}, {})
    recorder = StateRecorder()
    recorder.step_sizes, recorder.A = {0: [torch.full((1, 700, 1), 0.02, dtype=torch.float64)]}, {0: A}
    s = Remedies(account, recorder, []).power(0, 80)

    def miss(s: float) -> float:
        r = math.exp(-0.02 * 2**s)
        return abs(math.log((1 - r**80) / (1 - r)) - math.log(float(account.memory[0].total(8))))

    assert s == min(POWERS, key=miss)
    assert s > 1
