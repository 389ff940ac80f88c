"""The official names, arguments and layouts: against loops written from the signatures, and inside other packages' models."""

import importlib
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from lgmamba import compat
from tests.hosts.models import skip_where_kernels_are_for_a_gpu
from tests.scan.cases import relative_rms

BATCH, CHANNELS, N = 2, 12, 5
SHAPES = {"constant": (CHANNELS, N), "shared": (BATCH, N, None), "grouped": (BATCH, 3, N, None)}


def draw(L, B="shared", C="shared", optional=True, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*[L if n is None else n for n in shape], generator=g, dtype=torch.float64)

    made = {
        "u": normal(BATCH, CHANNELS, L),
        "delta": normal(BATCH, CHANNELS, L) - 1,
        "A": -torch.exp(normal(CHANNELS, N)),
        "B": normal(*SHAPES[B]),
        "C": normal(*SHAPES[C]),
        "D": normal(CHANNELS) if optional else None,
        "z": normal(BATCH, CHANNELS, L) if optional else None,
        "delta_bias": normal(CHANNELS) if optional else None,
    }
    half = ("u", "delta", "B", "C", "z")
    return {
        k: v if v is None else v.to(dtype if k in half else torch.promote_types(dtype, torch.float32))
        for k, v in made.items()
    }


def loop(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """The recurrence, channel by channel."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)

    def at(v, t):  # (batch, channels, N)
        if v.ndim == 2:
            return v.expand(BATCH, CHANNELS, N)
        v = v[:, None] if v.ndim == 3 else v
        return torch.stack([v[:, d * v.shape[1] // CHANNELS, :, t] for d in range(CHANNELS)], dim=1)

    h, ys = u.new_zeros(BATCH, CHANNELS, N), []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        h = torch.exp(step * A) * h + step * at(B, t) * u[:, :, t, None]
        ys.append((h * at(C, t)).sum(-1))
    y = torch.stack(ys, dim=-1)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z), h


@pytest.mark.parametrize("L", [1, 33])
@pytest.mark.parametrize("C", SHAPES)
@pytest.mark.parametrize("B", SHAPES)
@pytest.mark.parametrize("optional", [True, False], ids=["all", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_selective_scan_fn(L, B, C, optional, dtype):
    tensors = draw(L, B, C, optional, dtype)
    tensors |= {"delta": tensors["delta"] if optional else tensors["delta"].abs()}
    leaves = {k: v.clone().requires_grad_() for k, v in tensors.items() if v is not None}
    exact = {k: v if v is None else v.double().requires_grad_() for k, v in tensors.items()}
    y, last = compat.selective_scan_fn(**leaves, delta_softplus=optional, return_last_state=True)
    want, want_last = loop(**exact, delta_softplus=optional)
    assert y.dtype == dtype and last.dtype == torch.float32
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    grads = torch.autograd.grad(y, list(leaves.values()), weights)
    want_grads = torch.autograd.grad(want, [exact[k] for k in leaves], weights.double())
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    errors = {"y": relative_rms(y, want), "last": relative_rms(last, want_last)}
    errors |= {k: relative_rms(g, w) for k, g, w in zip(leaves, grads, want_grads, strict=True)}
    assert {k: e for k, e in errors.items() if not e < tolerance} == {}


def test_arguments_may_be_given_by_position_and_the_state_is_left_out():
    tensors = draw(9)
    y = compat.selective_scan_fn(*tensors.values(), True)
    torch.testing.assert_close(y, loop(**tensors, delta_softplus=True)[0])


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_a_complex_argument_is_refused_by_name(name):
    tensors = draw(4, "constant", "constant")
    with pytest.raises(ValueError, match=f"^{name} is torch.complex64; complex state matrices are not supported"):
        compat.selective_scan_fn(**tensors | {name: tensors[name].to(torch.complex64)})


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"B": torch.ones(4, N)}, ValueError, r"B of two axes must be \(D, N\) with D = 12"),
        ({"C": torch.ones(1)}, ValueError, r"C must be \(B, N, L\), \(B, G, N, L\) or \(D, N\); got \(1,\)"),
        ({"z": torch.ones(4)}, ValueError, r"z must be \(B, D, L\)"),
        ({"delta": None}, TypeError, "delta must be a torch.Tensor; got None"),
        ({"D": 1.0}, TypeError, "D must be a torch.Tensor; got float"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_what_does_not_fit_is_named_as_the_caller_names_it(wrong, error, said):
    with pytest.raises(error, match=said):
        compat.selective_scan_fn(**draw(4) | wrong)


@pytest.mark.parametrize("activation", [None, "silu", "swish"])
@pytest.mark.parametrize("L", [1, 2, 9])
@pytest.mark.parametrize("has_bias", [True, False])
def test_causal_conv1d_fn(activation, L, has_bias):
    x, before, weight = torch.randn(2, 6, L), torch.randn(2, 6, 3), torch.randn(6, 4)
    bias = torch.randn(6) if has_bias else None
    whole = torch.cat([before, x], dim=-1)
    want = F.conv1d(whole, weight[:, None], bias, groups=6)
    want = want if activation is None else F.silu(want)
    out = torch.empty(2, 6, 3)
    y, final = compat.causal_conv1d_fn(x, weight, bias, None, before, True, out, activation)
    torch.testing.assert_close(y, want)
    assert final is out
    assert torch.equal(out, whole[..., -3:])
    alone = compat.causal_conv1d_fn(x, weight, bias, activation=activation)
    zeros = compat.causal_conv1d_fn(x, weight, bias, initial_states=torch.zeros(2, 6, 3), activation=activation)
    torch.testing.assert_close(alone, zeros)


def test_the_convolution_says_what_it_does_not_do():
    with pytest.raises(NotImplementedError, match="seq_idx"):
        compat.causal_conv1d_fn(torch.ones(1, 2, 3), torch.ones(2, 4), seq_idx=torch.zeros(1, 3))
    with pytest.raises(ValueError, match="activation must be None, 'silu' or 'swish'; got 'gelu'"):
        compat.causal_conv1d_fn(torch.ones(1, 2, 3), torch.ones(2, 4), activation="gelu")


def test_mamba_inner_fn():
    L, rank, d = 9, 3, 7
    tensors = draw(L, dtype=torch.float32)
    xz, weight, bias = torch.randn(BATCH, 2 * CHANNELS, L), torch.randn(CHANNELS, 1, 4), torch.randn(CHANNELS)
    x_proj, delta_proj = torch.randn(rank + 2 * N, CHANNELS), torch.randn(CHANNELS, rank)
    out, out_bias, b_bias = torch.randn(d, CHANNELS), torch.randn(d), torch.randn(N)
    norms = {f"{k}_rms_weight": torch.rand(n) for k, n in (("b", N), ("c", N), ("dt", rank))}
    options = {"D": tensors["D"], "delta_bias": tensors["delta_bias"], "B_proj_bias": b_bias, **norms}
    got = compat.mamba_inner_fn(xz, weight, bias, x_proj, delta_proj, out, out_bias, tensors["A"], **options)

    x, z = xz.split(CHANNELS, dim=1)
    x = F.silu(F.conv1d(F.pad(x, (3, 0)), weight, bias, groups=CHANNELS))
    low, B, C = torch.einsum("rc,bcl->brl", x_proj, x).split([rank, N, N], dim=1)
    B = B + b_bias[:, None]
    dt, B, C = (
        v / (v.square().mean(1, keepdim=True) + 1e-6).sqrt() * norms[f"{k}_rms_weight"][:, None]
        for k, v in (("dt", low), ("b", B), ("c", C))
    )
    delta = torch.einsum("cr,brl->bcl", delta_proj, dt)
    y, _ = loop(x, delta, tensors["A"], B, C, tensors["D"], z, tensors["delta_bias"], True)
    torch.testing.assert_close(got, torch.einsum("dc,bcl->bld", out, y) + out_bias, rtol=1e-4, atol=1e-4)


# ---- models of other packages ---------------------------------------------------------------------------------------


@pytest.fixture
def official_package(monkeypatch):
    """A stand-in for mamba_ssm: a module with the official names, and one whose model looks them up."""
    monkeypatch.setattr(compat, "REPLACED", {k: v for k, v in compat.REPLACED.items() if k.startswith("mamba_ssm")})
    names = ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.modules")
    interface, simple = "mamba_ssm.ops.selective_scan_interface", "mamba_ssm.modules.mamba_simple"
    made = {name: types.ModuleType(name) for name in (*names, interface, simple)}
    for name, module in made.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    for module in (made[interface], made[simple]):
        module.selective_scan_fn = module.mamba_inner_fn = module.causal_conv1d_fn = "theirs"
    return made[simple]


def test_the_patch_replaces_what_models_look_up_and_puts_it_back(official_package):
    with compat.patch() as patch:
        assert official_package.selective_scan_fn is compat.selective_scan_fn
        assert official_package.mamba_inner_fn is compat.mamba_inner_fn
        assert official_package.causal_conv1d_fn is compat.causal_conv1d_fn
        assert "mamba_ssm.modules.mamba_simple.selective_scan_fn" in patch.replaced
    assert official_package.selective_scan_fn == "theirs"
    patch = compat.patch()
    assert official_package.selective_scan_fn is compat.selective_scan_fn
    patch.restore()
    assert official_package.selective_scan_fn == "theirs"


def test_nothing_to_patch_is_an_error(monkeypatch):
    monkeypatch.setattr(compat, "REPLACED", {"no_such_package.models": {}})
    with pytest.raises(RuntimeError, match="no model to patch"):
        compat.patch()


def transformers_model(kind):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    skip_where_kernels_are_for_a_gpu()
    name = {"mamba": "Mamba", "falcon_mamba": "FalconMamba"}[kind]
    module = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    if not hasattr(module, "mamba_selective_scan"):
        pytest.skip(f"transformers {transformers.__version__} has no function to replace")
    sizes = dict(vocab_size=20, hidden_size=16, state_size=4, num_hidden_layers=2, intermediate_size=32)
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**sizes)), module


@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.filterwarnings("ignore")
def test_a_model_of_transformers_computes_the_same_with_it(kind, train, monkeypatch):
    model, module = transformers_model(kind)
    model.train(train)
    tokens = torch.randint(20, (2, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    mask[0, :4] = 0  # padding on the left

    def step():
        loss = model(tokens, attention_mask=mask, labels=tokens, use_cache=False).loss
        return [loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)]

    want, calls = step(), []
    real = compat.selective_scan
    monkeypatch.setattr(compat, "selective_scan", lambda *a, **k: calls.append(1) or real(*a, **k))
    with compat.patch():
        got = step()
    assert len(calls) == 2  # one in each layer
    for g, w in zip(got, want, strict=True):
        assert (g is None) == (w is None)
        if w is not None:
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-6)
    assert module.mamba_selective_scan is not compat._transformers_scan


@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba"])
@pytest.mark.filterwarnings("ignore")
def test_text_is_generated_alike(kind):
    model, _ = transformers_model(kind)
    model.eval()
    prompt = torch.randint(1, 20, (1, 6), generator=torch.Generator().manual_seed(1))
    options = dict(max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    want = model.generate(prompt, **options)
    with compat.patch():
        assert torch.equal(model.generate(prompt, **options), want)
