"""Cards and metadata of a study whose frames are in git, and the file that is handed to others."""

import json
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from lgmamba.analysis.collect import load_study
from lgmamba.cli import app
from lgmamba.config.base import ConfigError
from lgmamba.data.artefact import read_manifest
from lgmamba.files import file_digest
from lgmamba.publish.card import card_of, levels
from lgmamba.publish.croissant import CONTEXT, frames_metadata, images_metadata
from lgmamba.publish.pack import pack
from lgmamba.records import ArtefactError, Key
from tests.records import record
from tests.train.tiny import build_digits

FRAMES = Path(__file__).parents[2] / "reports/omniglot/frames"
DAY = "2026-01-31"


@pytest.fixture(scope="module")
def params():
    return load_study(FRAMES / "study.json")


@pytest.fixture(scope="module")
def results(params, tmp_path_factory):
    """The results of the study, with files of a few bytes in place of its weights."""
    home = tmp_path_factory.mktemp("omniglot")
    shutil.copytree(FRAMES, home / "frames")
    for run, seed in params.run_configs():
        folder = home / f"runs/{run}/seed{seed}/train"
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "run.json", "train.json"):
            (folder / name).write_text(f"{name} of {run} {seed}")
        record(Key("train", {"run": run, "seed": seed}, "", "", {}), folder)
    build_digits(home / "images")
    return home


def test_a_card_says_what_the_frames_say(params):
    summary, trainings = pl.read_parquet(FRAMES / "summary.parquet"), pl.read_parquet(FRAMES / "runs.parquet")
    card = card_of(params, "fixed_1024", summary, trainings)
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "mit" and head["library_name"] == "lgmamba"
    rows = levels(params, "fixed_1024", summary)
    assert [row["step"] for row in rows] == [256, 1024, 2048, 4096, 8192, 25600]
    told = json.loads((FRAMES.parent / "metrics.json").read_text())["psnr_db"]["fixed_1024"]
    assert {f"{row['factor']:g}xL0": row["psnr"] for row in rows[1:]} == pytest.approx(told)
    assert f"| 4 x L0 = 4096 | {told['4xL0']:.2f} |" in card
    worse = rows[1]["psnr"] - rows[-1]["psnr"]
    assert worse > 0 and f"At 25 L0 it is {worse:.2f} dB worse than at L0." in card
    assert "seeds 0, 1, 2, 3, 4; 20,412 weights each; 6,000 steps" in card
    assert 'reconstruct(image, "uniform", [1024])' in card and "1 x 128 x 128" in card
    kept = json.loads(card.split("```json\n")[1].split("```")[0])
    assert kept == params.runs_by_name()["fixed_1024"].model_dump(mode="json")


def test_a_card_does_not_say_that_a_run_gets_worse_which_does_not(params):
    summary, trainings = pl.read_parquet(FRAMES / "summary.parquet"), pl.read_parquet(FRAMES / "runs.parquet")
    at_L0 = levels(params, "fixed_1024", summary)[1]["psnr"]
    own = (pl.col("run") == "fixed_1024") & (pl.col("step") == 25600)

    def with_level(level):
        return summary.with_columns(psnr=pl.when(own).then(level).otherwise("psnr"))

    better = card_of(params, "fixed_1024", with_level(at_L0 + 0.5), trainings)
    assert "At 25 L0 it is 0.50 dB better than at L0." in better and "worse" not in better
    same = card_of(params, "fixed_1024", with_level(at_L0), trainings)
    assert "At 25 L0 it reaches what it reaches at L0." in same and "worse" not in same


def check(metadata, folder):
    """The structure that Croissant 1.0 asks for, and that every file and column is there."""
    assert metadata["@context"] == CONTEXT and metadata["@type"] == "sc:Dataset"
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert all(metadata[key] for key in ("name", "description", "license", "url", "datePublished", "version", "citeAs"))
    ids = [entry["@id"] for entry in metadata["distribution"]]
    for entry in metadata["distribution"]:
        assert entry["@type"] == "cr:FileObject"
        assert entry["sha256"] == file_digest(folder / entry["contentUrl"])
        assert entry["contentSize"] == f"{(folder / entry['contentUrl']).stat().st_size} B"
    for records in metadata["recordSet"]:
        assert records["@type"] == "cr:RecordSet"
        ids += [records["@id"], *(field["@id"] for field in records["field"])]
        for field in records["field"]:
            source = field["source"]
            assert source["extract"]["column"] in pq.read_schema(folder / source["fileObject"]["@id"]).names
            assert field["dataType"] in ("sc:Integer", "sc:Float", "sc:Text", "sc:Boolean")
    assert len(ids) == len(set(ids))


def test_metadata_of_frames_have_every_file_and_column(params):
    files = sorted(FRAMES.glob("*.parquet"))
    metadata = frames_metadata(params, files, DAY)
    check(metadata, FRAMES)
    assert [records["name"] for records in metadata["recordSet"]] == [path.stem for path in files]
    fields = {field["@id"]: field for records in metadata["recordSet"] for field in records["field"]}
    assert fields["contrasts/per_seed"]["dataType"] == "sc:Float" and fields["contrasts/per_seed"]["repeated"]
    assert fields["runs/seed"]["dataType"] == "sc:Integer"


def test_metadata_of_images_say_what_they_are_and_claim_no_licence(params, results):
    metadata = images_metadata(params, read_manifest(results / "images"), results / "images", DAY)
    check(metadata, results / "images")
    assert "300 images of study omniglot, 1 x 8 x 8" in metadata["description"]
    assert metadata["license"].startswith("that of the sources")


def test_what_is_packed_is_whole_and_the_same_again(results, tmp_path):
    names = pack(FRAMES / "study.json", results, results / "images", tmp_path / "a.tar.gz", DAY)
    pack(FRAMES / "study.json", results, results / "images", tmp_path / "b.tar.gz", DAY)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert tar.getnames() == names
        tar.extractall(tmp_path / "out", filter="data")
    check(json.loads((tmp_path / "out/frames/croissant.json").read_text()), tmp_path / "out/frames")
    assert (
        tmp_path / "out/runs/fixed_64/seed3/train/model.safetensors"
    ).read_text() == "model.safetensors of fixed_64 3"
    front = (tmp_path / "out/README.md").read_text()
    assert all((tmp_path / "out" / link.split(")")[0]).is_file() for link in front.split("](")[1:])


def test_a_damaged_checkpoint_is_named_and_nothing_is_left(params, results, tmp_path):
    shutil.copytree(results, tmp_path / "spoilt")
    (tmp_path / "spoilt/runs/fixed_64/seed3/train/model.safetensors").write_text("other")
    with pytest.raises(ArtefactError, match=r"fixed_64/seed3/train/model\.safetensors"):
        pack(FRAMES / "study.json", tmp_path / "spoilt", results / "images", tmp_path / "a.tar.gz", DAY)
    assert list(tmp_path.iterdir()) == [tmp_path / "spoilt"]


def test_the_command_packs_and_refuses_what_is_no_day(results, tmp_path):
    call = ["pack", "--study", str(FRAMES / "study.json"), "--results", str(results), "--data", str(results / "images")]
    done = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "a.tar.gz"), "--day", DAY])
    assert done.exit_code == 0 and "a.tar.gz: " in done.output
    refused = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "b.tar.gz"), "--day", "31.1."])
    assert isinstance(refused.exception, ConfigError) and "--day: found '31.1.'" in str(refused.exception)
    assert not (tmp_path / "b.tar.gz").exists()
