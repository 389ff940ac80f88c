"""Text as bytes: windows of files, no file in two splits, and the code length of the byte that comes."""

import math

import pytest
import torch

from lgmamba.config.base import ConfigError
from lgmamba.config.data import DataConfig
from lgmamba.config.overlays import merge
from lgmamba.config.run import ModelConfig
from lgmamba.config.study import load_params
from lgmamba.config.training import TrainConfig
from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from lgmamba.metrics import BITS
from lgmamba.tasks.bytes.config import BytesConfig
from lgmamba.tasks.bytes.task import BytesTask
from lgmamba.tasks.passkey.config import PasskeyConfig
from lgmamba.tasks.passkey.task import PasskeyTask
from tests.tasks.contract import NO_ENDS, moved
from tests.train.tiny import DATA, RUN
from tests.workflow.checkouts import ROOT

W = 30
LENGTHS = {"lengths": {"kind": "fixed", "value": 8}, "supervision": {"kind": "all"}}


def config_of(folder, **source):
    text = {"source": {"kind": "text", "path": str(folder), "pattern": "*.txt", "window": W, **source}}
    return DataConfig.model_validate(merge(DATA, {"image_size": None, "max_images": None, **text}))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """40 files of 3 windows each, of which every byte is the file's number; and what was made of them."""
    root = tmp_path_factory.mktemp("text")
    for n in range(40):
        path = root / "files" / f"part{n % 2}" / f"{n:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([n]) * (3 * W + 7))
    (root / "files/short.txt").write_bytes(b"x" * (W - 1))
    (root / "files/other.py").write_bytes(b"x" * 200)
    manifest = build_dataset(config_of(root / "files"), [], root / "data", workers=1)
    return root, manifest, load_dataset(root / "data")


def test_windows_are_whole_and_a_file_s_are_in_one_split(built):
    _, manifest, dataset = built
    assert tuple(dataset.images.shape) == (120, 1, 1, W)
    files = dataset.images[:, 0, 0]
    assert (files == files[:, :1]).all()
    splits = {n: set(dataset.codes[files[:, 0] == n].tolist()) for n in range(40)}
    assert all(len(codes) == 1 for codes in splits.values())
    assert len({code for codes in splits.values() for code in codes}) > 1
    assert len(dataset.id_hash.unique()) == 120
    assert manifest.sources[0].n_bytes == 120 * W


def test_the_digest_is_of_what_was_read(built, tmp_path):
    root, manifest, _ = built
    again = build_dataset(config_of(root / "files"), [], tmp_path / "again", workers=1)
    assert (again.sha256, again.sources[0].sha256) == (manifest.sha256, manifest.sources[0].sha256)


def test_files_that_are_too_short_are_said(built, tmp_path):
    with pytest.raises(DataError, match=r"found no file \*\.txt of 1,000 bytes or more"):
        build_dataset(config_of(built[0] / "files", window=1000), [], tmp_path / "none", workers=1)


def task_on(dataset, **values):
    return BytesTask(BytesConfig.model_validate({"kind": "bytes", "starts": 5} | LENGTHS | values), dataset)


def test_every_step_is_asked_for_the_byte_after_it(built):
    dataset = built[2]
    task = task_on(dataset)
    text = torch.arange(W, dtype=torch.uint8).expand(120, 1, 1, W)
    task.dataset = type(dataset)(
        text, *(getattr(dataset, n) for n in ("labels", "codes", "id_hash", "mean_image", "manifest"))
    )
    read = task.held_out(torch.arange(120), "text", 0, W - 5)
    assert torch.equal(read.following, read.symbol + 1)
    assert set(read.symbol[:, 0].tolist()) == set(range(5))
    batch = task.sampler(torch.arange(120), load_train(), 0, True).draw(0)
    assert torch.equal(batch.text[:, 1:], batch.text[:, :-1] + 1)
    assert batch.text.shape[1] == 9


def load_train():
    return TrainConfig.model_validate(RUN["train"])


def test_errors_are_code_lengths_and_levels_what_they_save(built):
    task, steps = task_on(built[2]), torch.tensor([1, 8])
    read = task.held_out(torch.arange(6), "text", 0, 8)
    flat = task.errors(torch.zeros(6, 2, 256), read, steps)["bits"]
    torch.testing.assert_close(flat, torch.full((6, 2), 8.0))
    assert BITS.of_mean(8.0) == 0
    train = built[2].images[built[2].split("train")]
    count = int((train == read.symbol[0, 0]).sum())
    want = -math.log2((count + 1) / (train.numel() + 256))
    found = task.baselines(read, steps, None)["unigram"].values["bits"]
    assert float(found[0, 0]) == pytest.approx(want, rel=1e-6)


# Passkeys


def passkey_on(dataset, **values):
    config = {
        "kind": "passkey",
        "starts": 3,
        "lengths": {"kind": "fixed", "value": 20},
        "supervision": {"kind": "last"},
    }
    return PasskeyTask(PasskeyConfig.model_validate(config | values), dataset)


def test_a_key_stands_whole_in_its_text_and_asks_for_its_digits(built):
    task = passkey_on(built[2])
    batch = task.sampler(built[2].split("train"), load_train(), 0, True).draw(0)
    for read, order in ((task.held_out(torch.arange(8), "start", 0, 27), "start"), (task.sequences(batch), None)):
        asks = read.questions_after(torch.full((len(read),), 20)).tolist()
        digits = task.targets(read, torch.tensor([20]))[:, 0].tolist()
        for row, question, told, end in zip(read.symbol.tolist(), asks, digits, read.end.tolist(), strict=True):
            key = bytes(row[end - 16 : end])
            assert key == b"<key>" + bytes(told) + b"</key>"
            assert bytes(told).isdigit()
            assert bytes(question) == b"<key>" + bytes(told[:4])
            assert end <= 20, order
            assert len({x for i, x in enumerate(row) if not end - 16 <= i < end}) == 1
    later = task.held_out(torch.arange(8), "two", 0, 27)
    assert not task.known(later, torch.tensor([27])).any()
    assert task.known(task.held_out(torch.arange(8), "start", 0, 27), torch.tensor([20])).all()


def test_a_key_with_one_wrong_digit_is_wrong_and_a_guess_is_right_once_in_a_hundred_thousand(built):
    task, steps = passkey_on(built[2]), torch.tensor([20])
    read = task.held_out(torch.arange(6), "start", 0, 20)
    right = torch.nn.functional.one_hot(task.targets(read, steps), 256).float()
    assert not task.errors(right, read, steps)["error_rate"].any()
    right[:3, :, 4] *= -1
    assert task.errors(right, read, steps)["error_rate"][:, 0].tolist() == [1, 1, 1, 0, 0, 0]
    found = {name: float(s.values["error_rate"].mean()) for name, s in task.baselines(read, steps, None).items()}
    assert found == {"exact": 0, "chance": pytest.approx(1 - 1e-5, abs=1e-7)}


@torch.no_grad()
def test_training_is_about_keys_and_about_text(built):
    model = moved(
        PasskeyTask.build_model(
            passkey_on(built[2]).config, ModelConfig.model_validate(RUN["model"] | NO_ENDS), (1, 1, W)
        )
    )
    losses = {}
    for share in (0.25, 0.5, 1.0):
        task = passkey_on(built[2], share=share)
        batch = task.sampler(built[2].split("train"), load_train(), 0, True).draw(0)
        losses[share] = float(task.loss(model, batch))
    text = (losses[0.5] - 0.5 * losses[1.0]) / 0.5
    assert losses[0.25] == pytest.approx(0.25 * losses[1.0] + 0.75 * text, rel=1e-5)
    read = task.sequences(batch)
    logits = model.predict(model.encode(model.tokens(read, 0, read.T))[0])
    assert text == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), read.following.flatten())), rel=1e-4
    )


def test_sequences_too_short_for_a_key_are_refused(built):
    with pytest.raises(ValueError, match="found sequences of 15 steps, expected: 16 or more"):
        passkey_on(built[2], lengths={"kind": "uniform", "low": 15, "high": 20})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"source": {"window": 700}}}, r"evaluation\.max_length_ratio: found .* 512 steps, expected: at most 444, .* data\.source\.window"),
        ({"data": {"source": {"kind": "none", "samples": 99}}}, r"data\.source\.kind: found 'none', expected: text"),
        ({"claims": {"primary": []}, "remedies": [{"name": "w", "kind": "assemble", "mode": "stream"}]}, r"remedies\.0: .* that is `truncate`"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        load_params(ROOT / "params.yaml", preset="bytes", overrides=change)


def test_a_mean_over_windows_is_refused_for_keys_with_its_reason():
    windows = {"remedies": [{"name": "w", "kind": "assemble", "mode": "stream"}], "claims": {"primary": []}}
    with pytest.raises(ConfigError, match=r"remedies\.0: .* drowns the one that has it"):
        load_params(ROOT / "params.yaml", preset="passkey", overrides=windows)
