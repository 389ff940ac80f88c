"""What cannot be done is said before anything is done: which model, which remedy, what was found and what was expected."""

import pytest
import torch
from torch import nn

import lgmamba
from lgmamba.cli.audit import read_remedies
from lgmamba.config.base import ConfigError
from lgmamba.hosts.audit import run
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.extension import refusal, wanted
from lgmamba.hosts.host import Host
from lgmamba.hosts.loading import load_model, load_tokens
from tests.hosts.models import L0, make, tokens
from tests.remedies.contract import ALL, values

POWER = {"kind": "step_size", "form": "power", "mode": "stream"}
LAYER = {"kind": "step_size", "form": "layer", "mode": "prefix", "calibrate": "gradient"}


@pytest.mark.parametrize(
    ("remedy", "more", "message"),
    [
        (POWER, {"L0": None}, "the number of tokens that the model was trained to read"),
        (POWER, {"L0": 0}, "found L0=0"),
        (LAYER, {}, "expected either calibrate=token ids or values=folder"),
        (POWER, {"calibrate": tokens(4, 60)}, "has nothing to calibrate"),
        (POWER, {"target_length": 20}, "mode: prefix only"),
        (LAYER, {"calibrate": tokens(2, 30)}, r"expected 8 windows of 49 tokens.*found 0 windows"),
        ({"kind": "assemble", "mode": "stream"}, {}, "puts a picture together"),
        ({"kind": "step_size", "form": "norm", "mode": "prefix"}, {}, "tabulated for a few lengths"),
        (POWER | {"phase": "kept"}, {}, "no phases that could be left as they are"),
        ([], {}, "found no remedy"),
    ],
)
def test_what_does_not_go(remedy, more, message):
    model = make("Mamba")
    with pytest.raises(HostError, match=message):
        lgmamba.extend(model, remedy, **({"L0": L0} | more))
    assert all("forward" not in m.__dict__ for m in model.modules())


def test_a_misspelt_entry_is_named_with_the_key_that_was_meant():
    with pytest.raises(ConfigError, match="did you mean 'calibrate'"):
        lgmamba.extend(make("Mamba"), {**LAYER, "calibrates": "gradient"}, L0)
    with pytest.raises(ConfigError, match="runs in stream mode only"):
        lgmamba.extend(make("Mamba"), {**POWER, "mode": "prefix"}, L0)


def test_models_that_are_not_known_or_cannot_be_read():
    with pytest.raises(HostError, match=r"a Linear without a Mamba layer.*transformers' Mamba, FalconMamba"):
        Host(nn.Linear(2, 2), L0)

    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.A_log = nn.Parameter(torch.zeros(2))

    with pytest.raises(HostError, match="layers of Unknown"):
        Host(nn.Sequential(Unknown()), L0)
    model = make("Mamba")
    mixer = model.backbone.layers[0].mixer
    mixer.in_proj.weight = nn.Parameter(mixer.in_proj.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(HostError, match=r"quantised weights \(MambaMixer.in_proj.weight\)"):
        Host(model, L0)


def test_weights_that_are_elsewhere_are_refused():
    model = make("Mamba")
    model.backbone.layers[1].to("meta")
    with pytest.raises(HostError, match="offloaded"):
        Host(model, L0)


def test_weights_that_are_no_numbers_are_named():
    model = make("Mamba")
    with torch.no_grad():
        model.backbone.layers[1].mixer.in_proj.weight[0, 0] = torch.nan
    for look in (
        lambda: lgmamba.watch(model, tokens(1, 9), L0),
        lambda: lgmamba.audit(model, tokens(4, 99), L0, length_ratios=(1, 2), windows=2),
    ):
        with pytest.raises(
            HostError, match=r"layers\.1\.mixer\.in_proj\.weight: found weights that are NaN or infinite"
        ):
            look()


def test_half_a_file_of_weights_is_said_to_be_none_that_can_be_loaded(tmp_path):
    make("Mamba").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(HostError, match="cannot be loaded; expected a folder with config"):
        load_model(str(tmp_path), "float32", torch.device("cpu"))


def test_a_text_of_nothing_is_named(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(HostError, match=r"empty\.txt: found no text; expected text files"):
        load_tokens(lambda text: list(text.encode()), [tmp_path / "empty.txt"], 9)


@pytest.mark.parametrize(
    ("written", "found"),
    [("kind: step_size", r"keys \['kind'\]"), ("{}", r"keys \[\]"), ("remedies: {name: a}", "remedies: {'name': 'a'}")],
)
def test_a_file_without_remedies_is_refused_rather_than_none_tried(written, found, tmp_path):
    (tmp_path / "r.yaml").write_text(written)
    with pytest.raises(ConfigError, match=rf"r\.yaml: found {found}, expected `remedies:` with a list"):
        read_remedies(tmp_path / "r.yaml")


def test_a_page_that_cannot_lie_where_it_should_is_said_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("mine")
    monkeypatch.setattr(run, "watch", lambda *_: pytest.fail("was read"))
    with pytest.raises(FileExistsError):
        lgmamba.audit(make("Mamba"), tokens(4, 99), L0, length_ratios=(1, 2), windows=2, out=tmp_path / "out")


def test_one_model_has_one_extension():
    model = make("Mamba")
    with lgmamba.extend(model, POWER, L0):
        for again in (lambda: lgmamba.extend(model, POWER, L0), lambda: lgmamba.watch(model, tokens(1, 9), L0)):
            with pytest.raises(HostError, match="extended already"):
                again()
    with lgmamba.extend(model, POWER, L0):
        pass


def test_hybrids_keep_every_step():
    reason = refusal(Host(make("Jamba"), L0), *wanted([{"kind": "decimamba", "mode": "prefix"}]), generates=True)
    assert "attention layers between the Mamba layers" in reason


def test_an_exact_window_that_would_not_fit_is_refused_with_what_does():
    host = Host(make("Mamba2"), 10_000_000)
    exact, overlap = wanted(
        [
            {"name": "a", "kind": "window", "mode": "stream"},
            {"name": "b", "kind": "window", "form": "overlap", "mode": "stream"},
        ]
    )
    assert "form: overlap" in refusal(host, exact, generates=True) and refusal(host, overlap, generates=True) is None


@pytest.mark.parametrize(("key", "mode"), ALL, ids=[f"{k}-{f}-{m}" for (k, f), m in ALL])
def test_every_form_of_every_kind_is_read_or_says_why_not(key, mode):
    (entry,) = wanted([values(key, mode)])
    model, ids = make("Mamba"), tokens(2, 3 * L0)
    if (reason := refusal(Host(model, L0), entry, generates=True)) is not None:
        assert len(reason) > 20
        with pytest.raises(HostError, match="is not for this model"):
            lgmamba.extend(model, values(key, mode), L0)
        return
    given = (
        {"calibrate": tokens(4, 2 * L0 + 1), "windows": 4, "steps": 1, "lengths": (2.0,)}
        if entry.calibrated
        else {"lengths": (2.0,)}
    )
    with torch.no_grad(), lgmamba.extend(model, values(key, mode), L0, **given):
        assert model(ids).logits[:, -1].isfinite().all()
        assert model.generate(ids, max_new_tokens=2, eos_token_id=None, do_sample=False).shape == (2, 3 * L0 + 2)
