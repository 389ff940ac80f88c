"""DeciMamba and LongMamba: what is kept, and that nothing is where nothing has to go."""

import math

import pytest
import torch

from lgmamba.mixers.contract import gather_steps
from lgmamba.model.runner import read_at_steps
from lgmamba.remedies.decimamba.remedy import KeptSteps, decimate
from lgmamba.remedies.decimamba.stream import norm_thresholds, read_decimated
from lgmamba.remedies.longmamba.filters import (
    ChannelFilter,
    StepSizeRecorder,
    Thresholds,
    calibrate,
    filter_steps,
    keep_to_budget,
    mask_random_steps,
    mask_steps,
    random_channels,
    selected_everything,
    thresholds,
    thresholds_as_released,
)
from tests.model.models import EXACT, L0, along, exact, sequence
from tests.model.passes import CUTS, in_pieces, seen


def kept_by(hook, model, patches, cells, layer):
    """Positions that the hook keeps in a layer."""
    calls = []
    model.encode(model.embed(patches, cells), hook=lambda call: calls.append(hook(call)) or calls[-1])
    return calls[layer].keep


@pytest.mark.parametrize("base", [12, 13, 100])
def test_decimation_to_no_fewer_steps_is_the_identity(base):
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells))
    got, _ = model.encode(model.embed(patches, cells), hook=decimate([0, 1], base))
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
    hook = decimate([0, 1], base=6, beta=0.5)
    batch, _ = model.encode(model.embed(patches, cells), hook=hook)
    assert batch.shape[1] == 3 + 1
    for b in range(3):
        alone, _ = model.encode(model.embed(patches[b : b + 1], cells[b : b + 1]), hook=hook)
        torch.testing.assert_close(batch[b : b + 1], alone, **EXACT)


def test_protected_outputs_do_not_see_what_comes_after_them():
    model = exact()
    patches, cells = sequence(model)
    hook = decimate([1], base=5, protected=3)
    want, _ = model.encode(model.embed(patches, cells), hook=hook)
    changed = patches.clone()
    changed[:, -1] += 1.0
    got, _ = model.encode(model.embed(changed, cells), hook=hook)
    assert torch.equal(got[:, -3:-1], want[:, -3:-1])
    assert not torch.equal(got[:, -1], want[:, -1])


def test_fewer_steps_than_the_least_are_all_kept():
    model = exact()
    patches, cells = sequence(model, L=4)
    out, _ = model.encode(model.embed(patches, cells), hook=decimate([0], base=1, least=20))
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
    hook = decimate([0], base=4, score="random", generator=torch.Generator().manual_seed(0))
    assert kept_by(hook, model, patches, cells, layer=0).shape == (3, 5)


def test_decimation_refuses_pieces_and_random_without_a_generator():
    model = exact()
    patches, cells = sequence(model)
    _, state = model.encode(model.embed(patches[:, :6], cells[:, :6]))
    with pytest.raises(ValueError, match="one piece; this piece starts after step 6"):
        model.encode(model.embed(patches[:, 6:], cells[:, 6:]), state, hook=decimate([0], base=2))
    with pytest.raises(ValueError, match="needs a generator"):
        decimate([0], base=2, score="random")


def recorded(model, n: int) -> StepSizeRecorder:
    """Step sizes of n sequences of L0 steps, read in two batches."""
    recorder = StepSizeRecorder()
    for seed in (0, 1):
        patches, cells = sequence(model, B=n // 2, L=L0, seed=seed)
        model.encode(model.embed(patches, cells), hook=recorder)
    return recorder


def calibrated(model) -> list[ChannelFilter]:
    return calibrate(recorded(model, 120), L0)


def prefix_tables(model) -> list[Thresholds]:
    return thresholds(calibrated(model), L0, [2 * L0, 4 * L0, 25 * L0])


@pytest.mark.parametrize("T", [1, L0, None])
def test_within_the_training_length_no_step_is_filtered(T):
    model = exact()
    patches, cells = sequence(model, L=L0)
    want, _ = model.encode(model.embed(patches, cells))
    got, _ = model.encode(model.embed(patches, cells), hook=mask_steps(prefix_tables(model), None, T))
    torch.testing.assert_close(got, want, **EXACT)
    got, _ = model.encode(model.embed(patches, cells), hook=mask_random_steps([torch.zeros(24)] * 2, 0, after=L0))
    torch.testing.assert_close(got, want, **EXACT)


def test_the_filter_of_one_length_is_that_of_the_table():
    model = exact()
    patches, cells = sequence(model)
    filters = calibrated(model)
    channels = [f.long_memory for f in filters]
    for T in (3, L0, 13):
        want, _ = model.encode(model.embed(patches, cells), hook=mask_steps(thresholds(filters, L0, [13]), channels, T))
        got, _ = model.encode(model.embed(patches, cells), hook=filter_steps(filters, L0, T))
        torch.testing.assert_close(got, want, **EXACT)


def test_a_threshold_of_0_is_the_identity():
    model = exact()
    patches, cells = sequence(model)
    want, _ = model.encode(model.embed(patches, cells))
    for T in (None, 13):
        tables = [Thresholds([L0, 100], torch.zeros(2, 24))] * 2
        got, _ = model.encode(model.embed(patches, cells), hook=mask_steps(tables, None, T))
        torch.testing.assert_close(got, want, **EXACT)


@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
@pytest.mark.parametrize("choose", ["stream", "random"])
def test_filters_in_pieces_and_steps_equal_the_whole(choose, sizes):
    model = exact()
    patches, cells = sequence(model)
    channels = [torch.arange(24) % 3 > 0] * 2
    hook = mask_steps(prefix_tables(model), channels)
    if choose == "random":
        hook = mask_random_steps([torch.full((24,), 0.4)] * 2, 7, channels, after=L0)
    want, _ = model.encode(model.embed(patches, cells), hook=hook)
    got, _ = in_pieces(model, patches, cells, None, sizes, hook)
    torch.testing.assert_close(got, want, **EXACT)
    changed = patches.clone()
    changed[:, 10:] += 1.0
    got, _ = model.encode(model.embed(changed, cells), hook=hook)
    assert torch.equal(got[:, :10], want[:, :10])
    assert not torch.allclose(want[:, L0:], model.encode(model.embed(patches, cells))[0][:, L0:])


def test_thresholds_between_lengths_are_linear_in_the_logarithm():
    table = Thresholds([8, 16, 64], torch.tensor([[0.0], [1.0], [3.0]]))
    t = torch.tensor([1.0, 8.0, 8 * 2**0.5, 16.0, 32.0, 64.0, 1000.0])
    torch.testing.assert_close(table.at(t)[:, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.0]))


@pytest.mark.parametrize("kappa", [2, 5, 25])
def test_the_kept_steps_sum_to_those_of_the_training_length(kappa):
    steps = torch.nn.functional.softplus(torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)) * 0.7 - 3)
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [steps[None]]}, {0: -torch.ones(3, 2)}
    (found,) = calibrate(recorder, L0)
    (table,) = thresholds([found], L0, [kappa * L0])
    theta = table.at(torch.tensor([float(kappa * L0)]))[0]
    torch.testing.assert_close(theta, found.threshold(1 / kappa))
    torch.testing.assert_close(found.kept_share(theta), (steps > theta).double().mean(0))
    kept = (steps * (steps > theta)).sum(0) * L0 * kappa / len(steps)  # over a sequence of length kappa L0
    budget = steps.mean(0) * L0
    # The threshold is one of the steps themselves: off by one rank of the hundreds that are kept.
    torch.testing.assert_close(kept, budget, rtol=0.02, atol=0)


@pytest.mark.parametrize("kappa", [2, 5, 25])
def test_the_budget_is_kept_on_the_steps_of_a_model(kappa):
    recorder = recorded(exact(), 600)
    for layer, (table, f) in enumerate(
        zip(thresholds(found := calibrate(recorder, L0), L0, [kappa * L0]), found, strict=True)
    ):
        dt = torch.cat([v.flatten(0, 1) for v in recorder.step_sizes[layer]])
        kept = (dt * (dt > table.theta[1])).mean(0) * kappa  # over the mean of all, that is, over the budget
        torch.testing.assert_close(kept / dt.mean(0), torch.ones(24), rtol=0.1, atol=0)
        assert f.sorted_steps.shape == (24, len(dt))


def test_in_a_stream_what_is_kept_grows_as_a_logarithm():
    steps, kappa = lognormal(20_000).float(), 25
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [steps[None]]}, {0: -torch.ones(3, 2)}
    table = thresholds(calibrate(recorder, L0), L0, [round(L0 * 2 ** (k / 4)) for k in range(1, 20)])[0]
    many = lognormal(kappa * L0 * 200).float().reshape(200, kappa * L0, 3)
    t = torch.arange(1, kappa * L0 + 1)
    kept = (many * (many > table.at(t))).sum((0, 1)) / 200
    want = L0 * steps.mean(0) * (1 + math.log(kappa))
    torch.testing.assert_close(kept, want, rtol=0.1, atol=0)


def lognormal(n: int, D: int = 3) -> torch.Tensor:
    return torch.nn.functional.softplus(
        torch.randn(n, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.7 - 3
    )


@pytest.mark.parametrize(
    ("clamp", "kappa", "ratio"),
    [(0.0, 2, 1.0), (0.0, 25, 1.04), (0.1, 2, 1.08), (0.1, 5, 1.35), (0.1, 10, 2.69), (0.1, 25, 6.73), (0.2, 25, 10.8)],
)
def test_the_released_procedure_loses_hold_of_the_sum_from_some_length_on(clamp, kappa, ratio):
    """A table of kept sums over those of the training length, made once with other random numbers."""
    length = 2000
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [lognormal(20 * length).reshape(20, length, 3)]}, {0: -torch.ones(3, 2)}
    (table,) = thresholds_as_released(recorder, length, [kappa * length], clamp)
    fresh = lognormal(400_000).flip(0)
    theta = table.theta[1]
    kept = (fresh * (fresh > theta)).mean() * kappa / fresh.mean()
    assert float(kept) == pytest.approx(ratio, rel=0.03)


def test_the_released_procedure_keeps_all_up_to_the_training_length_and_guards_its_ends():
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [torch.full((1, L0, 2), 0.1)]}, {0: -torch.ones(2, 2)}
    (table,) = thresholds_as_released(recorder, L0, [L0 + 1, 2 * L0], clamp=0.0)
    assert table.at(torch.tensor([1.0, float(L0)])).tolist() == [[0.0, 0.0]] * 2
    assert torch.isfinite(table.theta).all()
    with pytest.raises(ValueError, match="sequences of 6 steps read whole"):
        thresholds_as_released(recorder, 6, [12])


@pytest.mark.parametrize(
    ("clamp", "theta"),
    [
        (0.0, 16.0),
        (0.1, 16.0),
        (0.2, 14.0),
        (0.97, 2.0),
    ],  # the floor(16 clamp)-th of 16, 15, ..., 1, at least the first
)
def test_the_released_threshold_of_a_known_curve(clamp, theta):
    """16, 15, ..., 1 stretched to 400 steps: what is clamped becomes a plateau, long enough for the sum of all."""
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [torch.arange(16.0, 0.0, -1.0)[None, :, None]]}, {0: -torch.ones(1, 1)}
    (table,) = thresholds_as_released(recorder, 16, [400], clamp)
    assert table.theta[:, 0].tolist() == [0.0, theta]


def test_a_budget_keeps_the_largest_steps_that_fit_in_it():
    model = exact()
    patches, cells = sequence(model)
    call = seen(model, patches, cells)[1]
    budget = 0.4 * call.dt.sum(1).mean(0)
    dt = keep_to_budget([budget, budget])(call).dt
    kept = dt > 0
    assert torch.equal(dt[kept], call.dt[kept])
    assert (dt.sum(1) <= budget * (1 + 1e-12)).all()
    smallest = torch.where(kept, call.dt, torch.inf).amin(1)
    largest_left_out = torch.where(kept, 0.0, call.dt).amax(1)
    assert (smallest > largest_left_out).all()
    assert (dt.sum(1) + largest_left_out > budget).all()  # no other step fits
    only = torch.arange(24) < 5
    filtered = keep_to_budget([budget, budget], [only, only])(call).dt
    assert torch.equal(filtered[..., :5], dt[..., :5]) and torch.equal(filtered[..., 5:], call.dt[..., 5:])
    with pytest.raises(ValueError, match="this piece starts after step 2"):
        in_pieces(model, patches, cells, None, (2, 11), keep_to_budget([budget, budget]))


def test_random_ablations_keep_as_many():
    model = exact()
    patches, cells = sequence(model, B=2, L=400)
    calls = []
    counted = mask_random_steps([torch.full((24,), 0.3)] * 2, seed=1)
    model.encode(model.embed(patches, cells), hook=lambda call: calls.append(counted(call)) or calls[-1])
    kept = (calls[0].dt > 0).double()
    assert float(kept.mean()) == pytest.approx(0.3, abs=5 * (0.21 / 9600) ** 0.5)
    assert torch.equal(kept[0], kept[1])  # the same for every sequence
    assert not torch.equal(kept, (calls[1].dt > 0).double())
    masks = [torch.arange(24) < 5, torch.arange(24) < 11]
    drawn = random_channels(masks, torch.Generator().manual_seed(0))
    assert [int(m.sum()) for m in drawn] == [5, 11]
    assert not torch.equal(drawn[1], masks[1])


@pytest.mark.parametrize(
    ("form", "want"), [("slow", [True, False]), ("mean", [True, False]), ("stepmean", [True, True])]
)
def test_long_memory_is_what_survives_the_training_length(form, want):
    recorder = StepSizeRecorder()
    recorder.step_sizes, recorder.A = {0: [torch.ones(1, 10, 2)]}, {0: torch.tensor([[-0.2, -9.0], [-0.5, -0.5]])}
    # exp(-0.2 x 8) = 0.20 and half of it, 0.10; exp(-0.5 x 8) = 0.018, of both modes
    # a step leaves (e^-0.2 + e^-9) / 2 = 0.41 and e^-0.5, to the power 8: 0.0008 and 0.018
    bounds = {"slow": 0.05, "mean": 0.05, "stepmean": 0.0007}
    (found,) = calibrate(recorder, L0, bounds[form], form)
    assert found.long_memory.tolist() == want
    (stricter,) = calibrate(recorder, L0, {"slow": 0.21, "mean": 0.11, "stepmean": 0.0009}[form], form)
    assert stricter.long_memory.tolist() == [False, form == "stepmean"]


def test_a_threshold_that_selects_everything_says_so():
    assert selected_everything([[True, True], [True, False]]) is None
    assert "all 4 of 4 channels" in selected_everything([[True, True], [True, True]])


def test_unknown_forms_of_survival_are_refused():
    with pytest.raises(ValueError, match="expected 'slow', 'mean' or 'stepmean'"):
        calibrate(StepSizeRecorder(), L0, form="fast")


def test_filtered_steps_of_a_layer_equal_dropped_ones():
    model = exact()
    patches, cells = sequence(model, B=1)
    call = seen(model, patches, cells)[0]
    dt = mask_steps(prefix_tables(model), None, 3 * L0)(call).dt
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


def deci_table(model, layer: int) -> Thresholds:
    return norm_thresholds(recorded(model, 120), layer, L0, [10, 13, 20, 40, 100])


@pytest.mark.parametrize("layer", [0, 1])
def test_decimation_in_a_stream_reads_up_to_the_training_length_as_ever(layer):
    model = exact()
    patches, _ = sequence(model, L=6)
    cells = torch.randint(6, (3, 30), generator=torch.Generator().manual_seed(0))
    table, steps = deci_table(model, layer), [1, 5, L0]
    want = read_at_steps(model, along(patches, cells), steps)
    torch.testing.assert_close(read_decimated(model, along(patches, cells), steps, layer, table), want, **EXACT)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_decimation_in_a_stream_is_alike_in_pieces_causal_and_keeps_about_what_it_says(layer, chunk):
    model = exact()
    patches, _ = sequence(model, L=6)
    cells = torch.randint(6, (3, 30), generator=torch.Generator().manual_seed(0))
    table, steps = deci_table(model, layer), list(range(1, 31))
    whole = read_decimated(model, along(patches, cells), steps, layer, table, chunk=30)
    torch.testing.assert_close(read_decimated(model, along(patches, cells), steps, layer, table, chunk), whole, **EXACT)
    for t in (9, 20):
        early = read_decimated(model, along(patches, cells[:, :t]), [t], layer, table)
        torch.testing.assert_close(early[:, 0], whole[:, t - 1], **EXACT)
    repeated = (whole[:, 1:] == whole[:, :-1]).flatten(2).all(2)  # (B, 29): drawn as after the step before
    assert not repeated[:, : L0 - 1].any()
    assert 0.2 < repeated[:, L0:].double().mean() < 0.8


def test_an_account_of_kept_steps():
    model = exact()
    patches, cells = sequence(model, L=13)
    account = KeptSteps()
    keeping, calls = decimate([1], base=4), []

    def hook(call):
        calls.append(keeping(call))
        return account(calls[-1])

    model.encode(model.embed(patches, cells), hook=hook)
    assert account.kept[0].tolist() == [list(range(13))] * 3
    assert torch.equal(account.kept[1], calls[1].keep)
    found = account.account(1, cells, 6)
    coverage = [len(set(c[k].tolist())) / len(set(c.tolist())) for c, k in zip(cells, account.kept[1], strict=True)]
    assert found["share"] == pytest.approx(5 / 13)
    assert found["coverage"] == pytest.approx(sum(coverage) / 3)
    ages = (12 - account.kept[1]).flatten().tolist()
    assert found["ages"] == [sum(lo <= a <= hi for a in ages) for lo, hi in ((0, 0), (1, 1), (2, 3), (4, 7), (8, 15))]
