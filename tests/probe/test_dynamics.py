"""Memory of modes: the recorder's means, the closed form, and the prediction against a simulation."""

import math

import pytest
import torch

from lgmamba.probe.dynamics import DecayRecorder, DistanceRecorder, ModeMemory, mode_memory
from tests.model.models import exact, fresh, sequence
from tests.model.passes import CUTS, in_pieces, seen


def test_the_recorder_averages_over_samples_and_steps_whatever_the_pieces():
    model = exact()
    patches, cells = sequence(model)
    calls = seen(model, patches, cells)
    want = [torch.exp(call.dt[..., None] * call.A).mean((0, 1)) for call in calls]
    for sizes in (CUTS[0], CUTS[5]):
        recorder = DecayRecorder()
        in_pieces(model, patches, cells, None, sizes, recorder)
        for got, expected in zip(recorder.rho(), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)  # float64 sums in another order
        for got, call in zip(recorder.step_size(), calls, strict=True):
            torch.testing.assert_close(got, call.dt.mean((0, 1)), rtol=1e-10, atol=0)


def test_the_recorder_may_count_the_first_samples_only():
    model = exact()
    patches, cells = sequence(model)
    few, alone = DecayRecorder(2), DecayRecorder()
    model.encode(model.embed(patches, cells), hook=few)
    model.encode(model.embed(patches[:2], cells[:2]), hook=alone)
    for got, want in zip(few.rho(), alone.rho(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def test_memory_and_inflation_by_hand():
    rho = torch.tensor([[math.exp(-1 / 4), 1.0, 1e-9]], dtype=torch.float64)
    memory = ModeMemory.of(rho)
    assert memory.tau[0, 0].item() == pytest.approx(4.0, rel=1e-12)
    got = memory.inflation(L0=8, T=200)[0].tolist()
    assert got[0] == pytest.approx((1 - math.exp(-50)) / (1 - math.exp(-2)), rel=1e-12)
    assert got[1] == 25.0  # a mode that never forgets grows as the length
    assert got[2] == pytest.approx(1.0, rel=1e-8)  # one that forgets at once has converged


def test_predicted_inflation_is_that_of_a_simulation():
    g = torch.Generator().manual_seed(0)
    A, n, L0, T = -torch.tensor([0.02, 0.2, 2.0], dtype=torch.float64), 4000, 16, 160
    h, at_L0, decays = torch.zeros(n, 3, dtype=torch.float64), None, torch.zeros(3, dtype=torch.float64)
    for t in range(1, T + 1):
        dt = torch.nn.functional.softplus(torch.randn(n, 1, generator=g, dtype=torch.float64) * 0.5 - 1)
        write = dt * (1 + torch.randn(n, 1, generator=g, dtype=torch.float64))
        decays += torch.exp(dt * A).mean(0) / T
        h = torch.exp(dt * A) * h + write
        at_L0 = h.mean(0) if t == L0 else at_L0
    predicted = ModeMemory.of(decays[None]).inflation(L0, T)[0]
    torch.testing.assert_close(h.mean(0) / at_L0, predicted, rtol=0.05, atol=0)  # means over 4,000 sequences


def test_every_layer_has_its_modes():
    model = exact()
    recorder = DecayRecorder()
    model.encode(model.embed(*sequence(model)), hook=recorder)
    memories = mode_memory(recorder)
    assert [m.rho.shape for m in memories] == [(24, 4)] * 2
    assert all(((m.rho > 0) & (m.rho < 1) & (m.tau > 0)).all() for m in memories)


def test_groups_are_split_at_half_and_twice_the_training_length():
    tau = torch.tensor([[0.1, 3.99, 4.01, 15.9, 16.1, 1e9]], dtype=torch.float64)
    assert ModeMemory.of(torch.exp(-1 / tau)).group(8).tolist() == [[0, 0, 1, 1, 2, 2]]


@pytest.mark.parametrize("sizes", CUTS)
def test_distances_of_modes_equal_brute_force_whatever_the_pieces(sizes):
    model = exact()
    patches, cells = sequence(model)
    recorder = DistanceRecorder()
    in_pieces(model, patches, cells, None, sizes, recorder)
    back = torch.arange(12, -1, -1)[:, None, None]
    for got, call in zip(recorder.distances(), seen(model, patches, cells), strict=True):
        total = call.dt.cumsum(1)
        weight = (
            torch.exp((total[:, -1:] - total)[..., None] * call.A) * call.dt[..., None] * call.Bmat[:, :, None].abs()
        )
        torch.testing.assert_close(got, (weight * back).sum(1) / weight.sum(1), rtol=1e-12, atol=1e-12)


def test_distances_keep_their_precision_in_single_precision():
    """Far into a sequence a mode that forgets at once still looks back by a fraction of a step only."""
    model, double = fresh(), fresh(scan_backend="reference").double()
    patches, cells = sequence(model, L=600)
    found = []
    for one, sizes in ((model.eval(), (100,) * 6), (double.eval(), (600,))):
        recorder = DistanceRecorder()
        in_pieces(one, patches.to(one.norm_out.weight.dtype), cells, None, sizes, recorder)
        found.append(recorder.distances())
    for single, want in zip(*found, strict=True):
        torch.testing.assert_close(single.double(), want, rtol=1e-4, atol=1e-6)
