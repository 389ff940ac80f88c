import sys

import numpy as np
import polars as pl
import pytest

from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from lgmamba.data.sources.parquet import Parquet
from lgmamba.data.sources.parquet_readers import PolarsReader, PyArrowReader, default_reader
from tests.data.samples import SHARED, config, parquet, pixels, pngs, tree, write_table


@pytest.mark.parametrize("struct", [True, False], ids=["struct", "binary"])
def test_pixels_and_labels_come_through(tmp_path, struct):
    write_table(tmp_path / "x.parquet", pngs(40), struct=struct)
    build_dataset(parquet(tmp_path / "x.parquet"), 4, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert data.images.shape == (40, 3, 8, 8)
    expected = {pixels(i).transpose(2, 0, 1).tobytes(): i % 3 for i in range(40)}
    assert {im.numpy().tobytes(): label.item() for im, label in zip(data.images, data.labels, strict=True)} == expected


@pytest.mark.parametrize("struct", [True, False], ids=["struct", "binary"])
def test_polars_and_pyarrow_read_the_same_rows(tmp_path, struct):
    images = pngs(600)  # more than one batch
    images[7] = None
    write_table(tmp_path / "x.parquet", images, struct=struct)
    found = []
    for reader in (PolarsReader(), PyArrowReader()):
        source = Parquet(parquet(tmp_path / "x.parquet").source, tmp_path, None, reader)
        index = source.index()
        wanted = np.arange(len(index.ids)) % 5 != 0
        found.append((index.ids, index.labels.tolist(), index.class_names, list(source.read(wanted))))
    assert found[0] == found[1]
    assert [row for row, _ in found[0][3]] == np.flatnonzero(wanted).tolist()


def test_without_polars_the_artefact_is_the_same(tmp_path, monkeypatch):
    c = parquet(write_table(tmp_path / "x.parquet", pngs(40)))
    build_dataset(c, 4, tmp_path / "polars")
    monkeypatch.setitem(sys.modules, "polars", None)  # import polars now raises ImportError
    assert isinstance(default_reader(), PyArrowReader)
    manifest = build_dataset(c, 4, tmp_path / "pyarrow")
    assert (tmp_path / "polars" / manifest.file).read_bytes() == (tmp_path / "pyarrow" / manifest.file).read_bytes()
    assert "pyarrow" in manifest.versions and "polars" not in manifest.versions
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="neither polars nor pyarrow"):
        build_dataset(c, 4, tmp_path / "none")


def test_globs_and_lists_are_one_set(tmp_path):
    for name in "ba":
        write_table(tmp_path / f"{name}.parquet", pngs(20))
    as_glob = parquet(tmp_path / "*.parquet")
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    as_list = config(as_glob.source.model_dump() | {"path": paths})
    manifests = [build_dataset(c, 4, tmp_path / "out") for c in (as_glob, as_list)]
    assert manifests[0].sha256 == manifests[1].sha256
    assert [s.name for s in manifests[0].sources] == paths and manifests[0].n_images == 40


def test_an_image_keeps_its_split_wherever_the_file_lies(tmp_path):
    (tmp_path / "moved").mkdir()
    digests = [
        build_dataset(parquet(write_table(f, pngs(30))), 4, tmp_path / "out").sha256
        for f in (tmp_path / "x.parquet", tmp_path / "moved" / "x.parquet")
    ]
    assert digests[0] == digests[1]


def test_test_path_is_the_test_split(tmp_path):
    write_table(tmp_path / "train.parquet", pngs(40))
    write_table(tmp_path / "test.parquet", pngs(12, first=100))
    manifest = build_dataset(
        parquet(tmp_path / "train.parquet", test_path=tmp_path / "test.parquet"), 4, tmp_path / "out"
    )
    data = load_dataset(tmp_path / "out")
    assert manifest.counts["test"] == 12 and sum(manifest.counts.values()) == 52
    official = {pixels(100 + i).transpose(2, 0, 1).tobytes() for i in range(12)}
    assert {data.images[i].numpy().tobytes() for i in data.split("test")} == official
    assert [(s.official_split, s.n_images) for s in manifest.sources] == [("train", 40), ("test", 12)]


def test_class_names_come_from_the_footer(tmp_path):
    import json

    import pyarrow.parquet as pq

    path = write_table(tmp_path / "x.parquet", pngs(30))
    table = pq.read_table(path)
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "eel", "fox"]}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    manifest = build_dataset(parquet(path), 4, tmp_path / "out")
    assert manifest.class_names == ["cat", "dog", "eel", "fox"] and manifest.n_classes == 4
    assert PyArrowReader().metadata(path)["huggingface"] == PolarsReader().metadata(path)["huggingface"]


def no_table(path):
    path.write_bytes(b"PAR1 this is not a table")


def cut_table(path):
    write_table(path, pngs(30))
    path.write_bytes(path.read_bytes()[:-100])


def bad_page(path):
    write_table(path, pngs(300))
    content = bytearray(path.read_bytes())
    content[4:600] = b"\xff" * 596  # the first pages; the footer stays
    path.write_bytes(content)


TABLES = {
    "not parquet": (no_table, "x.parquet is not a readable Parquet file"),
    "cut": (cut_table, "x.parquet is not a readable Parquet file"),
    "empty": (lambda p: write_table(p, []), "the table is empty"),
    "no column": (
        lambda p: pl.DataFrame({"imgs": [b"x"], "label": [0]}).write_parquet(p),
        "no column 'img'; did you mean 'imgs'? Its columns: imgs, label. Set data.source.image_column",
    ),
    "no label column": (
        lambda p: pl.DataFrame({"img": [b"x"], "fine": [0]}).write_parquet(p),
        "no column 'label'; Its columns: img, fine",
    ),
    "image type": (
        lambda p: pl.DataFrame({"img": ["x"], "label": [0]}).write_parquet(p),
        "column 'img' has type",
    ),
    "label type": (lambda p: write_table(p, pngs(3), [0.0, 1.0, 2.0]), "column 'label' has type"),
    "null label": (lambda p: write_table(p, pngs(3), [0, None, None]), "x.parquet, row 1: the label is null (2 such"),
    "negative label": (lambda p: write_table(p, pngs(3), [0, 1, -1]), "row 2: label -1 is out of range, expected 0 or"),
    "huge label": (lambda p: write_table(p, pngs(3), pl.Series([0, 1, 2**64 - 1], dtype=pl.UInt64)), "cannot be read"),
    "bad image": (lambda p: write_table(p, [*pngs(33), b"x"]), "x.parquet, row 33: not an image"),
    "null image": (lambda p: write_table(p, [*pngs(33), None]), "x.parquet, row 33: the image is null"),
    "bad page": (bad_page, "x.parquet, at or after row 0: the file is damaged"),
}


@pytest.mark.parametrize("reader", ["polars", "pyarrow"])
@pytest.mark.parametrize("kind", TABLES)
def test_a_bad_table_is_named_and_leaves_nothing(tmp_path, monkeypatch, kind, reader):
    make, message = TABLES[kind]
    make(tmp_path / "x.parquet")
    if reader == "pyarrow":
        monkeypatch.setitem(sys.modules, "polars", None)
    before = tree(tmp_path)
    with pytest.raises(DataError) as e:
        build_dataset(parquet(tmp_path / "x.parquet"), 4, tmp_path / "out")
    assert message in str(e.value)
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_labels_beyond_n_classes(tmp_path):
    write_table(tmp_path / "x.parquet", pngs(30))
    with pytest.raises(DataError, match=r"x.parquet, row 2: label 2 is out of range, expected 0 .. 1 \(10 such rows\)"):
        build_dataset(parquet(tmp_path / "x.parquet", n_classes=2), 4, tmp_path / "out")
    assert build_dataset(parquet(tmp_path / "x.parquet", n_classes=7), 4, tmp_path / "out").n_classes == 7


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "y.parquet",
            r"y.parquet does not exist .* put it there or correct data.source.path or test_path; docs/data.md says",
        ),
        ("xx.parquet", "did you mean"),
        ("*.parket", "no file matches"),
        ("", "is a folder"),
    ],
    ids=["missing", "typo", "glob", "folder"],
)
def test_paths_that_lead_nowhere(tmp_path, pattern, message):
    write_table(tmp_path / "x.parquet", pngs(3))
    with pytest.raises(DataError, match=message):
        build_dataset(parquet(f"{tmp_path}/{pattern}"), 4, tmp_path / "out")


def test_a_file_in_both_splits_is_refused(tmp_path):
    write_table(tmp_path / "x.parquet", pngs(30))
    with pytest.raises(DataError, match="named twice"):
        build_dataset(parquet(tmp_path / "x.parquet", test_path=tmp_path / "*.parquet"), 4, tmp_path / "out")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder ../shared/data with the CIFAR-10 files beside the checkout")
def test_cifar10(tmp_path):
    source = {"kind": "parquet", "image_column": "img", "label_column": "label"}
    source |= {"path": str(SHARED / "cifar10-train.parquet"), "test_path": str(SHARED / "cifar10-test.parquet")}
    splits = {"calib": 0.05, "val": 0.05, "test": 0.0}
    c = config(source, image_size=32, splits=splits, max_images=300, n_classes=10)
    manifest = build_dataset(c, 4, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert manifest.image_shape == (3, 32, 32) and manifest.n_images == 600 and manifest.counts["test"] == 300
    assert data.labels.unique().tolist() == list(range(10))
    assert 0.4 < data.mean_image.mean() < 0.55  # CIFAR-10's mean pixel is about 0.47


def test_files_of_one_name_in_several_folders_keep_their_rows_apart(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "x.parquet", pngs(10, first=ord(name)))
    source = Parquet(parquet(tmp_path / "*" / "x.parquet").source, tmp_path, None)
    ids = source.index().ids
    assert len(set(ids)) == 30
    assert ids[0] == "a/x.parquet:0"
    build_dataset(parquet(tmp_path / "*" / "x.parquet"), 4, tmp_path / "out")
    assert load_dataset(tmp_path / "out").id_hash.unique().numel() == 30


def test_equal_names_in_path_and_test_path_stay_as_they_are(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "0000.parquet", pngs(20, first=len(name)))
    both = parquet(tmp_path / "train" / "0000.parquet", test_path=tmp_path / "test" / "0000.parquet")
    assert set(Parquet(both.source, tmp_path, None).index().ids) == {f"0000.parquet:{row}" for row in range(20)}


@pytest.mark.parametrize("reader", ["polars", "pyarrow"])
@pytest.mark.parametrize("dictionary", [True, False], ids=["one value in many rows", "large pages"])
def test_a_small_file_that_declares_gigabytes_is_refused_before_a_page_is_read(
    tmp_path, monkeypatch, reader, dictionary
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    zeros = pa.array([b"\0" * (65 << 20)], pa.large_binary())
    rows = 100 if dictionary else 1
    images = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), zeros) if dictionary else zeros
    table = pa.table({"img": images, "label": pa.array([0] * rows, pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=dictionary, store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 45_000
    if reader == "pyarrow":
        monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(
        DataError, match=r"x\.parquet: column 'img' declares 6\d,\d+,\d+ bytes in .*: a decompression bomb"
    ):
        build_dataset(parquet(tmp_path / "x.parquet"), 4, tmp_path / "out")


@pytest.mark.parametrize("reader", [PolarsReader(), PyArrowReader()], ids=["polars", "pyarrow"])
def test_a_row_with_a_path_and_no_bytes_says_so(tmp_path, reader):
    path = write_table(tmp_path / "x.parquet", [*pngs(3), None])
    images = [image for batch in reader.images(path, "img") for image in batch]
    assert images[3] == "3.png"
    with pytest.raises(DataError, match=r"row 3: the image is null, the table has only its path '3\.png'"):
        build_dataset(parquet(path), 4, tmp_path / "out")


def test_labels_are_not_needed(tmp_path):
    path = write_table(tmp_path / "x.parquet", pngs(30))
    plain = parquet(path)
    manifest = build_dataset(config(plain.source.model_dump() | {"label_column": None}), 4, tmp_path / "out")
    assert (manifest.n_images, manifest.n_classes) == (30, 1)
    assert PolarsReader().length(path) == PyArrowReader().length(path) == 30
