"""Reading long sequences in pieces, in stream and prefix mode."""

from dataclasses import replace

import pytest
import torch

from lgmamba.model.runner import read_at_steps, run_sequence
from tests.model.models import EXACT, L0, G, K, along, exact, told

T = 29
WANTED = [1, 2, 7, 8, 16, 28]


def images_and_order(model) -> tuple[torch.Tensor, torch.Tensor]:
    """All patches of each image (B, G, K), and an order of visits (B, T)."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(3, G, K, generator=generator).to(model.embed_patch.weight.dtype)
    return patches, torch.randint(G, (3, T), generator=generator)


def whole(model, patches, cells, steps, told=None, hook=None):
    """The same from one `encode` of everything."""
    read = torch.stack([image[order] for image, order in zip(patches, cells, strict=True)])
    outputs, _ = model.encode(model.embed(read, cells), target_length=told, hook=hook)
    return model.predict(outputs[:, [t - 1 for t in steps]])


@pytest.mark.parametrize("position", ["absolute", "relative_move"])
@pytest.mark.parametrize("chunk", [1, 2, 7, 8, 28, 29, 64])
def test_a_pass_in_pieces_draws_what_one_whole_pass_does(position, chunk):
    model = exact(position=position)
    patches, cells = images_and_order(model)
    drawn = read_at_steps(model, along(patches, cells), WANTED, chunk=chunk)
    assert drawn.shape == (3, len(WANTED), *model.shape)
    torch.testing.assert_close(drawn, whole(model, patches, cells, WANTED), **EXACT)


def test_nothing_after_the_last_step_wanted_is_read():
    model = exact()
    patches, cells = images_and_order(model)
    calls = []
    drawn = read_at_steps(model, along(patches, cells), [3, 10], chunk=4, hook=lambda c: calls.append(c) or c)
    assert sum(c.x.shape[1] for c in calls if c.layer == 0) == 10
    assert torch.equal(drawn, read_at_steps(model, along(patches, cells[:, :10]), [3, 10], chunk=4, hook=lambda c: c))


def test_a_plan_reaches_the_pass():
    model = exact()
    patches, cells = images_and_order(model)
    hook = lambda call: replace(call, dt=0.5 * call.dt)  # noqa: E731
    drawn = run_sequence(model, along(patches, cells), WANTED, "stream", chunk=6, make_hook=lambda T: hook)
    torch.testing.assert_close(drawn, whole(model, patches, cells, WANTED, hook=hook), **EXACT)


@pytest.mark.parametrize("mode", ["stream", "prefix"])
def test_a_plain_model_is_read_once_in_either_mode(mode):
    model = exact()
    patches, cells = images_and_order(model)
    drawn = run_sequence(model, along(patches, cells), WANTED, mode, chunk=5)
    torch.testing.assert_close(drawn, whole(model, patches, cells, WANTED), **EXACT)


def test_stream_mode_tells_the_training_length_all_the_way():
    model = exact(adaptive=told())
    patches, cells = images_and_order(model)
    drawn = run_sequence(model, along(patches, cells), WANTED, "stream", chunk=5)
    torch.testing.assert_close(drawn, whole(model, patches, cells, WANTED, torch.full((3,), L0)), **EXACT)


def test_prefix_mode_tells_each_length_in_a_pass_of_its_own():
    model = exact(adaptive=told())
    patches, cells = images_and_order(model)
    drawn = run_sequence(model, along(patches, cells), WANTED, "prefix", chunk=5)
    for i, length in enumerate(WANTED):
        alone = whole(model, patches, cells[:, :length], [length], torch.full((3,), length))
        torch.testing.assert_close(drawn[:, i : i + 1], alone, **EXACT)
    stream = run_sequence(model, along(patches, cells), WANTED, "stream")
    same = [length == L0 for length in WANTED]
    assert [torch.allclose(drawn[:, i], stream[:, i]) for i in range(len(WANTED))] == same


def test_wrong_requests_are_refused():
    model = exact()
    patches, cells = images_and_order(model)
    with pytest.raises(ValueError, match=r"mode='both'; expected 'stream' or 'prefix'"):
        run_sequence(model, along(patches, cells), WANTED, "both")
    for steps in ([], [0, 1], [3, 2], [2, 2], [1, T + 1]):
        with pytest.raises(ValueError, match=rf"steps must be ascending, within 1\.\.{T}, the length of the sequences"):
            read_at_steps(model, along(patches, cells), steps)
