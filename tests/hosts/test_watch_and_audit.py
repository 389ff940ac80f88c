"""What `watch` sees and `audit` says of a model that was trained for seconds, against what can be known otherwise."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import lgmamba
from lgmamba.hosts import calibration as bounded
from lgmamba.hosts.audit.answer import breaks_at
from lgmamba.hosts.audit.passkey import Passkeys
from lgmamba.hosts.audit.scores import VANILLA, at_the_end, by_position, reset
from lgmamba.hosts.calibration import LanguageCalibration
from lgmamba.hosts.errors import HostError
from lgmamba.hosts.host import Host
from lgmamba.hosts.sequences import TokenSequences, windows_of
from lgmamba.remedies.closed_form import StateRecorder
from lgmamba.remedies.longmamba.filters import StepSizeRecorder
from tests.hosts.models import VOCABULARY, make, tokens
from tests.hosts.trained import L0, text, trained

BITS = math.log(2)


def bits(model, ids):
    """(B, T) of the tokens after each of (B, T + 1) ids, by the model's own pass."""
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits
    found = F.cross_entropy(logits.reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1), reduction="none")
    return found.reshape(len(ids), -1) / BITS


def test_scores_are_those_of_the_models_own_pass_over_the_last_tokens():
    model, windows = trained(), text(3, 4 * L0 + 1, seed=1)
    host, sequences = Host(model, L0), TokenSequences.of(windows)
    for T in (L0, 3 * L0):
        found = at_the_end(host, VANILLA, sequences, T, 5) / BITS
        torch.testing.assert_close(found, bits(model, windows[:, -T - 1 :])[:, -5:], rtol=0, atol=1e-4)
    stops = [L0 // 2, L0, 4 * L0]
    for mean, start, stop in zip(by_position(host, sequences, stops), [0, *stops], stops, strict=False):
        expected = bits(model, windows)[:, start:stop].mean(1).double()
        torch.testing.assert_close(mean / BITS, expected, rtol=0, atol=1e-4)


def test_reset_scores_the_same_tokens_from_starts_that_differ_by_window():
    model, n = trained(), 4
    windows = text(n, 4 * L0 + 1, seed=2)
    found = reset(Host(model, L0), TokenSequences.of(windows), 6) / BITS
    for row, since in enumerate([3, 7, 11, 15]):  # tokens after the last start
        last = bits(model, windows[row : row + 1, -since - 1 :])[0]
        before = bits(model, windows[row : row + 1, -since - L0 - 1 : -since])[0]
        torch.testing.assert_close(found[row], torch.cat([before, last])[-6:], rtol=0, atol=1e-4)


def test_calibration_finds_back_what_was_done_to_the_step_sizes():
    """Step sizes raised about four times: factors below 1 give most of the loss back."""
    remedy = {"kind": "step_size", "form": "layer", "mode": "prefix", "calibrate": "gradient"}
    own, T = trained(), 2 * L0
    held_out = text(16, T + 1, seed=3)
    level, broken = bits(own, held_out).mean(), trained(4.0)
    spoilt = bits(broken, held_out).mean()
    with lgmamba.extend(
        broken, remedy, L0, calibrate=text(16, T + 1, seed=4), lengths=(2.0,), windows=16, steps=15
    ) as ext:
        repaired = bits(broken, held_out).mean()
        factors = ext.values["step_size"]["T"][str(T)]["factors"]
    assert spoilt > level + 0.2
    assert repaired < level + 0.5 * (spoilt - level)
    assert sum(factors) / len(factors) < 0.8


def test_watch_counts_step_sizes_and_norms_as_they_are():
    model, ids = trained(), text(3, 4 * L0 + 1, seed=5)
    seen = lgmamba.watch(model, ids, L0)
    steps, states = [], []
    with torch.no_grad():
        host = Host(model, L0)

        def look(call):
            steps.append(call.dt)
            return call

        _, state = host.encode(ids[:, :-1], hook=look)
        states = [layer.memory.flatten(1).norm(dim=1).mean() for layer in state.layers]
    columns = seen.frames["step_sizes"]
    first = [i for i, layer in enumerate(columns["layer"]) if layer == 0]
    weights = [columns["to"][i] - columns["from"][i] + 1 for i in first]
    mean = sum(w * columns["mean"][i] for w, i in zip(weights, first, strict=True)) / sum(weights)
    assert mean == pytest.approx(float(steps[0].mean()), rel=1e-4)
    at = [i for i in first if columns["to"][i] == L0]
    exact = float(steps[0][:, columns["from"][at[0]] - 1 : L0].median())
    assert columns["median"][at[0]] == pytest.approx(exact, rel=0.1)  # as wide as a bin of the histogram
    last = {
        layer: n
        for layer, T, n in zip(*(seen.frames["states"][c] for c in ("layer", "tokens", "norm")), strict=True)
        if T == 4 * L0
    }
    assert last == pytest.approx({0: float(states[0]), 1: float(states[1])}, rel=1e-4)
    assert sum(seen.frames["memory"][g][0] for g in ("short", "medium", "long")) == pytest.approx(1)
    growth = zip(*(seen.frames["inflation"][c] for c in ("tokens", "growth")), strict=True)
    assert all(0.99 <= g <= T / L0 + 0.01 for T, g in growth)
    lost = seen.frames["context"]["bits_lost"]
    assert lost[0] > 10 * max(lost[-1], 1e-6)  # one token alone predicts little of what repeats after four


def test_watch_reads_every_class_and_writes_its_frames(tmp_path):
    for name in ("Mamba2", "Jamba"):
        seen = lgmamba.watch(make(name), tokens(2, 30), 8)
        paths = seen.write(tmp_path / name)
        assert {p.stem for p in paths} == set(seen.frames) and all(p.stat().st_size for p in paths)
        assert seen.frame("states")["norm"].is_finite().all()


def test_recorders_keep_within_their_bounds_and_say_nearly_the_same(monkeypatch):
    """Of many sequences every k-th step size is kept, of all sequences alike."""
    host = Host(trained(), L0)
    images = LanguageCalibration(host, None, TokenSequences.of(text(32, L0 + 1, seed=6)), None, [], L0, 0)
    found = {}
    for limit in (1 << 28, 40_000):
        monkeypatch.setattr(bounded, "RECORDED_BYTES", limit)
        found[limit] = StepSizeRecorder(), StateRecorder()
        with torch.no_grad():
            for recorder in found[limit]:
                images.record(recorder, L0, whole=True)
    (all_steps, all_states), (some_steps, some_states) = found.values()
    size = sum(v.numel() for pieces in some_steps.step_sizes.values() for v in pieces) * 4
    assert size <= 40_000 < sum(v.numel() for pieces in all_steps.step_sizes.values() for v in pieces) * 4
    for layer in (0, 1):
        many, few = (torch.cat(r.step_sizes[layer]).mean((0, 1)) for r in (all_steps, some_steps))
        assert (few / many - 1).abs().mean() < 0.15
        torch.testing.assert_close(all_states.energy[layer], some_states.energy[layer])


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of a model whose step sizes are too small beyond L0 to say nothing, with every file."""
    out = tmp_path_factory.mktemp("audit")
    remedies = [
        {"name": "power", "kind": "step_size", "form": "power", "mode": "stream"},
        {"name": "norm", "kind": "step_size", "form": "norm", "mode": "prefix"},
        {"name": "deci", "kind": "decimamba", "mode": "prefix"},
        {"name": "slow", "kind": "window", "mode": "stream"},
        {"name": "joined", "kind": "assemble", "mode": "stream"},
    ]
    ids = text(8, 4 * (4 * L0 + 1), seed=7)
    return lgmamba.audit(
        trained(), ids, L0, length_ratios=(1, 2, 4), remedies=remedies, windows=6, out=out, named="tiny"
    ), out


def test_an_audit_reads_every_remedy_beside_every_control(audited):
    found, _ = audited
    lengths = [L0, 2 * L0, 4 * L0]
    assert {T for n, T in found.scores if n == "vanilla"} == set(lengths)
    for name in ("truncate", "reset", "freeze", "power", "norm", "deci", "slow"):
        assert {T for n, T in found.scores if n == name} == {2 * L0, 4 * L0}, name
        assert all(math.isfinite(v) for T in lengths[1:] for v in found.scores[name, T])
    assert found.scores["truncate", 2 * L0] == found.scores["vanilla", L0]
    assert set(found.refused) == {"joined"} and "picture" in found.refused["joined"]
    vanilla = found.level("vanilla", 4 * L0)
    assert vanilla.from_L0[0] == pytest.approx(vanilla.bits - found.level("vanilla", L0).bits)


def test_its_answer_follows_from_its_levels(audited):
    found, _ = audited
    (first, *rest), vanilla = found.answer, found.level("vanilla", 4 * L0)
    if breaks_at(found) is not None:
        assert "It breaks from" in first
    else:
        assert ("does not break" in first) == (vanilla.from_L0[2] < 0)
    best = min(
        (v for v in found.levels if v.tokens == 4 * L0 and v.remedy in ("power", "norm", "deci", "slow")),
        key=lambda v: v.bits,
    )
    assert f"`{best.remedy}`" in rest[0]
    assert ("is best" in rest[0]) == any(
        v.from_control[2] < 0
        for v in found.levels
        if v.tokens == 4 * L0 and v.remedy in ("power", "norm", "deci", "slow")
    )


def test_its_files_are_whole_and_its_page_asks_for_nothing(audited):
    found, out = audited
    page = (out / "audit.html").read_text()
    assert (
        "How far can tiny read?" in page
        and page.count("data:image/png") == 3
        and "http" not in page.replace("http-equiv", "")
    )
    about = json.loads((out / "audit.json").read_text())
    assert about["answer"] == found.answer and about["L0"] == L0 and about["windows"] == 6
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {
        "scores.parquet",
        "levels.parquet",
        "position.parquet",
        "watched/states.parquet",
        "values/norm.json",
    } <= names


def test_texts_that_are_too_short_are_refused_with_what_is_missing():
    with pytest.raises(HostError, match=r"12 windows of 65 tokens.*found 3 windows in 1 texts, 200 tokens"):
        lgmamba.audit(trained(), torch.arange(200) % 11, L0, length_ratios=(1, 4), windows=6)
    with pytest.raises(HostError, match="integers"):
        windows_of(torch.rand(5), 1, 2, "audit")
    with pytest.raises(HostError, match="the longest of 2 or more"):
        lgmamba.audit(trained(), text(8, 200), L0, length_ratios=(0.5, 1))


def test_passkeys_are_told_where_it_is_said_and_asked_for_at_the_end():
    class Knows:
        """A host whose answer is what stands after the last "is " of the text that it was given."""

        device = torch.device("cpu")

        def encode(self, tokens, state=None, target_length=None, hook=None):
            seen = tokens if state is None else torch.cat([state.ids, tokens], 1)
            return tokens.double()[..., None], SimpleNamespace(ids=seen)

        def tokens(self, sequences, start, stop):
            return sequences.ids[:, start:stop]

        def predict(self, outputs):
            return F.one_hot(torch.full(outputs.shape[:2], ord("7")), 256).double()

        def surprise(self, outputs, targets):
            return F.cross_entropy(self.predict(outputs).mT, targets, reduction="none")

    keys = Passkeys(lambda text: list(text.encode()), [200, 400])
    for T, texts in keys._texts.items():
        for (depth, key), ids in zip(keys.cases, texts, strict=True):
            said = bytes(ids.tolist())
            assert len(said) == T + 1 and said.endswith(b"The pass key is %d" % key) and said.count(b"%d" % key) == 3
            room = (
                T
                + 1
                - len(said[said.index(b"What is the") :])
                - len("The pass key is 12345. Remember it. 12345 is the pass key. ")
            )
            assert said.index(b"The pass key is") == round(depth * room)
    keys.ask(Knows(), "vanilla", VANILLA, 400)
    assert keys.share("vanilla", 400) == 0 and keys.share("vanilla", 200) is None
    assert len(keys.columns["bits"]) == len(keys.cases) and keys.answer == 6
    with pytest.raises(HostError, match=r"texts of 1.. tokens or more; found a length of 50"):
        Passkeys(lambda text: list(text.encode()), [50])
