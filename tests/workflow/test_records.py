"""A result is current by its digests alone, and no file of it is read that is not what was recorded."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lgmamba.records import ArtefactError, Key, Record, checked, finish, reason_to_make, refuse_other

KEY = Key("train", {"study": "digits", "run": "a", "seed": 0}, "config", "code", {"images": "i"})


@pytest.fixture
def out(tmp_path) -> Path:
    """A finished result."""
    for name in ("weights", "about.json"):
        (tmp_path / name).write_text(f"content of {name}")
    finish(KEY, tmp_path, ["weights", "about.json"])
    return tmp_path


def test_a_whole_result_of_the_same_key_is_current_whatever_its_time_stamps(out):
    assert reason_to_make(KEY, out) is None
    for time in (0, 2**33):
        for path in out.iterdir():
            os.utime(path, (time, time))
        assert reason_to_make(KEY, out) is None
        assert reason_to_make(replace(KEY, config="other"), out) == "other values"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": "x"}, "other values"),
        ({"code": "x"}, "other code"),
        ({"inputs": {"images": "x"}}, "other images"),
        ({"inputs": {"images": "i", "weights": "w"}}, "other weights"),
        ({"code": "x", "inputs": {}}, "other code and other images"),
        ({"of": {"study": "photos", "run": "a", "seed": 0}}, "a result of train for study 'digits', run 'a', seed 0"),
        ({"stage": "remedy"}, "the result is a result of train"),
    ],
)
def test_any_other_key_is_a_reason(out, change, reason):
    assert reason in reason_to_make(replace(KEY, **change), out)


DAMAGES = {
    "a bit": (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), "damaged"),
    "half of it": (lambda path: path.write_bytes(path.read_bytes()[:5]), "damaged"),
    "nothing left": (lambda path: path.write_bytes(b""), "damaged"),
    "gone": (lambda path: path.unlink(), "missing"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_reason_and_is_never_read(out, damage):
    spoil, found = DAMAGES[damage]
    spoil(out / "weights")
    assert f"weights {found}" in reason_to_make(KEY, out)
    with pytest.raises(
        ArtefactError, match=rf"{out}/weights: {found}.*`lgmamba train \.\.\. --out {out}` makes it again"
    ):
        checked(out, "weights", "train")
    assert checked(out, "about.json", "train") == out / "about.json"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 3}', '{"key": {}, "files": {}}', "\xff", '{"files": null}'])
def test_a_damaged_record_is_a_reason_and_nothing_is_read(out, text):
    (out / "record.json").write_bytes(text.encode("latin-1"))
    assert reason_to_make(KEY, out) == "its record is damaged"
    with pytest.raises(ArtefactError, match=r"record\.json: damaged; `lgmamba train"):
        checked(out, "weights", "train")


def test_what_was_not_finished_is_not_there(out):
    (out / "record.json").unlink()
    assert reason_to_make(KEY, out) == "not there yet"
    with pytest.raises(ArtefactError, match=r"record\.json: missing, so that what is there was not finished"):
        checked(out, "weights", "train")


def test_files_and_stages_that_were_not_recorded_are_not_read(out):
    (out / "new").touch()
    with pytest.raises(ArtefactError, match="new: not among the files recorded there"):
        checked(out, "new", "train")
    with pytest.raises(ArtefactError, match="found a result of train, expected one of remedy"):
        checked(out, "weights", "remedy")


@pytest.mark.parametrize("of", [{"study": "photos", "run": "a", "seed": 0}, {"study": "digits", "run": "b", "seed": 0}])
def test_nobody_writes_over_the_result_of_another_study_or_run(out, of):
    refuse_other(KEY, out)
    refuse_other(replace(KEY, config="x", code="y", inputs={}), out)  # its own, of other values
    with pytest.raises(
        ArtefactError, match=rf"{out}: found a result of train for study 'digits', run 'a', seed 0, expect"
    ):
        refuse_other(replace(KEY, of=of), out)


def test_a_folder_may_hold_several_results(tmp_path):
    keys = {part: replace(KEY, stage="figure", config=part) for part in ("one", "two")}
    for part, key in keys.items():
        (tmp_path / f"{part}.png").write_text(part)
        finish(key, tmp_path, [f"{part}.png"], part)
    (tmp_path / "two.png").write_text("other")
    assert reason_to_make(keys["one"], tmp_path, "one") is None
    assert "two.png damaged" in reason_to_make(keys["two"], tmp_path, "two")


def test_digests_of_some_files_are_those_of_their_content_and_names():
    record = Record(KEY, {"a": "1", "b": "2"})
    assert record.digest(("a",)) == Record(KEY, {"a": "1", "b": "3"}).digest(("a",))
    assert record.digest() != Record(KEY, {"a": "1", "b": "3"}).digest()
    assert record.digest(("a",)) != record.digest(("a", "c"))
