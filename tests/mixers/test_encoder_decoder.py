"""Mixers that keep steps and answer queries: what they answer, and what may be done to what is kept; and the encoder–decoder as a model."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lgmamba.config.remedies import check_kinds, check_mixers
from lgmamba.config.run import ModelConfig, RunConfig
from lgmamba.mixers.contract import Answering
from lgmamba.mixers.registry import build_mixer
from lgmamba.mixers.sizes import WITHIN
from lgmamba.model.runner import run_sequence
from lgmamba.remedies.read import read_with
from lgmamba.remedies.registry import build
from lgmamba.train.checkpoint import load_model
from tests.mixers.contract import PART
from tests.mixers.oracles import mamba
from tests.model.models import BASE
from tests.remedies.contract import ALL, entry
from tests.tasks.contract import TASKS
from tests.tasks.queried.tiny import ENCODER_DECODER, EXACT, RUN, exact_model, task_of, tiny_run
from tests.train.tiny import CPU, history, shared_digits, train_at

B, L, Q, D = 2, 7, 3, 6
MIXERS = {
    "encoder_decoder": {"kind": "encoder_decoder", "encoder": 2, "decoder": 2, "heads": 3, "mlp": 5, "drop_path": 0.5},
    "sigma": PART | {"kind": "sigma", "width": 4, "unflipped": 3},
}
kinds = pytest.mark.parametrize("kind", MIXERS)
MASK = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
KEPT = torch.where(MASK)[0].expand(B, -1)
LAYER = 4 * D * D + 4 * D + 2 * 2 * D + 2 * D + 2 * D * 5 + 5 + D
"""Parameters of an encoder's layer: attention, norms, layer scales, MLP. A decoder's has another attention with its norm and scale."""


def mixer(kind: str = "encoder_decoder") -> Answering:
    """Off its initialisation, in float64 and eval mode."""
    config = ModelConfig.model_validate(BASE | {"d_model": D, "n_layer": 1, "mixer": MIXERS[kind]})
    torch.manual_seed(0)
    made, generator = build_mixer(config, layer=0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return made.double().eval()


def tokens(n: int, seed: int = 0) -> Tensor:
    return torch.randn(B, n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normed(m, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * m.norms[name].weight + m.norms[name].bias


def attended(a, x: Tensor, e: Tensor) -> Tensor:
    """Row by row and head by head."""
    width, q, (k, v) = D // a.heads, a.q(x), a.kv(e).chunk(2, dim=-1)
    rows = []
    for i in range(x.shape[1]):
        heads = []
        for part in (slice(h * width, (h + 1) * width) for h in range(a.heads)):
            scores = (k[..., part] * q[:, i : i + 1, part]).sum(-1) / width**0.5
            heads.append((scores.softmax(1)[..., None] * v[..., part]).sum(1))
        rows.append(torch.cat(heads, dim=-1))
    return a.out(torch.stack(rows, dim=1))


def encoder_decoder(m: Answering, e: Tensor, q: Tensor) -> Tensor:
    """In plain words."""

    def mlp(layer, x):
        return x + layer.scales["mlp"] * layer.mlp(normed(layer, "mlp", x))

    for layer in m.encoder:
        u = normed(layer, "own", e)
        e = mlp(layer, e + layer.scales["own"] * attended(layer.attention["own"], u, u))
    for layer in m.decoder:
        u = normed(layer, "own", q)
        q = q + layer.scales["own"] * attended(layer.attention["own"], u, u)
        q = mlp(layer, q + layer.scales["cross"] * attended(layer.attention["cross"], normed(layer, "cross", q), e))
    return q


def sigma(m: Answering, e: Tensor, q: Tensor) -> Tensor:
    """Liu et al. 2024: every query as the last item of a sequence of its own."""
    answers = []
    for query in q.unbind(1):
        x = m.in_proj(torch.cat([e, query[:, None]], dim=1))
        start = max(0, x.shape[1] - m.config.unflipped)
        flipped = torch.cat([x[:, :start].flip(1), x[:, start:]], dim=1)
        paths = []
        for items, dense in ((x, m.dense), (flipped, m.dense_flipped)):
            h = items + dense(items)
            gate = m.by_silu(h * torch.sigmoid(h)) + m.by_sigmoid(torch.sigmoid(h))
            y = mamba(m.mamba, items)
            paths.append((y + gate * y)[:, -1])
        cell = torch.nn.GRUCell(x.shape[2], x.shape[2], bias=False).to(x.dtype)
        cell.load_state_dict({name.removesuffix("_l0"): v for name, v in m.gru.state_dict().items()})
        h = None
        for item in m.conv(F.pad(x.mT, (1, 1))).mT.unbind(1):
            h = cell(item, h)
        joined = sum(weight * part for weight, part in zip(m.weights, (*paths, h), strict=True))
        answers.append(m.out_proj(m.projection(joined)))
    return torch.stack(answers, dim=1)


ORACLES = {"encoder_decoder": encoder_decoder, "sigma": sigma}


def read(m: Answering, u: Tensor, hook=None, sizes=None):
    """The state after u, in pieces; steps have no output."""
    state, t0 = None, 0
    for part in u.split(sizes or [u.shape[1]], dim=1):
        out, state, _ = m(part, state, t0=t0, hook=hook)
        assert not out.any()
        t0 += part.shape[1]
    return state


@kinds
@pytest.mark.parametrize("steps", [1, 2, L])
def test_answers_are_those_of_the_oracle(kind, steps):
    m, u, q = mixer(kind), tokens(steps), tokens(Q, 1)
    torch.testing.assert_close(m.answer(q, read(m, u)), ORACLES[kind](m, u, q), **EXACT)


def test_parameters_are_counted():
    assert sum(p.numel() for p in mixer().parameters()) == 4 * LAYER + 2 * (4 * D * D + 4 * D + 2 * D + D)
    assert sum(p.numel() for p in mixer("sigma").parameters()) == 48 + (32 + 20 + 8 + 8 + 4 + 16) + 52 + 96 + 100 + 3
    values = {
        "kind": "sigma",
        "width": 132,
        "d_state": 16,
        "expand": 2,
        "dt_rank": "auto",
        "dt_min": 0.001,
        "dt_max": 0.1,
    }
    config = ModelConfig.model_validate(
        BASE | {"d_model": 256, "n_layer": 1, "mixer": values}
    )  # as docs/mixers.md has it
    assert sum(p.numel() for p in build_mixer(config, 0).parameters()) / 437_760 == pytest.approx(1, abs=WITHIN)


@kinds
@pytest.mark.parametrize("hook", [None, lambda call: call], ids=["plain", "hooked"])
@pytest.mark.parametrize("sizes", [(1, 2, 4), (1,) * L], ids=str)
def test_pieces_keep_what_the_whole_keeps_and_asking_changes_nothing(sizes, hook, kind):
    m, u, q = mixer(kind), tokens(L), tokens(Q, 1)
    whole, found = read(m, u), read(m, u, hook, sizes)
    before = [v.clone() for v in found.tensors]
    m.answer(q, found)
    for mine, kept, same in zip(found.tensors, before, whole.tensors, strict=True):
        assert torch.equal(mine, kept) and torch.equal(mine, same)


def test_the_encoder_decoder_is_a_function_of_the_set_of_steps():
    m, u, q = mixer(), tokens(L), tokens(Q, 1)
    torch.testing.assert_close(m.answer(q, read(m, u.flip(1))), m.answer(q, read(m, u)), **EXACT)


@kinds
@pytest.mark.parametrize(
    ("hook", "kept"),
    [
        (lambda call: call.mask(MASK[None, call.t0 : call.t0 + call.shape[1], None]), KEPT[0]),
        (lambda call: call.window(3, "exact"), torch.arange(L - 3, L)),
        (lambda call: call.reset() if call.t0 == 4 else call, torch.arange(4, L)),
    ],
    ids=["mask", "window", "reset"],
)
@pytest.mark.parametrize("sizes", [(4, 3), (1, 3, 2, 1)], ids=str)
def test_a_verb_leaves_what_reading_fewer_steps_would_leave(hook, kept, sizes, kind):
    m, u, q = mixer(kind), tokens(L), tokens(Q, 1)
    found = m.answer(q, read(m, u, hook, sizes))
    torch.testing.assert_close(found, ORACLES[kind](m, u[:, kept], q), **EXACT)
    assert not torch.allclose(found, m.answer(q, read(m, u)))


@kinds
def test_steps_that_a_hook_drops_are_not_kept(kind):
    m, u, q = mixer(kind), tokens(L), tokens(Q, 1)
    found = m.answer(q, read(m, u, lambda call: replace(call, keep=KEPT)))
    torch.testing.assert_close(found, ORACLES[kind](m, u[:, KEPT[0]], q), **EXACT)


@kinds
def test_queries_are_answered_together_or_alone_and_up_to_a_step(kind):
    m, u, q = mixer(kind), tokens(L), tokens(Q, 1)
    state, last = read(m, u), torch.tensor([3, 5])
    one_by_one = [m.answer(q[:, i : i + 1], state) for i in range(Q)]
    torch.testing.assert_close(m.answer(q, state, alone=True), torch.cat(one_by_one, dim=1), **EXACT)
    want = torch.cat([ORACLES[kind](m, u[b : b + 1, : last[b]], q[b : b + 1]) for b in range(B)])
    torch.testing.assert_close(m.answer(q, state, last=last), want, **EXACT)


def test_a_branch_that_is_left_out_in_training_is_so_for_whole_sequences_and_right_in_the_mean():
    layer, x = mixer().encoder[0].train(), tokens(L)
    y = torch.ones(400, 1, D, dtype=torch.float64)
    torch.manual_seed(0)
    found = layer._branch("own", y) / (layer.scales["own"] * y)
    assert set(found.unique(dim=1).flatten().round(decimals=9).tolist()) == {0.0, 2.0}
    assert found.mean().item() == pytest.approx(1, abs=0.15)
    x = x[:1].expand(40, -1, -1)
    assert not torch.allclose(layer(x, None), layer(x, None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 2}, "n_layer: found 2, expected: 1 with mixer encoder_decoder"),
        ({"d_model": 9}, "mixer.heads: found 2, expected a divisor of d_model, 9"),
    ],
    ids=["layers", "heads"],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_run(model=ENCODER_DECODER["model"] | changes)


def test_tasks_that_do_not_ask_refuse_it():
    with pytest.raises(ValueError, match=r"model\.mixer\.kind: found encoder_decoder, expected: another for task regr"):
        TASKS["regression"].run(model=ENCODER_DECODER["model"])


@torch.no_grad()
@pytest.mark.parametrize(("key", "mode"), ALL, ids=str)
def test_a_remedy_acts_beyond_the_training_length_or_is_refused_with_the_reason(key, mode):
    run, tried = tiny_run(**ENCODER_DECODER), entry(key, mode, **({"layers": [0]} if key[0] == "decimamba" else {}))
    if (refused := run.model.mixer.refusal(tried.requires)) is not None:
        with pytest.raises(ValueError) as e:
            check_mixers([tried], {"other": run})
        assert f"run 'other' has mixer encoder_decoder, which has {refused}" in str(e.value)
        return
    if tried.invariance == "cover":
        with pytest.raises(
            ValueError, match=f"makes no sense for task queried of run 'other' .*its form {key[1]} is made"
        ):
            check_kinds([tried], {"other": run}, ["uniform"])
        return
    task, model, steps = task_of(run), exact_model(run), [3, 6, 14]
    sequences, keys = (
        task.held_out(torch.tensor([4, 1]), "uniform", 0, 14),
        torch.rand(2, 14, generator=torch.Generator().manual_seed(0)),
    )
    found = read_with(model, build(tried, [tried], {}, model, 14), sequences, keys, steps, 4)
    plain = run_sequence(model, sequences, steps, mode)
    torch.testing.assert_close(found[:, :2], plain[:, :2], **EXACT)
    assert (found[:, 2] - plain[:, 2]).abs().max() > 1e-6


def test_it_trains_and_its_checkpoint_reads_images(tmp_path, tmp_path_factory):
    task = RUN["task"] | {"patch_size": 4, "per": "sample"}
    values = RUN | {"task": task, "model": RUN["model"] | ENCODER_DECODER["model"]}
    run, data = RunConfig.model_validate(values), shared_digits(tmp_path_factory)
    train_at(tmp_path, run, data)
    losses = history(tmp_path).filter(metric="loss")["value"].to_list()
    assert losses and losses[-1] < losses[0]
    model, _ = load_model(tmp_path / "train" / "model.safetensors", CPU)
    assert model.config == run.model
