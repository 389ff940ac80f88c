"""DeciMamba and LongMamba: what is kept, and that nothing is where nothing has to go."""

import pytest
import torch

from lgmamba.model.plan import gather_steps
from lgmamba.remedies.decimamba import decimate
from lgmamba.remedies.longmamba import ChannelFilter, StepSizeRecorder, calibrate, filter_steps
from tests.model.models import EXACT, L0, exact, sequence
from tests.model.passes import seen


def kept_by(plan, model, patches, cells, layer):
    """Positions that the plan keeps in a layer."""
    calls = []
    model.encode(patches, cells, plan=lambda call: calls.append(plan(call)) or calls[-1])
    return calls[layer].keep


@pytest.mark.parametrize("base", [12, 13, 100])
def test_decimation_to_no_fewer_steps_is_the_identity(base):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(patches, cells)
    got, _ = model.encode(patches, cells, plan=decimate([0, 1], base))
    assert torch.equal(got, want)


@pytest.mark.parametrize("protected", [1, 3])
def test_the_largest_step_sizes_are_kept_in_order_and_the_tail_always(protected):
    model = exact()
    patches, cells = sequence(model)
    norms = seen(model, patches, cells)[1].dt.norm(dim=2)
    keep = kept_by(decimate([1], base=5, protected=protected), model, patches, cells, layer=1)
    assert keep.shape == (3, 5 + protected)
    for row, norm in zip(keep.tolist(), norms, strict=True):
        assert row == sorted(row)
        assert row[5:] == list(range(13 - protected, 13))
        assert set(row[:5]) == set(norm[: 13 - protected].topk(5).indices.tolist())


def test_a_batch_is_decimated_as_its_samples_are_alone():
    model = exact()
    patches, cells = sequence(model)
    plan = decimate([0, 1], base=6, beta=0.5)
    batch, _ = model.encode(patches, cells, plan=plan)
    assert batch.shape[1] == 3 + 1
    for b in range(3):
        alone, _ = model.encode(patches[b : b + 1], cells[b : b + 1], plan=plan)
        torch.testing.assert_close(batch[b : b + 1], alone, **EXACT)


def test_protected_outputs_do_not_see_what_comes_after_them():
    model = exact()
    patches, cells = sequence(model)
    plan = decimate([1], base=5, protected=3)
    want, _ = model.encode(patches, cells, plan=plan)
    changed = patches.clone()
    changed[:, -1] += 1.0
    got, _ = model.encode(changed, cells, plan=plan)
    assert torch.equal(got[:, -3:-1], want[:, -3:-1])
    assert not torch.equal(got[:, -1], want[:, -1])


def test_fewer_steps_than_the_least_are_all_kept():
    model = exact()
    patches, cells = sequence(model, L=4)
    out, _ = model.encode(patches, cells, plan=decimate([0], base=1, least=20))
    assert out.shape[1] == 4


def test_equal_scores_keep_the_newest_and_ablations_keep_what_they_say():
    model = exact()
    patches, cells = sequence(model)
    newest = kept_by(decimate([0], base=4, score="newest"), model, patches, cells, layer=0)
    assert newest[0].tolist() == [8, 9, 10, 11, 12]
    same, one_cell = patches[:, :1].expand(-1, 13, -1), cells[:, :1].expand(-1, 13)
    ties = kept_by(decimate([0], base=4), model, same, one_cell, layer=0)
    # the first W - 1 steps differ, because the convolution starts from zeros
    assert ties[0].tolist()[-2:] == [11, 12]
    plan = decimate([0], base=4, score="random", generator=torch.Generator().manual_seed(0))
    assert kept_by(plan, model, patches, cells, layer=0).shape == (3, 5)


def test_decimation_refuses_pieces_and_random_without_a_generator():
    model = exact()
    patches, cells = sequence(model)
    _, state = model.encode(patches[:, :6], cells[:, :6])
    with pytest.raises(ValueError, match="one piece; this piece starts after step 6"):
        model.encode(patches[:, 6:], cells[:, 6:], state, plan=decimate([0], base=2))
    with pytest.raises(ValueError, match="needs a generator"):
        decimate([0], base=2, score="random")


def calibrated(model, n: int = 40) -> list[ChannelFilter]:
    recorder = StepSizeRecorder()
    for seed in range(n):
        patches, cells = sequence(model, L=L0, seed=seed)
        model.encode(patches, cells, plan=recorder)
    return calibrate(recorder, L0)


def test_within_the_training_length_no_step_is_filtered():
    model = exact()
    patches, cells = sequence(model, L=L0)
    want, _ = model.encode(patches, cells)
    for T in (1, L0):
        got, _ = model.encode(patches, cells, plan=filter_steps(calibrated(model), L0, T, every_channel=True))
        torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize("kappa", [2, 5, 25])
def test_the_kept_steps_sum_to_those_of_the_training_length(kappa):
    steps = torch.nn.functional.softplus(torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)) * 0.7 - 3)
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [steps[None]]}, {0: -torch.ones(3, 2)}
    (found,) = calibrate(recorder, L0)
    theta = found.threshold(1 / kappa)
    kept = (steps * (steps > theta)).sum(0) * L0 * kappa / len(steps)  # over a sequence of length kappa L0
    budget = steps.mean(0) * L0
    # The threshold is one of the steps themselves: off by one rank of the hundreds that are kept.
    torch.testing.assert_close(kept, budget, rtol=0.02, atol=0)


def test_long_memory_is_what_survives_the_training_length_in_the_slowest_mode():
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [torch.ones(1, 10, 2)]}, {0: torch.tensor([[-0.2, -9.0], [-0.5, -9.0]])}
    (found,) = calibrate(recorder, L0)  # survival exp(-0.2 x 8) = 0.20 and exp(-0.5 x 8) = 0.02
    assert found.long_memory.tolist() == [True, False]


def test_filtered_steps_of_a_layer_equal_dropped_ones():
    model = exact()
    patches, cells = sequence(model, B=1)
    filters = calibrated(model)
    call = seen(model, patches, cells)[0]
    one = filters[0]
    shared = ChannelFilter(one.sorted_steps, one.kept_mean, torch.ones_like(one.long_memory))
    dt = filter_steps([shared], L0, 3 * L0)(call).dt
    channel = int((dt == 0).sum(1).argmax())
    keep = torch.nonzero(dt[0, :, channel])[:, 0][None]
    assert 0 < keep.shape[1] < 13

    def last(dt, x, Bmat):
        h = torch.zeros(call.A.shape[1], dtype=torch.float64)
        for t in range(dt.shape[1]):
            step = dt[0, t, channel]
            h = torch.exp(step * call.A[channel]) * h + step * Bmat[0, t] * x[0, t, channel]
        return h

    masked = last(dt, call.x, call.Bmat)
    dropped = last(*(gather_steps(v, keep) for v in (call.dt, call.x, call.Bmat)))
    torch.testing.assert_close(masked, dropped, **EXACT)
