"""Argument checks and the choice of backend."""

import logging

import pytest
import torch

from lgmamba.scan import api, available_backends, selective_scan
from tests.scan.cases import Case, backends, make_inputs

INPUTS = make_inputs(Case(2, 3, 4, 5), torch.float32)
BACKENDS = backends()


@pytest.mark.parametrize("name", ["dt", "A", "Bmat", "Cmat", "Dskip", "z", "dt_bias", "h0"])
def test_a_wrong_shape_names_the_argument_and_both_shapes(name):
    wrong = INPUTS[name][..., :-1]
    expected = "z|dt" if name == "A" else name
    with pytest.raises(ValueError, match=rf"({expected}|Bmat).*\(.*\).*got \("):
        selective_scan(**INPUTS | {name: wrong})


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_dtype_that_is_not_computed_in_is_refused_by_name(name, dtype, backend):
    wrong = INPUTS[name].to(dtype)
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {dtype}"):
        selective_scan(**INPUTS | {name: wrong}, backend=backend)


@pytest.mark.parametrize("name", ["x", "dt", "A", "Bmat", "Cmat"])
def test_a_required_argument_that_is_none_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"{name} must be a torch.Tensor; got NoneType"):
        selective_scan(**INPUTS | {name: None})


@pytest.mark.parametrize("name", INPUTS)
def test_what_is_not_a_tensor_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"{name} must be a torch.Tensor.*; got ndarray"):
        selective_scan(**INPUTS | {name: INPUTS[name].numpy()})


@pytest.mark.parametrize("name", ["Dskip", "z", "dt_bias", "h0"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_optional_argument_may_be_none(name, backend):
    without = INPUTS | {name: None}
    neutral = INPUTS | {name: torch.zeros_like(INPUTS[name])}
    if name == "z":
        neutral["z"] = torch.full_like(INPUTS["z"], 1.2784645)  # silu(z) is 1
    torch.testing.assert_close(selective_scan(**without, backend=backend), selective_scan(**neutral, backend=backend))


def test_sparse_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Bmat must be a dense tensor; got torch.sparse_coo"):
        selective_scan(**INPUTS | {"Bmat": INPUTS["Bmat"].to_sparse()})


@pytest.mark.parametrize("every", [True, 2.0, "2"])
def test_states_every_of_another_type_is_refused(every):
    with pytest.raises(TypeError, match="states_every must be an integer or None; got"):
        selective_scan(**INPUTS, states_every=every)


@pytest.mark.parametrize("name", ["Bmat", "Cmat"])
def test_groups_that_do_not_divide_the_channels_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} .* G = 3 groups, which does not divide D = 4"):
        selective_scan(**INPUTS | {name: torch.zeros(2, 3, 3, 5)})


def test_unlike_numbers_of_groups_are_refused():
    with pytest.raises(ValueError, match="Bmat has 2 groups, Cmat 4"):
        selective_scan(**INPUTS | {"Bmat": torch.zeros(2, 3, 2, 5), "Cmat": torch.zeros(2, 3, 4, 5)})


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


def test_auto_passes_over_what_cannot_run_and_logs_it(monkeypatch, caplog, fresh_choice):
    monkeypatch.setattr(api.BACKENDS["cpu"], "unavailable", lambda device: "no compiler today")
    with caplog.at_level(logging.WARNING, logger="lgmamba.scan"):
        assert api._auto("cpu") == "cpu_numba"
        assert api._auto("cpu") == "cpu_numba"
    assert [r.getMessage() for r in caplog.records] == [
        "selective_scan: backend 'cpu' passed over on cpu: no compiler today"
    ]
    with pytest.raises(RuntimeError, match="no compiler today"):
        selective_scan(**INPUTS, backend="cpu")
