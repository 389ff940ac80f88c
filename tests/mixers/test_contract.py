"""Every mixer: what it computes, in pieces and under a hook, and what its verbs mean. A new mixer needs a row in `contract.py`."""

from contextlib import nullcontext
from dataclasses import replace
from typing import get_args

import pytest
import torch

from lgmamba.mixers.base import OVERLAPPING, VERBS, MixerBase, Verb
from lgmamba.mixers.configs import MixerConfig
from lgmamba.mixers.registry import ANSWERING, MIXERS
from tests.mixers.contract import ROWS, B, L, Row, build, inputs
from tests.model.models import EXACT
from tests.recording import NothingCarried

KINDS = {get_args(c.model_fields["kind"].annotation)[0]: c for c in get_args(get_args(MixerConfig)[0])}
KINDS.pop("python")  # a user's own has its row where its module is: see test_docs.py
MASK = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
POSITIONS = torch.where(MASK)[0].expand(B, -1)
LOUD = {
    "slow": lambda call: call.slow(0.5),
    "decay": lambda call: call.decay(3.0),
    "write": lambda call: call.write(torch.full((L, 1), 0.5, dtype=torch.float64)),
    "read": lambda call: call.read(torch.full((L, 1), 0.5, dtype=torch.float64)),
    "mask": lambda call: call.mask(MASK[:, None]),
    "keep": lambda call: replace(call, keep=POSITIONS),
    "state": lambda call: call.then(lambda h: 0.5 * h),
    "reset": lambda call: call.reset(),
    "window": lambda call: call.window(2, "exact"),
    "score": lambda call: call.mask(call.score() > call.score().mean()),
    "eigenmodes": lambda call: call.decay(lambda rates: rates.clamp(max=call.rates().median())),
}
"""A hook for each verb that must be noticed."""
one = torch.ones(1, 1, dtype=torch.float64)
QUIET = {
    "slow": lambda call: call.slow(1.0).slow(one),
    "decay": lambda call: call.decay(1.0).decay(lambda rates: rates**1.0),
    "write": lambda call: call.write(one).enter(one),
    "read": lambda call: call.read(one),
    "mask": lambda call: call.mask(torch.ones(L, 1, dtype=torch.bool)),
    "keep": lambda call: replace(call, keep=torch.arange(L).expand(B, -1)),
    "state": lambda call: call.then(lambda h: h),
    "window": lambda call: call.window(L + 3, "exact"),
}
"""The same with nothing to notice."""

rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def configured(row: Row) -> MixerBase:
    return KINDS[row.mixer["kind"]](**row.mixer)


def supported(verbs) -> list:
    found = [(row, verb) for row in ROWS.values() for verb in verbs if verb in configured(row).supports]
    return pytest.mark.parametrize(("row", "verb"), found, ids=lambda v: v if isinstance(v, str) else str(v.mixer))


def test_every_kind_is_registered_has_a_row_and_says_of_every_verb_whether_it_supports_it():
    assert set(ANSWERING) == {kind for kind, config in KINDS.items() if config.ANSWERS}  # test_encoder_decoder.py
    assert set(MIXERS) == set(KINDS) - set(ANSWERING) == {row.mixer["kind"] for row in ROWS.values()}
    assert set(VERBS) == set(get_args(Verb))
    for config in [*KINDS.values(), *map(configured, ROWS.values())]:
        named = (config.SUPPORTS, config.WHY_NOT) if isinstance(config, type) else (config.supports, config.why_not)
        supports, why_not = named
        assert set(supports) | set(why_not) == set(VERBS)
        assert not set(supports) & set(why_not)
        assert all(supports.values()) and all(why_not.values())


def test_of_every_mixer_with_a_state_it_is_said_whether_it_is_bounded():
    assert {kind for kind, config in KINDS.items() if config.BOUNDED is None} == {
        "attention",
        "encoder_decoder",
        "psm",
        "sigma",
    }


@rows
def test_parameters_are_counted(row):
    assert sum(p.numel() for p in build(row).parameters()) == row.parameters


@rows
def test_a_call_can_be_recorded(row):
    mixer, u = build(row), inputs()
    for mode in (nullcontext(), NothingCarried()):  # the first call is the warm-up
        with mode:
            mixer(u, want_state=True)


@rows
def test_outputs_are_those_of_the_step_by_step_oracle(row):
    mixer, u = build(row), inputs()
    torch.testing.assert_close(mixer(u)[0], row.oracle(mixer, u), **EXACT)


@rows
@pytest.mark.parametrize("hook", [None, lambda call: call], ids=["fast", "hooked"])
def test_pieces_and_steps_equal_the_whole_with_and_without_a_hook(row, hook, sizes=(1, 1, 2, 3)):
    mixer, u = build(row), inputs()
    want, end, _ = mixer(u)
    state, outputs = None, []
    for part in u.split(sizes, dim=1):
        out, state, _ = mixer(part, state, t0=sum(o.shape[1] for o in outputs), hook=hook)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), want, **EXACT)
    for mine, other in zip(state.tensors, end.tensors, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)


@rows
def test_in_single_precision_a_hook_changes_nothing_to_a_millionth(row):
    mixer, u = build(row, double=False), inputs(dtype=torch.float32)
    torch.testing.assert_close(mixer(u, hook=lambda call: call)[0], mixer(u)[0], rtol=1e-6, atol=1e-6)


@supported(["slow", "decay"])
def test_factors_in_double_precision_leave_a_mixer_in_its_own(row, verb):
    """Schedules of remedies are in float64 whatever a model is; of the other verbs remedies cast factors."""
    half = torch.full((1, 1), 0.5, dtype=torch.float64)
    mixer, u = build(row, double=False), inputs(dtype=torch.float32)

    def found(u):
        return mixer(u, hook=lambda call: getattr(call, verb)(half))

    y, state, _ = found(u)
    assert (y.dtype, state.memory.dtype) == (u.dtype, mixer(u)[1].memory.dtype)
    mixer.double()
    torch.testing.assert_close(y.double(), found(u.double())[0], rtol=1e-3, atol=1e-4)


@rows
def test_a_start_is_what_no_state_stands_for(row):
    mixer, u = build(row), inputs()
    start, (_, end, _) = mixer.start(B), mixer(u)
    steps = 2 if mixer.GROWS else 1
    assert [v.shape[steps:] for v in start.tensors] == [v.shape[steps:] for v in end.tensors]
    assert [v.dtype for v in start.tensors] == [v.dtype for v in end.tensors]
    for hook in (None, lambda call: call):
        torch.testing.assert_close(mixer(u, start, hook=hook)[0], mixer(u)[0], **EXACT)


@rows
@pytest.mark.parametrize("hooked", [False, True], ids=["fast", "slow"])
def test_gradients_are_those_of_finite_differences(row, hooked):
    mixer, u = build(row), inputs(4).requires_grad_()
    slow = (lambda call: call.slow(0.7)) if "slow" in mixer.config.supports else lambda call: call
    hook = slow if hooked else None
    state = replace(mixer.start(B), memory=torch.rand(B, *mixer.shape, dtype=torch.float64).requires_grad_())

    def run(u, memory):
        out, end, _ = mixer(u, replace(state, memory=memory), hook=hook)
        return out, end.memory

    if mixer.SURROGATE:  # which is what the oracle says that it is
        found = torch.autograd.grad(mixer(u, hook=hook)[0].square().sum(), [u, *mixer.parameters()])
        want = torch.autograd.grad(row.oracle(mixer, u).square().sum(), [u, *mixer.parameters()])
        torch.testing.assert_close(found, want, **EXACT)
        return
    # Along random directions: a wrong formula shows there as well, and a column of the Jacobian each takes far longer.
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(run, (u, state.memory), fast_mode=True)


@supported(QUIET)
def test_a_verb_with_nothing_to_do_changes_nothing(row, verb):
    mixer, u = build(row), inputs()
    torch.testing.assert_close(mixer(u, hook=QUIET[verb])[0], mixer(u)[0], **EXACT)


@supported(LOUD)
def test_a_verb_that_is_supported_is_noticed(row, verb):
    mixer, u = build(row), inputs()
    _, before, _ = mixer(inputs(seed=1))
    want, plain, _ = mixer(u, before, t0=L)
    out, end, _ = mixer(u, before if verb != "window" else None, t0=L if verb != "window" else 0, hook=LOUD[verb])
    assert out.shape != want.shape or not torch.allclose(out, want) or not torch.allclose(end.memory, plain.memory)


@supported(["mask"])
def test_masking_steps_equals_dropping_them(row, verb):
    mixer, u = build(row), inputs()
    masked, end, _ = mixer(u, hook=LOUD["mask"])
    dropped, same, keep = mixer(u, hook=LOUD["keep"])
    assert torch.equal(keep, POSITIONS)
    torch.testing.assert_close(dropped, masked[:, MASK], **EXACT)
    torch.testing.assert_close(same.memory, end.memory, **EXACT)


@supported(["mask"])
def test_a_sequence_that_is_masked_throughout_leaves_the_memory_bit_for_bit(row, verb):
    mixer = build(row)
    _, before, _ = mixer(inputs(seed=1))
    _, end, _ = mixer(inputs(), before, t0=L, hook=lambda call: call.mask(torch.zeros(L, 1, dtype=torch.bool)))
    assert torch.equal(end.memory, before.memory)


@supported(["eigenmodes"])
def test_what_is_retained_follows_from_score_and_rates(row, verb):
    mixer, seen = build(row), []
    _, before, _ = mixer(inputs(seed=1))
    nothing = torch.zeros(L, 1, dtype=torch.float64)
    _, end, _ = mixer(inputs(), before, t0=L, hook=lambda call: seen.append(call) or call.write(nothing))
    left = torch.exp(-seen[0].score().sum(1)[..., None] * seen[0].rates())
    sizes = [h.abs() if h.is_complex() else h for h in (end.memory, left * before.memory)]  # a phase may go on
    torch.testing.assert_close(*sizes, **EXACT)


@rows
def test_states_end_where_the_recurrence_ends(row):
    mixer, seen = build(row), []
    _, before, _ = mixer(inputs(seed=1))
    _, end, _ = mixer(inputs(), before, t0=L, hook=lambda call: seen.append(call) or call)
    states = seen[0].states()
    assert states.shape == (B, L, *mixer.shape)
    torch.testing.assert_close(states[:, -1], end.memory, **EXACT)


IN_SEGMENTS = {name: row for name, row in ROWS.items() if configured(row).supports.get("window") == OVERLAPPING}


@pytest.mark.parametrize("row", IN_SEGMENTS.values(), ids=IN_SEGMENTS)
def test_a_window_reads_each_step_off_the_older_segment_that_it_is_in(row):
    """Segments of 4 steps that start every 2 steps: step t (from 0) from step 2 max(0, t // 2 - 1) on."""
    mixer, u = build(row), inputs()
    starts = [2 * max(0, t // 2 - 1) for t in range(L)]
    steps = [torch.arange(start, t + 1).expand(B, -1) for t, start in enumerate(starts)]
    alone = [mixer(u, hook=lambda call, kept=kept: replace(call, keep=kept)) for kept in steps]
    state, outputs = None, []
    for part in u.split((3, 4), dim=1):
        out, state, _ = mixer(
            part, state, t0=sum(o.shape[1] for o in outputs), hook=lambda call: call.window(4, "exact")
        )
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 1), torch.stack([out[:, -1] for out, _, _ in alone], 1), **EXACT)
    torch.testing.assert_close(state.memory, alone[-1][1].memory, **EXACT)


@rows
def test_what_a_step_retains_is_a_share(row):
    mixer, seen = build(row), []
    mixer(inputs(), hook=lambda call: seen.append(call.retained()) or call)
    if seen[0] is None:
        assert mixer.shape[1] == 0
        return
    assert seen[0].expand(B, L, *mixer.shape).shape == (B, L, *mixer.shape)
    assert 0 <= seen[0].min() and seen[0].max() <= 1
