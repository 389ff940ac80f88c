"""Plans of the CUDA scan: what they promise can be told without a GPU."""

import re

import pytest

from lgmamba.scan import cuda_launch
from lgmamba.scan.arguments import MAX_STATE
from lgmamba.scan.cuda_loader import FOLDER
from lgmamba.scan.cuda_mapping import CHUNK, TABLE, UNCUT, Mapping, cheapest_plan

H100 = 132
"""Multiprocessors."""
SHARED_BYTES = 227 * 1024
"""What the blocks of a multiprocessor of an H100 may ask for together, less 1 KiB a block that the system keeps."""


@pytest.mark.parametrize("kernel", TABLE)
def test_every_state_size_has_a_mapping(kernel):
    assert max(TABLE[kernel]) == MAX_STATE
    assert list(TABLE[kernel]) == [4 * 2**i for i in range(len(TABLE[kernel]))]


@pytest.mark.parametrize("kernel", TABLE)
def test_the_blocks_that_a_mapping_counts_on_fit_into_shared_memory(kernel):
    for NP, entries in TABLE[kernel].items():
        for NT, CT, WARPS, T, MIN_BLOCKS, *_ in entries:
            mapping = Mapping(NP, NT, CT, WARPS, T, MIN_BLOCKS)
            block = getattr(mapping, f"{kernel}_bytes")() + 1024
            assert MIN_BLOCKS * block <= SHARED_BYTES, (NP, mapping)


def plan(B, L, D, N, G=1, kernel="forward"):
    return cheapest_plan(kernel, B, L, D // G, G, N, True, H100)


def test_short_sequences_stay_whole():
    assert all(plan(1, L, 32, 8).piece == L for L in (1, CHUNK, CHUNK + 1, UNCUT))


@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_enough_samples_and_channels_leave_sequences_whole(kernel):
    assert plan(256, 512, 512, 16, kernel=kernel).piece == 512
    assert plan(64, 2049, 1920, 8, G=60, kernel=kernel).piece == 2049


@pytest.mark.parametrize("kernel", ["forward", "backward"])
@pytest.mark.parametrize(
    "shape", [(1, 65536, 256, 16), (16, 8192, 32, 8), (1, 8192, 1536, 16), (64, 2049, 32, 8)], ids=str
)
def test_few_long_sequences_fill_the_gpu(kernel, shape):
    B, L, D, _ = shape
    chosen = plan(*shape, kernel=kernel)
    warps = B * -(-L // chosen.piece) * chosen.walk.blocks(D) * chosen.walk.WARPS
    assert chosen.piece % CHUNK == 0
    assert warps >= 7 * H100


def test_a_group_is_served_by_one_block_where_it_fits():
    assert plan(64, 2049, 1920, 8, G=60, kernel="backward").walk.blocks(32) == 1
    assert plan(64, 64, 1920, 16, G=60, kernel="backward").walk.blocks(32) == 1


@pytest.mark.parametrize(("name", "file"), [("Args", "scan"), ("Sums", "scan_sums"), ("Join", "scan_join")])
def test_arguments_have_the_fields_of_the_source_in_its_order(name, file):
    source = re.sub(r"//.*", "", (FOLDER / f"cuda_{file}.cu").read_text())
    body = re.search(rf"struct {name} {{(.*?)}};", source, re.DOTALL)[1]
    declared = [name for line in body.split(";") for name in re.findall(r"(\w+)\s*(?:,|$)", line.strip())]
    assert declared == [field for field, _ in getattr(cuda_launch, name)._fields_]
