"""The task `regression`: pairs (x, w.x) of an unknown w are read; asked for w.x of another x, at any step.

Glossary, with that of `lgmamba.tasks.base`: d entries of x; w, x and the question are standard Gaussian, so that an answer of 0 has
the error d / 2; the error is half the squared difference. A sample is an id alone: its hash decides w, question and pairs.
Reference: arXiv:2509.23779; the theory beyond the training length is in `theory`.
"""

import torch
from torch import Tensor

from lgmamba.config.base import ConfigError
from lgmamba.config.run import ModelConfig
from lgmamba.config.training import TrainConfig
from lgmamba.tasks.base import Scores, Task
from lgmamba.tasks.draws import gaussian, uniform
from lgmamba.tasks.regression.batch import RegressionBatch, RegressionSampler
from lgmamba.tasks.regression.config import RegressionConfig
from lgmamba.tasks.regression.model import Asked, RegressionStack
from lgmamba.tasks.regression.s6 import BareS6
from lgmamba.tasks.regression.sequences import Pairs
from lgmamba.tasks.seeds import of_each, seed_of_repeat


class RegressionTask(Task):
    """See the module."""

    config: RegressionConfig

    @classmethod
    def build_model(cls, config: RegressionConfig, model: ModelConfig, image_shape: tuple[int, int, int]) -> Asked:
        body = BareS6 if config.body == "s6" else RegressionStack
        if config.body == "s6" and model.adaptive is not None:
            raise ConfigError("model.adaptive: expected: null with task.body s6, a bare layer that is told nothing")
        if config.body == "s6" and model.mixer.kind != "mamba":
            raise ConfigError(f"model.mixer.kind: found {model.mixer.kind}, expected: mamba with task.body s6")
        return body(model, config.dim, config.lengths.max)

    def sampler(self, rows: Tensor, train: TrainConfig, seed: int, full_length: bool) -> RegressionSampler:
        return RegressionSampler(self.config, rows, train, seed, full_length)

    def sequences(self, batch: RegressionBatch) -> Pairs:
        return Pairs.of(batch.w, batch.query, batch.x)

    def held_out(self, rows: Tensor, order: str, repeat: int, steps: int) -> Pairs:
        """The function and the question are a sample's own; its pairs are others in every repeat."""
        d, hashes = self.config.dim, self.dataset.id_hash[rows]
        fixed = gaussian(of_each(hashes, lambda g: uniform(g, 2, d), lambda h: (h + 1) % 2**63))
        x = gaussian(of_each(hashes, lambda g: uniform(g, steps, d), lambda h: seed_of_repeat(h, repeat)))
        return Pairs.of(fixed[:, 0], fixed[:, 1], x).to(self.dataset.images.device)

    def errors(self, prediction: Tensor, sequences: Pairs, steps: Tensor) -> dict[str, Tensor]:
        """half_square: half the squared error, (B, S)."""
        return {"half_square": (prediction - sequences.answer[:, None]).square() / 2}

    def baselines(self, sequences: Pairs, steps: Tensor, ages: None) -> dict[str, Scores]:
        """least_squares: the smallest w that fits all pairs, without error once there are d of them; zero: the answer 0."""
        fitted = [_least_squares(sequences.upto(t)) for t in steps.tolist()]
        answers = {"least_squares": torch.stack(fitted, 1), "zero": torch.zeros(len(sequences), len(steps))}
        return {name: Scores(self.errors(answer.to(sequences.x), sequences, steps)) for name, answer in answers.items()}


def _least_squares(pairs: Pairs) -> Tensor:
    """Answers (B,) of the smallest w that fits the pairs best."""
    x, y = pairs.x.double(), pairs.y.double()
    w = torch.linalg.pinv(x) @ y[..., None]  # (B, d, 1)
    return (w[..., 0] * pairs.query).sum(1)
