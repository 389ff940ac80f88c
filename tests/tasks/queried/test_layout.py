"""Patches, delimiter, queries and padding: every sequence with its own length, all in one shape."""

import torch

from lgmamba.tasks.queried.layout import DELIMITER, PADDING, PATCH, QUERY, slot_kinds, slot_places

LENGTHS, L, Q = torch.tensor([0, 2, 4]), 4, 3


def test_slots_of_sequences_of_different_lengths():
    names = {PATCH: "p", DELIMITER: "d", QUERY: "q", PADDING: "."}
    kinds = slot_kinds(LENGTHS, L, Q)
    assert ["".join(names[k] for k in row) for row in kinds.tolist()] == ["dqqq....", "ppdqqq..", "ppppdqqq"]


def test_each_slot_has_the_place_that_is_read_or_asked_there():
    read = torch.tensor([[10, 11, 12, 13]] * 3)
    asked = torch.tensor([[20, 21, 22]] * 3)
    assert slot_places(read, asked, LENGTHS).tolist() == [
        [0, 20, 21, 22, 0, 0, 0, 0],
        [10, 11, 0, 20, 21, 22, 0, 0],
        [10, 11, 12, 13, 0, 20, 21, 22],
    ]
