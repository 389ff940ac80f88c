"""Numbers of states by hand, contraction over cycles against its prediction, the read-out against plain ridge regression."""

import pytest
import torch

from lgmamba.probe.content import PENALTIES, fit_read_out, psnr, restore_norm
from lgmamba.probe.states import TrainingStates, cycle_contraction, norms, state_numbers, training_states
from lgmamba.probe.stops import stops
from lgmamba.tasks.draw.sequences import DrawSequences
from tests.model.models import L0, G, exact, sequence
from tests.model.passes import CUTS, in_pieces
from tests.probe.test_receptive_field import sequences


def test_numbers_of_states_by_hand():
    known = TrainingStates(
        norm=torch.tensor(2.0),
        mean=torch.tensor([[1.0, 0.0]]),
        std=torch.tensor([[0.5, 2.0]]),
        low=torch.tensor([[0.0, -1.0]]),
        high=torch.tensor([[2.0, 1.0]]),
    )
    h = torch.tensor([[[3.0, 4.0]], [[0.0, -5.0]]])
    got = state_numbers(h, torch.tensor([[[3.0, 0.0]], [[0.0, -5.0]]]), known)
    assert got["norm_ratio"] == 2.5
    assert got["mean"] == 0.5
    assert got["rms"] == pytest.approx((50 / 4) ** 0.5)
    assert got["variance"] == pytest.approx((2.5**2 + 3.5**2 + 0.5**2 + 5.5**2) / 3)
    assert got["median"] == 0.0
    assert got["q999"] == 5.0
    assert got["beyond"] == 0.75  # 3 above 2, 4 above 1, -5 below -1
    assert got["drift"] == pytest.approx((4 / 5 + 0) / 2)
    assert got["cosine"] == pytest.approx((3 / 5 + 1) / 2)
    assert got["z_median"] == pytest.approx(0.25)  # the lower one of |1.5 - 1| / 0.5 and |-0.5| / 2
    assert got["z_rms"] == pytest.approx(((1.0 + 0.0625) / 2) ** 0.5)
    assert state_numbers(h, None, known)["drift"] is None


def test_training_states_span_all_steps_and_centre_at_the_last():
    model = exact()
    seq = sequences(model)
    known = training_states(stops(model, seq, [2, 5, 8], chunk=3))
    found = [[stop.h[layer] for stop in stops(model, seq, [2, 5, 8], chunk=50)] for layer in (0, 1)]
    for layer, one in enumerate(known):
        every = torch.cat(found[layer])
        torch.testing.assert_close(one.low, every.amin(0), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one.high, every.amax(0), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(one.mean, found[layer][-1].mean(0), rtol=1e-12, atol=1e-14)
        assert one.norm.item() == pytest.approx(found[layer][-1].flatten(1).norm(dim=1).mean().item(), rel=1e-12)


def test_the_first_layer_contracts_over_a_cycle_as_its_step_sizes_say():
    model = exact({"d_conv": 4})
    seq = sequences(model)
    cells = torch.stack([torch.randperm(G, generator=torch.Generator().manual_seed(b)) for b in range(3)])
    seq = DrawSequences(seq.targets, seq.patches, cells.repeat(1, 8))
    rows = cycle_contraction(model, seq, 8, chunk=5)
    assert [(row.layer, row.cycle) for row in rows] == [(layer, k) for k in range(2, 8) for layer in (0, 1)]
    first = [row for row in rows if row.layer == 0]
    assert any(row.observed is not None for row in first)
    for row in first:
        if row.observed is not None:
            assert row.observed == pytest.approx(row.predicted, rel=1e-9)
            assert 0 < row.predicted < 1
    later = [row for row in rows if row.layer == 1 and row.observed is not None]
    assert abs(later[0].observed - later[0].predicted) > 1e-3  # its inputs have not converged yet


def test_the_read_out_is_ridge_regression_with_the_best_penalty():
    g = torch.Generator().manual_seed(0)
    n, features = 30, 12
    h = torch.randn(n, 4, 3, generator=g, dtype=torch.float64) * 5 + 2
    images = h.flatten(1) @ torch.randn(features, 6, generator=g, dtype=torch.float64)
    images = images + torch.randn(n, 6, generator=g, dtype=torch.float64)
    new = torch.randn(7, 4, 3, generator=g, dtype=torch.float64)

    def ridge(rows: torch.Tensor, penalty: float, apply: torch.Tensor) -> torch.Tensor:
        """Primal form, with the centre and scale of all examples."""
        X = h.flatten(1)
        centre, scale = X.mean(0), X.std(0)
        Z = (X - centre) / scale
        size = penalty * torch.linalg.eigvalsh(Z @ Z.T).clamp(min=0).mean()
        Z, Y = Z[rows], images[rows]
        Z1 = torch.cat([Z, torch.ones(len(Z), 1, dtype=torch.float64)], 1)
        P = size * torch.eye(features + 1, dtype=torch.float64)
        P[-1, -1] = 0  # the mean is not shrunk
        beta = torch.linalg.solve(Z1.T @ Z1 + P, Z1.T @ Y)
        return torch.cat([(apply.flatten(1) - centre) / scale, torch.ones(len(apply), 1).double()], 1) @ beta

    every = torch.arange(n)
    losses = []
    for penalty in PENALTIES:
        left_out = [ridge(every[every != i], penalty, h[i : i + 1]) - images[i] for i in range(n)]
        losses.append(torch.stack(left_out).square().mean().item())
    best = PENALTIES[losses.index(min(losses))]
    assert 1e-7 < best < 100  # neither end
    torch.testing.assert_close(fit_read_out(h, images)(new), ridge(every, best, new), rtol=1e-8, atol=1e-8)
    assert psnr(torch.full((2, 3), 0.1), torch.zeros(2, 1, 3)) == pytest.approx(20.0, abs=1e-5)


def test_the_norm_is_restored_at_every_step_whatever_the_pieces():
    """Against a loop that scales the state before it is read, and carries it as it was."""
    model = exact()
    patches, cells = sequence(model)
    targets = [3.0, 0.5]
    reads = []

    def by_hand(call):
        """Single steps."""
        from dataclasses import replace

        a = torch.exp(call.dt[:, 0, :, None] * call.A)
        h = (0 if call.h0 is None else a * call.h0) + (call.dt * call.x)[:, 0, :, None] * call.Bmat[:, 0, None]
        if call.t0 + 1 <= L0:
            return call
        scale = targets[call.layer] / norms(h)
        reads.append(norms(h * scale[:, None, None]))
        return replace(call, Cmat=call.Cmat * scale[:, None, None])

    want, end = in_pieces(model, patches, cells, None, CUTS[-1], by_hand)
    assert all(torch.allclose(norm, torch.full_like(norm, targets[i % 2])) for i, norm in enumerate(reads))
    for sizes in CUTS:
        got, state = in_pieces(model, patches, cells, None, sizes, restore_norm(targets, L0))
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(state.layers[1].memory, end.layers[1].memory, rtol=1e-9, atol=1e-11)
    plain, _ = in_pieces(model, patches, cells, None, CUTS[0])
    torch.testing.assert_close(want[:, :L0], plain[:, :L0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(want[:, L0:], plain[:, L0:])
