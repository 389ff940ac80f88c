"""The norm of the stack and of mixers. Glossary: `lgmamba.model`."""

from torch import Tensor, nn

from lgmamba.scan import cpu_rows, cuda_norm


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` over the last axis, in this project's kernels where they run: made for many narrow rows on a GPU, and on
    a CPU for one pass without torch's dispatch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        if cuda_norm.runs(x, self.weight):
            assert self.eps is not None  # every norm here is given one
            return cuda_norm.rms_norm(x, self.weight, self.eps)
        if cpu_rows.runs((x, self.weight)):
            assert self.eps is not None
            return cpu_rows.rms_norm(x, self.weight, self.eps)
        return super().forward(x.to(self.weight.dtype))  # torch's own kernel, too, takes one type alone
