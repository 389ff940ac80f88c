"""The CUDA scan under every plan, chosen by force: all mappings of the table, sequences cut into pieces of any length."""

from functools import partial

import pytest
import torch

from lgmamba.scan import available_backends, cuda_mapping, selective_scan
from tests.scan.cases import Case, assert_close, assert_matches_reference, make_inputs, options, run
from tests.scan.conftest import poisoned_memory  # noqa: F401  (a fixture that acts by being here)

REASON = available_backends("cuda")["cuda"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"CUDA scan: {REASON}")]

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
matches = partial(assert_matches_reference, backend="cuda", device="cuda")

MAPPINGS = [
    (kernel, NP, i) for kernel, table in cuda_mapping.TABLE.items() for NP in table for i in range(len(table[NP]))
]


@pytest.fixture
def force(monkeypatch):
    """Call it with `piece`, the steps of a piece, and `choice`: kernel -> place in the table's list."""

    def forced(piece, choice, backward, rows, N, G, device):
        kernel, width = "backward" if backward else "forward", rows[0].shape[2] // G
        pairs = width % 2 == 0 and all(cuda_mapping.in_pairs(v) for v in rows if v is not None)
        NP = cuda_mapping.padded_states(N)
        made = {k: cuda_mapping.table_mappings(k, NP, width, pairs)[choice.get(k, 0)][0] for k in (kernel, "ends")}
        return cuda_mapping.Plan(made[kernel], made["ends"], min(piece, rows[0].shape[1]))

    return lambda piece, **choice: monkeypatch.setattr(cuda_mapping, "choose_plan", partial(forced, piece, choice))


@pytest.mark.parametrize("width", [5, 70], ids="width{}".format)
@pytest.mark.parametrize(("kernel", "NP", "i"), MAPPINGS)
def test_every_mapping_of_the_table(force, kernel, NP, i, width):
    force(32, **{kernel: i})
    matches(Case(B=2, L=70, D=2 * width, N=NP, G=2, every=25))
    matches(Case(B=1, L=33, D=width, N=NP - 1))


@pytest.mark.parametrize("piece", [16, 32, 48], ids="piece{}".format)
@pytest.mark.parametrize("L", [1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 96, 97], ids="L{}".format)
def test_lengths_around_pieces(force, L, piece):
    force(piece)
    matches(Case(B=2, L=L, D=40, N=8, every=7))


@pytest.mark.parametrize("every", [1, 5, 16, 17, 64, 99], ids="every{}".format)
def test_reported_states_across_pieces(force, every):
    force(16)
    matches(Case(B=2, L=100, D=20, N=16, every=every))


@pytest.mark.parametrize(
    "case", [Case(2, 70, 34, 8), Case(2, 70, 34, 8).plain(), Case(2, 70, 34, 8, h0=False)], ids=str
)
@pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=str)
def test_options_and_types_with_pieces(force, case, dtype):
    force(32)
    matches(case, dtypes=dtype)


def test_only_the_last_state_is_differentiated(force):
    force(16)
    case = Case(B=2, L=70, D=20, N=16, z=False)
    inputs = make_inputs(case, FP32, "cuda")
    grads = []
    for backend in ("cuda", "reference"):
        leaves = {k: v.detach().double() if backend == "reference" else v for k, v in inputs.items() if v is not None}
        leaves = {k: v.detach().requires_grad_() for k, v in leaves.items() if k != "Dskip"}
        _, last = selective_scan(**leaves, **options(case), backend=backend)
        weights = torch.linspace(-1, 1, last.numel(), device="cuda", dtype=last.dtype).view(last.shape)
        wanted = [leaves[k] for k in ("x", "dt", "A", "Bmat", "dt_bias", "h0")]
        grads.append(dict(enumerate(torch.autograd.grad(last, wanted, weights))))
    assert_close(*grads, 5e-6)


@pytest.mark.parametrize(
    "case",
    [
        Case(B=2, L=70, D=3 * 32, N=8, G=3),
        Case(B=2, L=70, D=5 * 7, N=16, G=5, every=20),
        Case(B=1, L=70, D=12, N=3, G=12),
        Case(B=2, L=70, D=2 * 300, N=4, G=2),
        Case(B=1, L=40, D=2 * 20, N=100, G=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("piece", [32, 1 << 20], ids=["pieces", "whole"])
def test_groups_of_channels(force, case, piece):
    force(piece)
    matches(case)
    matches(case, dtypes=BF16)


def test_many_pieces_are_joined_in_order(force):
    """More pieces than one row of the join takes at once, slow states among them, so that far pieces count."""
    force(16)
    case = Case(B=2, L=1700, D=6, N=4, softplus=False, bias=False)
    inputs = make_inputs(case, FP32, "cuda")
    inputs["dt"] = inputs["dt"] * 0.01
    exact = {k: None if v is None else v.double() for k, v in inputs.items()}
    assert_close(run(inputs, case, "cuda"), run(exact, case, "reference"), 1e-5)


def test_two_runs_with_pieces_give_equal_bits(force):
    force(48)
    case = Case(B=7, L=500, D=2 * 64, N=8, G=2, every=70)
    inputs = make_inputs(case, BF16, "cuda")
    first, second = run(inputs, case, "cuda"), run(inputs, case, "cuda")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_masked_pieces_pass_the_state_on_bit_for_bit(force):
    force(16)
    case = Case(B=2, L=100, D=20, N=16, softplus=False, bias=False)
    inputs = make_inputs(case, FP32, "cuda")
    inputs["dt"][:, 32:] = 0
    _, last = selective_scan(**inputs, return_last_state=True, backend="cuda")
    short = {k: v[:, :48] if v is not None and v.shape[:2] == (2, 100) else v for k, v in inputs.items()}
    _, one_masked_piece_later = selective_scan(**short, return_last_state=True, backend="cuda")
    assert torch.equal(last, one_masked_piece_later)


@pytest.mark.parametrize("B_L_D_N", [(1, 3000, 64, 16), (3, 2049, 32, 8), (1, 1500, 24, 64)], ids=str)
def test_a_long_sequence_is_cut_and_matches_the_whole(B_L_D_N):
    B, L, D, N = B_L_D_N
    for kernel in ("forward", "backward"):
        assert cuda_mapping.cheapest_plan(kernel, B, L, D, 1, N, True, 132).piece < L
    matches(Case(B, L, D, N, every=1000))
