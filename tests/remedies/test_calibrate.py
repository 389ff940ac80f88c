"""Calibration finds known minima, keeps what helps on other images only, and moves a model's loss."""

import pytest
import torch

from lgmamba.remedies.search import by_gradient, loss_at_steps, zeroth_order
from lgmamba.remedies.spectrum.remedy import scale_spectrum
from lgmamba.remedies.step_size.remedy import scale_step_sizes
from tests.model.models import as_read, draw_task, exact, sequence

MINIMUM = torch.tensor([0.4, -0.7, 0.0], dtype=torch.float64)


def bowl(theta: torch.Tensor) -> torch.Tensor:
    return 3.0 + (torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) * (theta - MINIMUM).square()).sum()


@pytest.mark.parametrize("search", [zeroth_order, by_gradient])
def test_the_minimum_of_a_bowl_is_found_from_both_sides_of_1(search):
    found = search(bowl, bowl, n=3, steps=300)
    assert found.before == pytest.approx(float(bowl(torch.zeros(3))))
    assert found.after < 3.0 + 0.02 * (found.before - 3.0)
    assert found.factors == pytest.approx(found.theta.exp().tolist())


def test_zeroth_order_moves_where_the_first_signs_cancel():
    """At theta = 0 the slopes of the two terms are opposite but for a millionth."""
    weights, minimum = torch.tensor([1.0, 1.000001]), torch.tensor([1.0, -1.0])

    def cancels(theta: torch.Tensor) -> torch.Tensor:
        return (weights * (theta - minimum).square()).sum()

    found = zeroth_order(cancels, cancels, n=2, steps=20, seed=1, travel=4.0)
    assert found.before == pytest.approx(2.000001)
    assert found.after < 0.1


def test_zeroth_order_lowers_every_quadratic_that_is_not_yet_at_its_minimum():
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        n = int(torch.randint(2, 9, (), generator=generator))
        weights, distance, side = torch.rand(3, n, generator=generator, dtype=torch.float64)
        minimum = (0.5 + distance) * (side - 0.5).sign()

        def bowl(theta: torch.Tensor, weights=weights, minimum=minimum) -> torch.Tensor:
            return (weights * (theta - minimum).square()).sum()

        found = zeroth_order(bowl, bowl, n, steps=20, seed=seed, travel=4.0)
        assert found.after < found.before, seed


@pytest.mark.parametrize("search", [zeroth_order, by_gradient])
def test_what_does_not_help_on_other_images_is_not_kept(search):
    found = search(bowl, lambda theta: theta.square().sum(), n=3, steps=20)
    assert found.theta.tolist() == [0.0, 0.0, 0.0]
    assert found.after == found.before == 0.0


@pytest.mark.parametrize("search", [zeroth_order, by_gradient])
def test_nothing_outside_the_bounds_is_tried(search):
    tried = []

    def watched(theta: torch.Tensor) -> torch.Tensor:
        tried.append(theta.detach().clone())
        return bowl(theta)

    start = torch.tensor([3.0, -3.0, 0.0], dtype=torch.float64)
    found = search(watched, watched, n=3, steps=100, start=start, bounds=(0.6, 1.2))
    inside = torch.stack(tried).exp()
    assert inside.min() >= 0.6 * (1 - 1e-12) and inside.max() <= 1.2 * (1 + 1e-12)
    assert found.factors == pytest.approx([1.2, 0.6, 1.0], abs=0.05)


def test_the_same_seed_finds_the_same():
    one, two, other = (zeroth_order(bowl, bowl, n=3, steps=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.theta, two.theta)
    assert not torch.equal(one.theta, other.theta)


@pytest.mark.parametrize(
    "make_hook",
    [lambda s: scale_step_sizes(per_layer=s), lambda s: scale_spectrum("mult", s), lambda s: scale_spectrum("pow", s)],
    ids=["step sizes", "mult", "pow"],
)
def test_gradients_of_a_models_loss_are_those_of_finite_differences(make_hook):
    model = exact()
    patches, cells = sequence(model)
    targets = torch.rand(3, *model.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    loss = loss_at_steps(model, draw_task(), as_read(patches, cells, targets), make_hook)
    theta = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, theta)


def test_calibration_lowers_a_models_loss_and_leaves_the_model_alone():
    model = exact()
    before = {name: v.clone() for name, v in model.state_dict().items()}
    patches, cells = sequence(model, B=6)
    with torch.no_grad():  # what a model with other step sizes would draw, so that there is something to find
        outputs, _ = model.encode(model.embed(patches, cells), hook=scale_step_sizes(per_layer=[0.5, 1.5]))
        targets = model.predict(outputs[:, -1])
    half = slice(0, 3), slice(3, 6)
    first, second = (
        loss_at_steps(model, draw_task(), as_read(patches, cells, targets)[s], lambda f: scale_step_sizes(per_layer=f))
        for s in half
    )
    found = by_gradient(first, second, n=2, steps=80, penalty=0.0)
    assert found.after < 0.05 * found.before
    assert found.factors == pytest.approx([0.5, 1.5], abs=0.15)
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


def test_a_search_that_meets_a_loss_without_a_gradient_keeps_what_was_best():
    def steep(theta: torch.Tensor) -> torch.Tensor:
        return bowl(theta) + 0 * (theta * 2000).exp().sum()  # 0 x infinity, one step out

    found = by_gradient(steep, bowl, n=3, steps=20)
    assert found.theta.isfinite().all()
    assert found.after <= found.before
