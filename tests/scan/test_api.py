"""Argument checks and the choice of backend."""

import logging

import pytest
import torch

from lgmamba.scan import api, available_backends, selective_scan
from tests.scan.cases import Case, make_inputs

INPUTS = make_inputs(Case(2, 3, 4, 5), torch.float32)


@pytest.mark.parametrize("name", ["dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0"])
def test_a_wrong_shape_names_the_argument_and_both_shapes(name):
    wrong = INPUTS[name][..., :-1]
    expected = "z|dt" if name == "A" else name
    with pytest.raises(ValueError, match=rf"({expected}|Bmat).*\(.*\).*got \("):
        selective_scan(**INPUTS | {name: wrong})


def test_an_integer_argument_is_refused():
    with pytest.raises(ValueError, match=r"dt must be floating point; got torch.int64"):
        selective_scan(**INPUTS | {"dt": torch.ones(2, 3, 4, dtype=torch.int64)})


def test_arguments_on_two_devices_are_refused():
    with pytest.raises(ValueError, match="all arguments must share one device"):
        selective_scan(**INPUTS | {"A": INPUTS["A"].to("meta")})


@pytest.mark.parametrize("every", [0, -1])
def test_states_every_below_one_is_refused(every):
    with pytest.raises(ValueError, match=f"states_every must be >= 1; got {every}"):
        selective_scan(**INPUTS, states_every=every)


def test_a_state_beyond_the_limit_is_refused():
    with pytest.raises(ValueError, match=r"N must be in 1..256; got 257"):
        selective_scan(**make_inputs(Case(1, 1, 1, 257), torch.float32))


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"backend='gpu' is unknown.*'cpu'.*'reference'"):
        selective_scan(**INPUTS, backend="gpu")


def test_a_backend_for_another_device_says_so():
    assert available_backends("cpu")["reference"] is None
    with pytest.raises(RuntimeError, match="backend='mamba_ssm' cannot run on device 'cpu'"):
        selective_scan(**INPUTS, backend="mamba_ssm")
    for backend in ("cpu", "cpu_numba"):
        assert "not on cuda" in available_backends("cuda")[backend]


def test_auto_passes_over_what_cannot_run_and_logs_it(monkeypatch, caplog):
    api._auto.cache_clear()
    monkeypatch.setattr(api.BACKENDS["cpu"], "unavailable", lambda device: "no compiler today")
    with caplog.at_level(logging.WARNING, logger="lgmamba.scan"):
        assert api._auto("cpu") == "cpu_numba"
        assert api._auto("cpu") == "cpu_numba"
    api._auto.cache_clear()
    assert [r.getMessage() for r in caplog.records] == [
        "selective_scan: backend 'cpu' passed over on cpu: no compiler today"
    ]
    with pytest.raises(RuntimeError, match="no compiler today"):
        selective_scan(**INPUTS, backend="cpu")
