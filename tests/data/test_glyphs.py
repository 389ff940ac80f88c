"""Letters drawn from fonts: the same everywhere, split by alphabet."""

import shutil

import numpy as np
import pytest

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.data import DataConfig, GlyphsSource
from lgmamba.data.build import build_dataset
from lgmamba.data.dataset import load_dataset
from lgmamba.data.errors import DataError
from lgmamba.data.sources.glyphs import Glyphs, alphabet_of, find_fonts

SOURCE = {"kind": "glyphs", "side": 16, "alphabets": ["latin", "lisu"], "test_alphabets": ["greek", "nko"]}
DATA = {
    "image_size": 16,
    "fit": "resize",
    "channels": "grey",
    "splits": {"calib": 0.05, "val": 0.1, "test": 0.0},
    "on_bad_image": "error",
    "max_pixels": 10000,
}


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """A folder with one font."""
    folder = tmp_path_factory.mktemp("fonts")
    shutil.copy(next(font for font in find_fonts(None) if font.name == "DejaVuSans.ttf"), folder)
    return folder


def source(fonts, **changes) -> Glyphs:
    return Glyphs(GlyphsSource(**SOURCE | {"path": str(fonts)} | changes))


def test_letters_are_dark_on_white_and_the_same_in_every_call(fonts):
    one, two = source(fonts), source(fonts)
    index = one.index()
    assert index.ids == two.index().ids and len(set(index.ids)) == len(index.ids) > 300
    wanted = np.ones(len(index.ids), bool)
    for (i, image), (j, other) in zip(one.read(wanted), two.read(wanted), strict=True):
        assert i == j and (image == other).all()
        assert image.shape == (16, 16) and image.dtype == np.uint8
        assert (image < 128).any() or image.min() < 255
        assert np.median(image[[0, -1]]) == 255
    assert one.digests(wanted) == two.digests(wanted)
    assert sum(record.n_images for record in one.digests(wanted)) == len(index.ids)


def test_test_letters_are_of_alphabets_that_training_never_sees(fonts, tmp_path):
    config = validate(DataConfig, DATA | {"source": SOURCE | {"path": str(fonts)}}, "data")
    manifest = build_dataset(config, 4, tmp_path / "data", workers=1, progress=False)
    data = load_dataset(tmp_path / "data")
    names = np.array(manifest.class_names)
    labels = data.labels.numpy()
    assert set(names[labels[data.split("test").numpy()]]) == {"greek", "nko"}
    for split in ("train", "calib", "val"):
        assert set(names[labels[data.split(split).numpy()]]) <= {"latin", "lisu"}


def test_a_test_letter_that_looks_like_a_training_letter_is_left_out(fonts):
    ids = source(fonts).index().ids
    assert "DejaVuSans.ttf:U+0391" not in ids  # Greek capital alpha, drawn as Latin A
    assert {"DejaVuSans.ttf:U+0041", "DejaVuSans.ttf:U+03A9"} <= set(ids)


def test_letters_that_are_made_of_others_are_none():
    assert (alphabet_of(0x41), alphabet_of(0x1401)) == ("latin", "canadian")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"alphabets": ["latin", "klingon"]},
            "data.source.alphabets: found klingon, of which no font here has a letter",
        ),
        ({"test_alphabets": ["runes"]}, "data.source.test_alphabets: found runes, of which no font here has a letter"),
    ],
)
def test_an_alphabet_without_letters_is_named(fonts, changes, message):
    with pytest.raises(DataError, match=message):
        source(fonts, **changes).index()


def test_an_alphabet_must_be_left_to_train_on(fonts):
    everything = {"alphabets": None, "side": 8}
    names = source(fonts, test_alphabets=[], **everything).index().class_names
    with pytest.raises(DataError, match="found every alphabet that there is"):
        source(fonts, test_alphabets=names, **everything).index()


def test_folders_without_a_usable_font_are_named(fonts, tmp_path):
    def message(folder) -> str:
        with pytest.raises(DataError) as e:
            source(folder).index()
        return str(e.value)

    assert "gone does not exist" in message(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "found no font in" in message(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.ttf").write_bytes(b"no font")
    assert "broken/a.ttf: cannot be read as a font" in message(tmp_path / "broken")
    (tmp_path / "signs").mkdir()
    shutil.copy(find_fonts(None)[0].with_name("DejaVuSansDisplay.ttf"), tmp_path / "signs")
    assert "this font has no letter" in message(tmp_path / "signs")
    for name in ("one", "two"):
        (tmp_path / "same" / name).mkdir(parents=True)
        shutil.copy(fonts / "DejaVuSans.ttf", tmp_path / "same" / name)
    assert "have one name" in message(tmp_path / "same")


def test_test_alphabets_are_the_test_split_and_apart():
    with pytest.raises(ConfigError, match=r"0 while source\.test_alphabets gives the test split"):
        validate(DataConfig, DATA | {"source": SOURCE, "splits": {"calib": 0.0, "val": 0.1, "test": 0.1}}, "data")
    with pytest.raises(ConfigError, match="found latin, which alphabets names too"):
        validate(DataConfig, DATA | {"source": SOURCE | {"test_alphabets": ["latin"]}}, "data")
