import re
from pathlib import Path

import pytest
import yaml

from lgmamba.config.base import ConfigError, validate
from lgmamba.config.data import DataConfig
from tests.data.samples import config


def values(**overrides) -> dict:
    return config().model_dump(mode="json") | overrides


def test_dump_and_validate_are_inverse():
    for c in (config(), config(image_size=[8, 16]), config(image_size=None)):
        assert DataConfig.model_validate(c.model_dump(mode="json")) == c


def test_size_is_height_and_width():
    assert config(image_size=8).size == (8, 8)
    assert config(image_size=[8, 16]).size == (8, 16)
    assert config(image_size=None).size is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"source": {"kind": "parket"}}, "parket"),
        ({"source": {"kind": "digits", "path": "x"}}, "path"),
        ({"source": {"kind": "parquet", "path": [], "image_column": "a", "label_column": "b"}}, "at least 1"),
        ({"fitt": "exact"}, "did you mean 'fit'"),
        ({"fit": "stretch"}, "resize_crop"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": [8]}, "image_size"),
        ({"image_size": None, "fit": "resize"}, "needs a size"),
        ({"splits": {"calib": 0.5, "val": 0.5, "test": 0.0}}, "images are left to train on"),
        ({"splits": {"calib": -0.1, "val": 0.5, "test": 0.0}}, "calib"),
        ({"max_images": 0}, "max_images"),
        ({"source": {"kind": "image_folder", "path": "a", "test_path": "b"}}, "splits.test: 0"),
    ],
    ids=lambda x: "" if isinstance(x, dict) else x,
)
def test_a_wrong_value_is_named(overrides, message):
    with pytest.raises(ConfigError) as e:
        validate(DataConfig, values(**overrides), "params.yaml")
    assert message in str(e.value)


def test_every_key_says_what_it_is():
    for model in (DataConfig, *[type(config(s).source) for s in SOURCES], type(config().splits)):
        for name, field in model.model_fields.items():
            assert name == "kind" or field.description, f"{model.__name__}.{name}"


def test_recipes_in_the_docs_are_valid():
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    recipes = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(recipes) >= 3
    for recipe in recipes:
        validate(DataConfig, values(**yaml.safe_load(recipe)["data"]), "docs/data.md")


SOURCES = (
    {"kind": "digits"},
    {"kind": "glyphs"},
    {"kind": "parquet", "path": "x.parquet", "image_column": "img", "label_column": "label"},
    {"kind": "image_folder", "path": "x"},
)
