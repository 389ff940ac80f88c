"""Gaps, area and synergy of frontiers that a person can work out, and what a latent uses."""

import math

import numpy as np
import pytest
import torch

from lgmamba.analysis.frontier import conflict_gaps, exchange_area, synergy
from lgmamba.tradeoff.linear import principal_components
from lgmamba.tradeoff.measures import cosine, dimensions_used

MSE = np.array([0.01, 0.02, 0.03])
ACCURACY = np.array([50.0, 70.0, 90.0])


def test_a_proportional_exchange_has_half_the_square():
    assert exchange_area(MSE, ACCURACY) == pytest.approx(0.5)


def test_a_corner_that_has_both_costs_nothing():
    assert exchange_area(np.array([0.01, 0.01, 0.03]), np.array([50.0, 90.0, 90.0])) == pytest.approx(0)


def test_the_area_is_under_the_lower_hull():
    """K = 1, 0.5, 0.75, 0; R = 0, 0.25, 0.9, 1: the third point lies above the hull. (1 + 0.25) / 4 + 0.25 / 4."""
    mse, accuracy = 0.01 + 0.02 * np.array([0, 0.25, 0.9, 1]), 90 - 40 * np.array([1, 0.5, 0.75, 0])
    assert exchange_area(mse, accuracy) == pytest.approx(0.375)


def test_a_weight_as_good_for_the_class_as_an_end_and_worse_for_the_picture_changes_nothing():
    """K = 1 twice, at R = 0 and 0.5: the lower one is the frontier's end."""
    mse, accuracy = np.array([0.01, 0.02, 0.02, 0.03]), np.array([50.0, 50.0, 70.0, 90.0])
    assert exchange_area(mse, accuracy) == pytest.approx(0.5)


def test_a_weight_ahead_of_both_ends_makes_it_negative():
    assert exchange_area(np.array([0.02, 0.01, 0.03]), np.array([50.0, 95.0, 90.0])) < 0


@pytest.mark.parametrize("mse, accuracy", [(MSE[::-1], ACCURACY), (MSE, ACCURACY[::-1]), (MSE * 0 + 1, ACCURACY)])
def test_without_a_conflict_there_is_no_area(mse, accuracy):
    assert math.isnan(exchange_area(mse, accuracy))


def test_conflict_gaps():
    assert conflict_gaps(MSE, ACCURACY, 0.05, 10.0) == pytest.approx((0.5, 0.5))
    assert all(math.isnan(gap) for gap in conflict_gaps(MSE, ACCURACY, 0.01, 95.0))


def test_synergy_is_the_best_of_the_smaller_gains_in_margins():
    """w = 0.5: 10 log10(0.01 / 0.005) = 3.01 dB and 2 points: 30.1 and 4 margins."""
    mse, accuracy = np.array([0.01, 0.005, 0.02]), np.array([50.0, 92.0, 90.0])
    assert synergy(mse, accuracy, 0.1, 0.5) == pytest.approx(4)
    assert synergy(MSE, ACCURACY, 0.1, 0.5) < 0


def test_dimensions_used():
    """Two of three dimensions used alike, the first by class alone."""
    labels = torch.tensor([0, 0, 1, 1])
    z = torch.tensor([[[-1.0, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]]])
    found = dimensions_used(z, labels, 2)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"used": 2.0, "used_classes": 1.0, "eta2": 0.5}
    )


def test_cosine_of_each_run():
    a = torch.tensor([[[1.0, 0]], [[1, 0]], [[1, 0]]])
    b = torch.tensor([[[2.0, 0]], [[0, 1]], [[-1, 0]]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([1.0, 0, -1], dtype=torch.float64))


def test_principal_components_are_the_best_of_their_number():
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, directions = principal_components(x, 2)
    torch.testing.assert_close(directions.T @ directions, torch.eye(2, dtype=torch.float64))
    lost = (x - mean - (x - mean) @ directions @ directions.T).square().sum()
    torch.testing.assert_close(lost, torch.linalg.svdvals(x - mean)[2:].square().sum())
