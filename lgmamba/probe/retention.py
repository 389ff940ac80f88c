"""The retention map: error of a cell against the time since it was last read. Glossary: `lgmamba.probe`."""

import torch
from torch import Tensor


class RetentionMap:
    """Mean squared error by (step, age), summed up batch by batch.

    Args:
        steps: steps looked at, from 1, ascending.
    """

    def __init__(self, steps: list[int]):
        self.steps = steps
        size = (len(steps), steps[-1] + 1)  # column age + 1, so that column 0 holds the cells never read
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.counts = torch.zeros(size, dtype=torch.int64)

    def add(self, errors: Tensor, ages: Tensor) -> None:
        """Cells of one batch.

        Args:
            errors: (B, S, G) mean squared error of each cell.
            ages: (B, S, G) int64, -1 for a cell not yet read.
        """
        for s in range(len(self.steps)):
            columns = (ages[:, s] + 1).flatten().cpu()
            self.sums[s].index_add_(0, columns, errors[:, s].flatten().double().cpu())
            self.counts[s] += torch.bincount(columns, minlength=self.counts.shape[1])

    def columns(self) -> dict[str, list]:
        """Rows that hold cells: step, age, mse (pixel value^2), count (cells)."""
        s, column = self.counts.nonzero(as_tuple=True)
        counts = self.counts[s, column]
        return {
            "step": torch.tensor(self.steps)[s].tolist(),
            "age": (column - 1).tolist(),
            "mse": (self.sums[s, column] / counts).tolist(),
            "count": counts.tolist(),
        }
