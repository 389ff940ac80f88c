"""A training step that is recorded as a CUDA graph gives what the launched one does."""

import torch

from lgmamba.model.stack import Stack
from lgmamba.train.graph import WARM_UP, Replayed


def assert_recorded_as_launched(model: Stack, x: torch.Tensor, bf16: bool) -> None:
    """Loss and gradients of a stack's forward and backward pass on tokens (B, L, d), in bfloat16 or as it is."""

    def step(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = model.encode(x, want_state=False)[0].float().square().mean()
        loss.backward()
        return loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)

    want = [v.clone() for v in step(x)]
    replayed = Replayed(step, model.zero_grad)
    for _ in range(WARM_UP + 2):
        got = replayed(x)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
