"""What contrasts say about classes, on numbers made by hand; and what is refused before any job."""

import polars as pl
import pytest

from lgmamba.analysis.contrasts import Levels, contrasts_frame
from lgmamba.analysis.exchange import exchange_frame
from lgmamba.analysis.families import exchanges
from lgmamba.cli.show import image_problem
from tests.analysis.test_contrasts import claims, contrast, levels
from tests.config.studies import error, study, values
from tests.data.samples import encode, pixels

HEAD = {"model": {"latent": 8, "class_head": {"classes": 10}}, "train": {"class_weight": 0.5}}


def judged(of: dict, minus: dict, **changes) -> dict:
    """Of a run with L0 = 16: PSNR 20 at L0 and 17 at 64, mean image 12; accuracy 90 and 80, commonest class 10."""
    read = {("a", 16): [20.0, 20.0], ("a", 64): [17.0, 16.0]}
    named = {("a", 16): [90.0, 90.0], ("a", 64): [80.0, 82.0]}
    null = {None: 12.0, "accuracy": 10.0}
    frames = {}
    for metric, found in ((None, read), ("accuracy", named)):
        nothing = levels({key: [null[metric]] * 2 for key in found}, method="mean_image")
        frames[metric] = levels(found).vstack(nothing)
    config = claims(contrast(of=of, minus=minus), **changes)
    return contrasts_frame(Levels(frames, {"a": 16}, "replacement", "mean_image"), config).row(0, named=True)


def test_shares_that_are_kept_are_of_the_lead_at_L0_over_what_knows_nothing():
    kept = {"run": "a", "at": "4 L0", "measure": "kept"}
    row = judged(kept | {"metric": "accuracy"}, kept)
    assert row["per_seed"] == pytest.approx([100 * (70 / 80 - 5 / 8), 100 * (72 / 80 - 4 / 8)])
    assert row["of"] == "share of its lead in accuracy at L0 that a has at 4 L0"


def test_accuracies_are_compared_with_a_margin_of_their_own():
    sides = [{"run": "a", "at": at, "metric": "accuracy"} for at in ("4 L0", "L0")]
    assert judged(*sides)["per_seed"] == [-10.0, -8.0]
    same = [{"run": "a", "at": at, "metric": "accuracy"} for at in ("L0", "1 L0")]  # a side against itself is refused
    assert judged(*same, seeds=2, accuracy_margin=1e-9)["verdict"] == "no difference"


ACCURATE = {"at": "L0", "metric": "accuracy"}
PLAIN = {"run": "plain", "at": "L0"}


def about(of: dict, minus: dict) -> dict:
    """A study with one contrast."""
    return {"claims": {"primary": [contrast(of=of, minus=minus)]}}


@pytest.mark.parametrize(
    "changed, told",
    [
        (
            about(ACCURATE | {"run": "plain"}, PLAIN),
            "claims.primary.0.minus: found metric null, measure level, expected: metric accuracy",
        ),
        (
            about(ACCURATE | {"run": "plain"}, ACCURATE | {"run": "told"}),
            "claims.primary.0.of.metric: found accuracy, expected: null, since run 'plain' names no class",
        ),
        (
            about(PLAIN | {"measure": "kept", "remedy": "windows"}, PLAIN),
            "measure kept belongs to runs that are read as they are",
        ),
        (HEAD | {"model": {"latent": 65}, "train": {}}, "model.latent: found 65, expected: at most the 64 numbers"),
        (HEAD | {"data": {"n_classes": 9}}, "model.class_head.classes: found 10, expected: 9, data.n_classes"),
        (
            HEAD | {"data": {"source": {"kind": "parquet", "path": "x", "image_column": "i", "label_column": None}}},
            "data.source.label_column: found null, expected: the column with the classes that are told apart",
        ),
        (HEAD | {"train": {"class_weight": 2}}, "train.class_weight: found 2, expected: less than or"),
    ],
)
def test_what_cannot_be_is_said_before_any_job(changed, told):
    assert told in error(values(**changed))


def test_classes_that_are_not_in_the_source_are_named_before_any_job(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(pixels(0)))
    outputs = {name: str(tmp_path / name) for name in ("data", "results", "reports")} | {"outside": "allow"}
    folder = {"source": {"kind": "image_folder", "path": str(tmp_path)}}
    told = image_problem(study(**HEAD, outputs=outputs, data=folder))
    assert told is not None and told.startswith("data.source (image_folder): found 1 class, expected: at least 2")
    seven = {"model": {"class_head": {"classes": 7}}, "train": {"class_weight": 0}}
    told = image_problem(study(**seven, outputs=outputs))
    assert told == "data.source (digits): found 10 classes, expected: 7, those of model.class_head.classes"
    assert image_problem(study(**HEAD, outputs=outputs)) is None


def test_what_one_costs_the_other_is_a_number_for_each_training_with_an_interval_over_them():
    ends = {name: {"train": {"class_weight": w}} for name, w in (("w0", 0), ("half", 0.5), ("w1", 1))}
    made = study(
        **HEAD, runs=ends, claims={"comparisons": []}, remedy_evaluation={"runs": ["w0"]}, probes={"runs": ["w0"]}
    )
    levels = {"w0": (0.02, 50.0), "half": (0.03, 85.0), "w1": (0.04, 90.0)}  # mse, accuracy
    about = {"mode": "prefix", "order": made.evaluation.orders[0], "step": 16}
    rows = [
        about
        | {"run": run, "seed": seed, "method": method, "mse": mse + 0.002 * seed * (run == "w1"), "accuracy": right}
        for seed in made.seeds
        for run, own in levels.items()
        for method, (mse, right) in (("model", own), ("mean_image", (0.10, 10.0)))
    ]
    (row,) = exchange_frame(made, pl.DataFrame(rows)).to_dicts()
    assert (row["run"], row["weights"], row["n_seeds"]) == ("w0", [0.0, 0.5, 1.0], 2)
    gaps = [0.02 / 0.08, 0.022 / 0.08]
    assert row["gap_r"] == pytest.approx(sum(gaps) / 2) and row["gap_r_lo"] < gaps[0] < gaps[1] < row["gap_r_hi"]
    assert row["gap_c"] == pytest.approx(40 / 80)
    # the mean frontier's hull has its corner at K = 5 / 40, R = 0.01 / 0.021; with one training left out, at 0.01 / 0.02 and 0.01 / 0.022
    whole, *others = (0.125 * (1 + R) / 2 + 0.875 * R / 2 for R in (0.01 / 0.021, 0.01 / 0.022, 0.01 / 0.02))
    pseudo = [2 * whole - other for other in others]
    assert row["area"] == pytest.approx(sum(pseudo) / 2) and row["area_lo"] < min(pseudo) < max(pseudo) < row["area_hi"]


def test_runs_that_differ_in_the_weight_of_classification_alone_are_one_exchange():
    runs = {f"w{w}": {"train": {"class_weight": w}} for w in (1, 0)} | {
        "half": {},
        "told": {"model": {"adaptive": {"kind": "length_token"}}},
        "end": {"train": {"class_weight": 1, "lr": 1e-4}},
    }
    found = study(
        **HEAD, runs=runs, claims={"comparisons": []}, remedy_evaluation={"runs": ["half"]}, probes={"runs": ["half"]}
    )
    assert exchanges(found) == [{0.0: "w0", 0.5: "half", 1.0: "w1"}]
