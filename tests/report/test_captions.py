"""Captions that hang on what else a study draws."""

from pathlib import Path

from lgmamba.config.study import load_params
from lgmamba.report.captions import Sample, captions

ROOT = Path(__file__).parents[2]


def caption(retention: str) -> str:
    params = load_params(ROOT / "params.yaml", "smoke", {"report": {"retention": retention}})
    sample = Sample((1, 1), 24, "test", 1, "permutation")
    return captions(params, sample, "8 test images")["remedies_retention"]


def test_maps_with_remedies_are_explained_where_there_are_none_above():
    assert caption("maps").startswith("As the retention maps above, order `permutation`, for the model as it is")
    alone = caption("none")
    assert alone.startswith("Mean squared error of a cell's pixels") and "above" not in alone
    assert "order `permutation`, for the model as it is and for the best remedy" in alone


def test_what_a_run_is_told_and_what_bands_are_is_said_where_there_are_any():
    plain = {
        "runs": {"a": {}},
        "claims": {"comparisons": [], "primary": []},
        "remedies": [],
        "remedy_evaluation": None,
        "probes": None,
    }
    told = plain | {"runs": {"a": {"model": {"adaptive": {"kind": "length_token"}}}}}
    for changes, seeds, bands in ((plain, 2, "No bands"), (told, 3, "Bands: 95 % intervals")):
        params = load_params(ROOT / "params.yaml", "smoke", changes)
        said = captions(params, Sample((seeds, seeds), 24, "test", 1, "permutation"))
        assert ("told each sequence's true length." in said["curves"]) == (changes is told)
        assert bands in said["degradation"]


def test_what_controls_are_told_is_said():
    def said(*told: str) -> dict[str, str]:
        token = {"kind": "length_token", "scale": 100, "beyond": "extrapolate"}
        more = {"constant": {"constant": 8}}
        runs = {name: {"model": {"adaptive": token | {"told": name} | more.get(name, {})}} for name in told}
        changes = {"runs": runs, "claims": {"comparisons": [], "primary": []}} | {"remedies": []}
        params = load_params(ROOT / "params.yaml", None, changes | {"remedy_evaluation": None, "probes": None})
        return captions(params, Sample((5, 5), 24, "test", 1, "uniform"))

    assert "told each sequence's true length, shuffled controls L0." in said("own", "shuffled")["curves"]
    three = said("own", "shuffled", "constant")
    assert "true length, shuffled controls L0, constant controls their constant." in three["curves"]
    assert "runs are told L0, constant controls their constant." in three["asked"]
