"""`lgmamba show`: the table, its costs, the commands, the files."""

import math
import re
from itertools import pairwise

import pytest

from lgmamba.analysis import figures_of
from lgmamba.cli.show import cost, image_shape, sizes
from lgmamba.config.files import Layout, config_contents, frozen_files, frozen_path
from lgmamba.config.study import load_params
from lgmamba.data.errors import DataError
from lgmamba.tasks.registry import build_model
from tests.cli.programs import program
from tests.mixers.contract import ROWS
from tests.train.tiny import ADAPTIVE, tiny_run
from tests.workflow.checkouts import ROOT, copy_repository, write_small_study


def test_the_table_has_every_run_with_its_cost(lgmamba):
    ended = lgmamba("show", "params.yaml")
    params = load_params("params.yaml")
    assert ended.code == 0
    for name, run in params.runs_by_name().items():
        (row,) = (line for line in ended.out.splitlines() if re.match(rf"\W+{name}\b", line))
        parameters, flop, _ = cost(run, image_shape(params))
        assert f"{parameters:,}" in row
        assert f"{run.train.steps:,}" in row
        assert f"{flop / 1e12:,.3g}" in row
    total = sum(cost(run, image_shape(params))[1] for run in params.run_configs().values())
    assert f"training in all: {total / 1e12:,.4g} TFLOP" in ended.out
    assert f"up to {params.evaluation_steps(run)[-1]} patches" in ended.out
    assert re.search(r"memory at initialisation, Mamba-1 \(512 numbers a layer\), L0 = 32: tau [\d.]+ steps", ended.out)


def test_cost_of_one_fixed_length_by_hand():
    run = tiny_run(task={"lengths": {"kind": "fixed", "value": 6}})
    parameters, flop, patches = cost(run, (1, 8, 8))
    assert parameters == sum(p.numel() for p in build_model(run, (1, 8, 8)).parameters())
    d, D, N, R, W = 8, 16, 4, 1, 4
    embed = 4 * d + d
    block = d + d * 2 * D + (D * W + D) + D * (R + 2 * N) + (R * D + D) + D * N + D + D * d
    decoder = d * 16 + 16 + 16 * 64 + 64
    images = 20 * 4
    assert patches == images * 6
    # two operations a weight and patch read, the decoder once an image; three times forward
    assert flop == pytest.approx(3 * 2 * images * (6 * (embed + 2 * block) + decoder), rel=1e-12)


@pytest.mark.parametrize("mixer", ROWS)
def test_a_deep_model_is_counted_without_being_built(mixer):
    told = ADAPTIVE | {"kind": "film"}  # every mixer can be
    run = tiny_run(model={"n_layer": 5, "d_model": 6, "mixer": ROWS[mixer].mixer, "adaptive": told})
    assert sizes(run, (1, 8, 8))[0] == sum(p.numel() for p in build_model(run, (1, 8, 8)).parameters())
    deepest = run.model_copy(update={"model": run.model.model_copy(update={"n_layer": 10**9})})
    assert sizes(deepest, (1, 8, 8))[0] > 10**9  # nobody could build it


def test_cost_counts_every_decoded_step():
    def decoded(supervision) -> float:
        return cost(tiny_run(task={"supervision": supervision}), (1, 8, 8))[1]

    last, three, every = (decoded(s) for s in ({"kind": "last"}, {"kind": "random_k", "k": 3}, {"kind": "all"}))
    decoder = 6.0 * 80 * (8 * 16 + 16 + 16 * 64 + 64)
    assert three - last == pytest.approx(2 * decoder, rel=1e-9)
    assert every - last == pytest.approx(2.5 * decoder, rel=1e-9)  # mean length 3.5


def test_cost_counts_the_passed_part_forward_only():
    passing = {"kind": "same_image", "max_factor": 0.5, "share": 0.5}  # of 4 sequences 2, after 0 to 2 steps
    change = {"lengths": {"kind": "fixed", "value": 4}}
    _, flop, patches = cost(tiny_run(task=change), (1, 8, 8))
    _, flop_passed, patches_passed = cost(tiny_run(task=change, train={"state_passing": passing}), (1, 8, 8))
    mean = (math.log(3 / 2) + 2 * math.log(4 / 3)) / math.log(4)
    assert patches_passed - patches == pytest.approx(20 * 2 * mean, rel=1e-12)
    d, D, N, R, W = 8, 16, 4, 1, 4
    block = d + d * 2 * D + (D * W + D) + D * (R + 2 * N) + (R * D + D) + D * N + D + D * d
    assert flop_passed - flop == pytest.approx(2 * (5 * d + 2 * block) * 20 * 2 * mean, rel=1e-9)


def test_images_have_the_configured_size_or_that_of_the_built_ones(tmp_path, digits):
    def shape(**overrides):
        return image_shape(load_params(ROOT / "params.yaml", "digits", overrides))

    folder = {"kind": "image_folder", "path": "somewhere"}
    assert shape() == shape(data={"image_size": None}) == (1, 8, 8)
    assert shape(data={"image_size": [16, 8], "channels": "rgb", "source": folder}) == (3, 16, 8)
    glyphs = {"kind": "glyphs", "side": 20}
    assert shape(data={"image_size": None, "source": glyphs}) == (1, 20, 20)
    unknown = {"image_size": None, "source": folder}
    assert shape(data=unknown, outputs={"data": str(digits), "outside": "allow"}) == (1, 8, 8)
    with pytest.raises(DataError, match=r"no data artefact at .*gone"):
        shape(data=unknown, outputs={"data": str(tmp_path / "gone"), "outside": "allow"})


def test_a_measured_prediction_adds_minutes(lgmamba):
    ended = lgmamba("show", "--preset", "smoke", "--measure", "--device", "cpu")
    assert "minutes, one" in ended.out
    assert re.search(r"predicted from steps timed here: \d+\.\d minutes of training", ended.out)


def test_write_makes_the_configuration_files_of_every_stage(lgmamba, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml", preset="smoke")
    layout = Layout(params.outputs.results)
    files = {*config_contents(params, layout), *(frozen_path(layout, file) for file in frozen_files(params))}
    for expected in (len(files), 0):  # a second call writes nothing
        ended = lgmamba("show", ROOT / "params.yaml", "--preset", "smoke", "--write", "--commands")
        assert ended.code == 0
        assert ended.err.count("wrote ") == expected
    for path, content in config_contents(params, layout).items():
        assert (tmp_path / path).read_text() == content


@pytest.mark.workflow
def test_the_commands_are_exactly_those_of_the_workflow(tmp_path):
    checkout = copy_repository(tmp_path / "repository")
    write_small_study(checkout.path)  # tracked: the workflow's lines have --track
    shown = program("-m", "lgmamba", "show", "--commands", cwd=checkout.path, PYTHONPATH=str(checkout.path))
    assert (shown.code, shown.err) == (0, "")
    printed = checkout.snakemake("--dry-run", "--printshellcmds")
    lines = re.findall(r"Shell command: (python -m lgmamba .*) > \S+ 2>&1", printed)
    jobs = [line for line in lines if " track report " not in line]
    assert len(jobs) == len(lines) - 1
    assert sorted(jobs) == sorted(shown.out.splitlines())
    assert sum("--track mlflow" in line for line in jobs) == 3
    assert {line.split()[3] for line in jobs} == {
        "data",
        "train",
        "reconstruct",
        "remedy",
        "probes",
        "evaluate",
        "figure",
        "report",
    }


def test_the_commands_stand_in_an_order_that_works(lgmamba):
    lines = lgmamba("show", "--commands", "--preset", "smoke").out.splitlines()
    params = load_params(ROOT / "params.yaml", preset="smoke")
    stages = [line.split()[3] for line in lines]
    expected = ["data"]
    for run, _ in params.run_configs():
        expected += ["train", "reconstruct", *["remedy"] * (run in params.remedy_evaluation.runs)]
        expected += ["probes"] * (run in params.probes.runs)
    expected += ["evaluate", *("figure" for _ in figures_of(params)), "report"]
    assert stages == expected
    for before, line in pairwise(lines[1 : stages.index("evaluate")]):
        if " train " not in line:  # reads what was trained last
            trained = re.search(r"--(?:out|train) (\S+/train) ", before)[1]
            assert re.search(r"--train (\S+)", line)[1] == trained
