"""How kernels of flash-linear-attention are called: with stand-ins that compute, step by step, what its documentation says of them.

The kernels themselves: tests/gpu/test_fla_cuda.py.
"""

import pytest
import torch
from pydantic import ValidationError

from lgmamba.config.base import ConfigError
from lgmamba.config.run import ModelConfig
from lgmamba.config.study import load_params
from lgmamba.mixers import kernels, scans, sizes
from lgmamba.mixers.table import configured
from lgmamba.train.shapes import check_one_shape, why_alone
from tests.config.studies import PARAMS
from tests.mixers.contract import ROWS, build, inputs
from tests.mixers.recurrences import RECURRENCES, drawn
from tests.model.models import BASE

SINGLE = {"rtol": 1e-4, "atol": 1e-5}


def told(S, decays, wrote, erased, q, scale):
    """S (B, H, N, P) after a step, and what is read of it."""
    S = decays.exp()[..., None] * S + erased + wrote
    return S, scale * (q[..., None] * S).sum(-2)


def outer(k, v):
    return k[..., None] * v[..., None, :]


def chunk_gla(q, k, v, g, scale, initial_state, output_final_state):
    return loop(lambda S, t: told(S, g[:, t], outer(k[:, t], v[:, t]), 0, q[:, t], scale), k, v, initial_state)


def chunk_kda(q, k, v, g, beta, scale, initial_state, output_final_state):
    def step(S, t):
        left = g[:, t].exp()[..., None] * S
        new = beta[:, t, :, None] * (v[:, t] - (k[:, t, ..., None] * left).sum(-2))
        return told(S, g[:, t], outer(k[:, t], new), 0, q[:, t], scale)

    return loop(step, k, v, initial_state)


def chunk_dplr_delta_rule(q, k, v, a, b, gk, scale, initial_state, output_final_state, lower_bound):
    assert gk.min() >= lower_bound

    def step(S, t):
        erased = outer(b[:, t], (a[:, t, ..., None] * S).sum(-2))
        return told(S, gk[:, t], outer(k[:, t], v[:, t]), erased, q[:, t], scale)

    return loop(step, k, v, initial_state)


def loop(step, k, v, S):
    assert k.shape[-1] % kernels.TILE == v.shape[-1] % kernels.TILE == 0
    S = v.new_zeros(len(v), v.shape[2], k.shape[-1], v.shape[-1], dtype=torch.float32) if S is None else S
    ys = []
    for t in range(v.shape[1]):
        S, y = step(S, t)
        ys.append(y.to(v.dtype))
    return torch.stack(ys, dim=1), S


@pytest.fixture
def stand_ins(monkeypatch):
    found = {"gla": chunk_gla, "kda": chunk_kda, "dplr": chunk_dplr_delta_rule}
    assert {name: function.__name__ for name, function in found.items()} == {
        name: function for name, (_, function) in kernels.WHERE.items()
    }
    monkeypatch.setattr(kernels, "_kernel", found.__getitem__)
    monkeypatch.setattr(kernels, "unavailable", lambda device: None)


def test_every_parallel_form_of_heads_has_a_kernel():
    assert {plain.__name__: kernel.__name__ for plain, kernel in kernels.KERNELS.items()} == {
        name: name for name in RECURRENCES
    }
    for name in RECURRENCES:
        assert kernels.chosen(getattr(scans, name), "auto") is getattr(scans, name)
        assert kernels.chosen(getattr(scans, name), "fla") is getattr(kernels, name)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("scan", RECURRENCES)
def test_a_kernel_is_given_what_its_recurrence_means(stand_ins, scan, started):
    d = {name: v.float().requires_grad_() for name, v in drawn(9).items()}
    h0 = d["h0"] if started else None
    found = []
    for y, S in (RECURRENCES[scan](d, h0), getattr(kernels, scan)(*RECURRENCES[scan].given(d), h0)):
        grads = torch.autograd.grad(y.square().sum() + S.sin().sum(), list(d.values()), allow_unused=True)
        found.append((y, S, *(g for g in grads if g is not None)))
    assert len(found[0]) == len(found[1])
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want, **SINGLE)


def test_heads_may_share_keys(stand_ins):
    d = {name: v.float() for name, v in drawn(9).items()}
    k, q = d["k"][:, :, :1], d["q"][:, :, :1]
    want = scans.ssd_scan(d["log_a"], k, q, d["v"], d["h0"])
    torch.testing.assert_close(kernels.ssd_scan(d["log_a"], k, q, d["v"], d["h0"]), want, **SINGLE)


def test_autocast_says_in_what_type_keys_and_values_are_given_and_the_rest_stays_wide(monkeypatch):
    seen = {}

    def kernel(**given):
        seen.update({name: v.dtype for name, v in given.items() if isinstance(v, torch.Tensor)})
        return torch.zeros_like(given["v"]), torch.zeros_like(given["initial_state"])

    monkeypatch.setattr(kernels, "_kernel", lambda name: kernel)
    monkeypatch.setattr(kernels, "unavailable", lambda device: None)
    d = {name: v.float() for name, v in drawn(9).items()}
    with torch.autocast("cpu", torch.bfloat16):
        y, S = kernels.delta_scan(*RECURRENCES["delta_scan"].given(d), d["h0"])
    wide = dict.fromkeys(("g", "beta", "initial_state"), torch.float32)
    assert seen == dict.fromkeys("qkv", torch.bfloat16) | wide
    assert (y.dtype, S.dtype) == (torch.float32, torch.float32)
    assert (y.shape, S.shape) == (d["v"].shape, d["h0"].shape)


SERVED = {name: row for name, row in ROWS.items() if configured(row.mixer).FLA}


@pytest.mark.parametrize("name", SERVED)
def test_a_mixer_by_kernels_is_the_mixer_and_a_hook_goes_its_own_way(stand_ins, name):
    u = inputs(dtype=torch.float32)
    plain, mixer = (build(SERVED[name], double=False, scan_backend=backend) for backend in ("reference", "fla"))
    (first, middle, _), want = plain(u[:, :3]), plain(u)
    out, state, _ = mixer(u[:, :3])
    torch.testing.assert_close(out, first, **SINGLE)
    rest, end, _ = mixer(u[:, 3:], state, t0=3)
    torch.testing.assert_close(torch.cat([out, rest], dim=1), want[0], **SINGLE)
    torch.testing.assert_close(end.tensors, want[1].tensors, **SINGLE)
    kernels_seen = []
    mixer._scan = lambda *given: kernels_seen.append(given)
    hooked, _, _ = mixer(u[:, 3:], middle, t0=3, hook=lambda call: call)
    assert not kernels_seen
    torch.testing.assert_close(hooked, want[0][:, 3:], **SINGLE)


def model(mixer: dict, **values) -> ModelConfig:
    return ModelConfig.model_validate(BASE | {"scan_backend": "fla", "mixer": mixer} | values)


@pytest.mark.parametrize("name", sizes.LARGE)
def test_a_mixer_without_kernels_is_refused_with_the_reason(name):
    mixer = sizes.LARGE[name]
    if configured(mixer).FLA:
        assert model(mixer, d_model=256).scan_backend == "fla"
        return
    with pytest.raises(ValidationError, match=rf"found fla, but mixer {mixer['kind']}: the kernels .* expected auto"):
        model(mixer, d_model=256)


def test_keys_that_are_too_wide_are_refused():
    with pytest.raises(ValidationError, match="keys of 256 numbers at most, and its keys have 257"):
        model({"kind": "gla", "heads": 1, "key": 257, "value": 4})


def test_where_kernels_cannot_run_it_is_said_why_and_what_to_do(monkeypatch):
    d = {name: v.float() for name, v in drawn(3).items()}
    with pytest.raises(
        RuntimeError, match=r"backend='fla' cannot run on device 'cpu': .* for a GPU; use backend='auto'"
    ):
        kernels.gla_scan(*RECURRENCES["gla_scan"].given(d))
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    reason = kernels.unavailable.__wrapped__("cuda")
    assert reason == "the package fla is not installed; pip install 'lgmamba[fla]'"
    assert kernels.resolved("reference", "cpu") == "reference"


def test_double_precision_and_transforms_are_refused(stand_ins):
    d = drawn(3)
    with pytest.raises(ValueError, match="does not compute in float64"):
        kernels.gla_scan(*RECURRENCES["gla_scan"].given(d))
    given = [v.float().expand(2, *v.shape) for v in RECURRENCES["gla_scan"].given(d)]
    with pytest.raises(RuntimeError, match=r"does not run under a transform of torch\.func"):
        torch.vmap(kernels.gla_scan)(*given)


def test_runs_by_kernels_are_trained_alone():
    run = next(iter(load_params(PARAMS, "mixers").runs_by_name().values()))
    plain = run.model_copy(update={"model": model(sizes.SMALL["gla"], d_model=16, scan_backend="auto")})
    fla = run.model_copy(update={"model": model(sizes.SMALL["gla"], d_model=16)})
    assert (why_alone(plain), why_alone(fla)) == (None, "kernels of flash-linear-attention")
    check_one_shape([plain, plain])
    with pytest.raises(ConfigError, match="kernels of flash-linear-attention, which is done alone"):
        check_one_shape([fla, fla])
