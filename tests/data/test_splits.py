import numpy as np
import pytest

from lgmamba.config.data import SplitFractions
from lgmamba.data import splits

FRACTIONS = SplitFractions(calib=0.1, val=0.2, test=0.3)


def assign(ids, fractions=FRACTIONS, is_test=None):
    place, _ = splits.hash_ids(ids)
    is_test = np.zeros(len(ids), bool) if is_test is None else is_test
    return [splits.SPLITS[code] for code in splits.assign_splits(place, is_test, fractions)]


def test_the_hash_of_an_id_never_changes():
    # SHA-256 of "digits:0" is 064d63febf248a17 57dd997b343ed4ac ...: any other value moves images between splits
    place, order = splits.hash_ids(["digits:0", "train.parquet:17", "cat/001.png", "é/ü.png"])
    assert [hex(x) for x in place] == [
        "0x64d63febf248a17",
        "0x5854f43eafade6",
        "0xa27aebec26a463c7",
        "0x9e67978410c1385e",
    ]
    assert [hex(x) for x in order] == [
        "0x57dd997b343ed4ac",
        "0xf3e2f025f5e3982",
        "0x5205110d8ba80e59",
        "0x969bbf4a22289eab",
    ]


def test_the_split_of_an_image_never_changes():
    found = assign([f"digits:{i}" for i in range(16)])
    expected = "test test test test val val test train test test calib calib test test test val"
    assert found == expected.split()


def test_fractions_are_met():
    found = assign([f"x:{i}" for i in range(20_000)])
    shares = {name: found.count(name) / len(found) for name in splits.SPLITS}
    # standard deviation of a share is at most 0.0036 here
    assert shares == pytest.approx({"train": 0.4, "calib": 0.1, "val": 0.2, "test": 0.3}, abs=0.015)


@pytest.mark.parametrize("changed", ["calib", "val"])
def test_another_fraction_leaves_the_test_split_alone(changed):
    ids = [f"x:{i}" for i in range(500)]
    other = FRACTIONS.model_copy(update={changed: 0.05})
    before, after = assign(ids), assign(ids, other)
    assert [x == "test" for x in before] == [x == "test" for x in after]
    assert before != after


def test_official_test_images_are_in_the_test_split_and_no_others():
    ids = [f"x:{i}" for i in range(200)]
    is_test = np.arange(200) >= 150
    found = assign(ids, SplitFractions(calib=0.1, val=0.2, test=0.0), is_test)
    assert [x == "test" for x in found] == is_test.tolist()


def test_select_keeps_a_prefix_of_the_hash_order_in_each_official_split():
    _, order = splits.hash_ids([f"x:{i}" for i in range(100)])
    is_test = np.arange(100) >= 60
    few, more = splits.select(order, is_test, 10), splits.select(order, is_test, 20)
    assert len(few) == 20 and len(more) == 40 and set(few) < set(more)
    assert sorted(few) == few.tolist()
    assert set(few[few < 60]) == set(np.argsort(order[:60])[:10])
    assert splits.select(order, is_test, None).tolist() == list(range(100))


def test_place_and_order_are_independent():
    place, order = splits.hash_ids([f"x:{i}" for i in range(5000)])
    correlation = np.corrcoef(place.astype(float), order.astype(float))[0, 1]
    assert abs(correlation) < 0.05  # 3.5 standard deviations of 5,000 independent pairs
