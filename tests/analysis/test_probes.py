"""Frames of the probes of a whole study: from the files of every run to what figures draw."""

import json
import math
import shutil
from dataclasses import replace

import polars as pl
import pytest

from lgmamba.analysis import frames_of
from lgmamba.analysis.collect import CollectError, collect_runs, load_study
from lgmamba.analysis.contrasts import Levels, contrasts_frame
from lgmamba.analysis.evaluate import levels_of, read_out_levels, why_no_read_outs
from lgmamba.analysis.probes.collect import collect_probes
from lgmamba.config.claims import ClaimsConfig
from lgmamba.config.probes import FRAMES
from lgmamba.probe.dynamics import GROUPS
from lgmamba.probe.remedy_effects import REMEDIES
from tests.analysis.synthetic_study import DIGITS_RUNS, make_study, study_values
from tests.records import record_again

RUNS = ["uniform_short", "uniform"]


def frame(study, name: str) -> pl.DataFrame:
    return pl.read_parquet(study.frames / f"{name}.parquet")


@pytest.mark.parametrize("name", [name for names in FRAMES.values() for name in names])
def test_every_run_and_seed_is_in_every_frame(name: str, study):
    found = frame(study, f"probes_{name}").select("run", "seed").unique(maintain_order=True).rows()
    assert found == [(run, seed) for run in RUNS[::-1] for seed in (0, 1)]  # as runs stand in the parameters


def test_a_study_that_is_not_looked_into_has_nothing_of_it(fresh):
    assert not any("probes" in name or "modes" in name for name in frames_of(load_study(fresh.study)))


@pytest.mark.parametrize("name", ["read_outs", "receptive_field", "states", "modes"])
def test_drawn_frames_follow_the_order_of_runs_and_bound_their_means(name: str, study):
    drawn = frame(study, f"figure_{name}")
    assert drawn["run"].unique(maintain_order=True).to_list() == RUNS
    means = drawn.filter(pl.col("lo").is_not_null())
    assert means.filter((pl.col("lo") > pl.col("y") + 1e-9) | (pl.col("hi") < pl.col("y") - 1e-9)).is_empty()
    assert means.filter(pl.col("weight") != 2).is_empty()  # both seeds


def test_the_mean_distance_is_drawn_in_units_of_the_length(study):
    distance = frame(study, "probes_distance").filter(
        run="uniform", layer=1, step=32, form="scan", aggregation="rownorm"
    )
    drawn = frame(study, "figure_receptive_field").filter(
        pl.col("panel") == "distance", pl.col("run") == "uniform", pl.col("layer") == 1, pl.col("x") == 2
    )
    assert drawn["y"].item() == pytest.approx(distance["mean_distance"].mean() / 32)
    assert drawn["lo"].item() == pytest.approx(distance["mean_distance"].min() / 32)


def test_a_claim_about_refitted_read_outs_is_about_the_numbers_of_the_look(study):
    found = frame(study, "probes_read_outs").filter(run="uniform", read_out="refitted")
    here, params = frame(study, "probes_read_outs"), load_study(study.study)
    sides = [{"run": "uniform", "at": at, "method": "refitted"} for at in ("2 L0", "L0")]
    claim = {"name": "C5", "claim": "Content goes", "claimed": "below", "of": sides[0], "minus": sides[1]}
    claims = ClaimsConfig.model_validate({"seeds": 2, "primary": [claim]})
    schema = levels_of(frame(study, "curves"), None).schema
    levels = Levels({None: read_out_levels(here, "permutation", schema)}, {"uniform": 16}, "permutation", "mean_image")
    per_seed = [
        found.filter(step=32, seed=seed)["psnr"].item() - found.filter(step=16, seed=seed)["psnr"].item()
        for seed in (0, 1)
    ]
    assert contrasts_frame(levels, claims)["per_seed"].item().to_list() == pytest.approx(per_seed)
    drawn = frame(study, "figure_read_outs").filter(run="uniform", series="refitted")
    assert drawn["x"].to_list() == [0.25, 1, 2]
    assert drawn["y"].to_list() == pytest.approx([found.filter(step=T)["psnr"].mean() for T in (4, 16, 32)])
    assert why_no_read_outs(params) is None
    without = params.model_copy(update={"probes": None})
    nothing = replace(levels, frames={None: levels.frames[None].clear()}, no_read_outs=why_no_read_outs(without))
    row = contrasts_frame(nothing, claims).row(0, named=True)
    assert (row["verdict"], row["reason"]) == (
        "not testable here",
        "no read-out was refitted: probes.kinds has no read_outs",
    )


def test_shares_of_the_gradient_end_at_one(study):
    drawn = frame(study, "figure_receptive_field").filter(pl.col("panel") == "gradient")
    ends = drawn.filter(pl.col("x") == pl.col("x").max().over("run", "factor"))["y"]
    assert ends.to_list() == pytest.approx([1.0] * 6, abs=1e-5)


def test_every_tested_mode_is_in_one_bin_at_the_longest_length(study):
    drawn = frame(study, "figure_modes").filter(pl.col("panel") == "growth")
    modes = frame(study, "probes_modes").filter(pl.col("step") == 4 * pl.col("L0"), pl.col("tested"))
    for run in RUNS:
        assert drawn.filter(run=run)["weight"].sum() == len(modes.filter(run=run)) > 0
    # to half a bin: a tenth of an octave
    mean = (drawn["x"].log(2) * drawn["weight"]).sum() / drawn["weight"].sum()
    assert mean == pytest.approx(modes["predicted"].cast(pl.Float64).log(2).mean(), abs=0.1)


def test_interventions_and_remedies_are_drawn_as_gains_and_growth(study):
    drawn, groups = frame(study, "figure_modes"), frame(study, "probes_groups")
    here = groups.filter(run="uniform", layer=-1, group="long", intervention="hold", step=64)
    row = drawn.filter(panel="groups", run="uniform", series="hold/long")
    assert row["y"].item() == pytest.approx((here["psnr"] - here["plain"]).mean())
    effects = frame(study, "probes_remedy_effects").filter(run="uniform", remedy="step_size", group="short", step=64)
    row = drawn.filter(panel="remedy_effects", run="uniform", series="step_size/short")
    by_seed = [math.exp(part["measured"].log().mean()) for part in effects.partition_by("seed")]
    assert row["y"].item() == pytest.approx(sum(by_seed) / 2)
    assert row["x"].item() == pytest.approx(effects["psnr"].mean())
    series = set(drawn.filter(panel="remedy_effects", run="uniform")["series"])
    present = set(frame(study, "probes_remedy_effects").filter(run="uniform").filter(pl.col("tested") > 0)["group"])
    assert series == {f"{remedy}/{group}" for remedy in REMEDIES for group in GROUPS if group in present}
    loss = frame(study, "probes_remedy_effects").filter(run="uniform", remedy="none", step=64, layer=0, group="short")
    assert drawn.filter(panel="loss", run="uniform")["y"].item() == pytest.approx(
        (loss["psnr_L0"] - loss["psnr"]).mean()
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from tests.analysis.synthetic_probes import PROBES

    runs = {name: DIGITS_RUNS[name] for name in ("fixed_16", "uniform", "adaptive")}
    look = PROBES | {"runs": ["uniform"], "length_ratios": [2]}
    values = study_values(
        runs, evaluation={"images": 4, "max_length_ratio": 4, "length_ratios": [2]}, claims={"far_length_ratios": [2]}
    )
    return make_study(tmp_path_factory.mktemp("small"), values | {"probes": look, "seeds": [0]})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda about: about["probes"].update(images=9), "another configuration .* images: found 9, expected 8"),
        (lambda about: about.update(split="val"), "another configuration .* split: found val, expected test"),
        (lambda about: about.update(checkpoint_digest="0" * 64), "but looked into: checkpoint 000000000000"),
        (lambda about: about.update(data_digest="0" * 64), "but looked into: images 000000000000"),
        (None, "uniform seed 0: missing probes.json in "),
    ],
)
def test_what_was_looked_into_otherwise_is_refused(small, tmp_path, spoil, message):
    study_json, results = small
    runs = shutil.copytree(results / "runs", tmp_path / "runs")
    path = runs / "uniform/seed0/probes/probes.json"
    if spoil is None:
        path.unlink()
    else:
        about = json.loads(path.read_text())
        spoil(about)
        path.write_text(json.dumps(about))
        record_again(path.parent)
    params = load_study(study_json)
    with pytest.raises(CollectError, match=message):
        collect_probes(params, collect_runs(params, runs))
