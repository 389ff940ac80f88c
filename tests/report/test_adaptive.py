"""The report's words about length-adaptive runs are those of their configuration, and of all of them."""

from lgmamba.report.adaptive import describe_adaptive
from tests.config.studies import ADAPTIVE, study

FULL = ADAPTIVE | {"kind": "film", "code": "normalised", "beyond": "rescale", "slowest": 4}


def words(**runs) -> str | None:
    return describe_adaptive(study(runs={"plain": {}} | runs))


def test_every_part_of_the_form_is_told():
    told = words(told={"model": {"adaptive": FULL}, "train": {"length_power": 0.6}})
    assert told.startswith("`told`: a network of 8 hidden units is told the length T")
    assert "at every step t, how far it is" in told
    assert "scales and shifts what every block reads, and scales what it passes on" in told
    assert "centred and of one size" in told
    assert "(T / L0)^0.6" in told
    assert told.endswith("of more than 4 L0 patches it reads the last 4 L0.")


def test_parts_that_are_not_there_are_not_told():
    told = words(told={"model": {"adaptive": ADAPTIVE | {"features": "T"}}})
    assert "how far" not in told and "centred" not in told and "weighs" not in told
    assert told.endswith("Beyond L0 it is told L0 for T, and 1 for a t/T above it.")


def test_several_forms_are_not_told_as_one():
    one, other = {"model": {"adaptive": FULL}}, {"model": {"adaptive": FULL}, "train": {"length_power": 0.6}}
    assert words(told=one, again=one).startswith("`told` and `again`: ")
    assert words(told=one, again=other) is None
