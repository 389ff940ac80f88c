"""Heads on frozen latents stop by their rule, and each says whether it met it."""

from functools import partial

import pytest
import torch

from lgmamba.tradeoff.heads import Latents, fit_heads, squared_error
from lgmamba.tradeoff.networks import decoder
from lgmamba.tradeoff.stack_file import HeadTrainConfig

SHAPE, RUNS = (1, 2, 2), 2


def fit(validation: list[tuple[float, ...]], steps: int, tolerance: float = 0.0):
    """Two decoders, looked at after every 10 steps; `validation`: their losses at each look, as if they had been measured."""
    random = torch.Generator().manual_seed(0)
    looks = iter(validation)

    def loss(drawn, images):
        found = squared_error(drawn, images)
        return found if drawn.requires_grad else torch.tensor(next(looks))[:, None].expand_as(found)

    latents = Latents(
        {name: torch.randn(RUNS, 6, 3, generator=random) for name in ("train", "val")},
        {name: torch.randint(0, 256, (6, *SHAPE), generator=random, dtype=torch.uint8) for name in ("train", "val")},
    )
    config = HeadTrainConfig(steps=steps, batch_size=4, lr=0.01, check_every=10, patience=2, tolerance=tolerance)
    return fit_heads(partial(decoder, 3, [4], SHAPE), latents, loss, [0, 1], config), len(list(looks))


def test_each_head_has_the_weights_of_its_best_look_and_says_whether_it_converged():
    """The first is best at the second of four looks; the second still improves when the steps run out."""
    losses = [(3.0, 5.0), (2.0, 4.0), (2.5, 3.0), (2.25, 2.0)]
    fitted, left = fit(losses, steps=40)
    assert (fitted.steps, fitted.converged, left) == ([20, 40], [True, False], 0)
    early, _ = fit(losses, steps=20)
    assert (early.steps, early.converged) == ([20, 20], [False, False])
    for name, value in fitted.heads.parameters.items():
        assert torch.equal(value[0], early.heads.parameters[name][0])
        assert not torch.equal(value[1], early.heads.parameters[name][1])


@pytest.mark.parametrize("last, steps", [((9.0, 9.0), [10, 10]), ((9.0, 1.0), [10, 30])])
def test_all_go_on_until_none_improves(last, steps):
    """After two looks without a better one; a later better one of either run keeps both going."""
    fitted, left = fit([(3.0, 3.0), (4.0, 4.0), last, (5.0, 5.0), (5.0, 5.0), (0.0, 0.0)], steps=1000)
    assert (fitted.steps, fitted.converged, left) == (steps, [True, True], 3 if steps == [10, 10] else 1)


def test_small_falls_are_kept_and_end_it_all_the_same():
    """Of 1 %: from 2 to 1.99 and 1.985 is none, though each is the best so far; to 1.97 in one look would be one."""
    losses = [(2.0, 2.0), (1.99, 1.99), (1.985, 1.97), (1.985, 1.97), (9.0, 1.96), (0.0, 0.0)]
    fitted, left = fit(losses, steps=1000, tolerance=0.01)
    assert (fitted.steps, fitted.converged, left) == ([30, 50], [True, True], 1)
    assert fit(losses, steps=60)[1] == 0
