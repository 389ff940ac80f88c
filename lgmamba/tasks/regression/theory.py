"""What one trained S6 layer does beyond its training length, in closed form. Plain numbers, no torch.

With A = -1 and step size dt the state holds h = sum over l of dt a^(N - l) y_l B(x_l) after N pairs, a = exp(-dt), and once more a of it
when the question has been read. Trained, C(x) . B(x_l) is beta x . x_l: online gradient descent on w with fixed step size. The answer is
beta sum_l v_l y_l (x_l . x), whose weights v_l have the sum s1 and the sum of squares s2, so that over Gaussian w, x_l and x

    loss = E (answer - w . x)^2 / 2 = d / 2 [ (1 - beta s1)^2 + beta^2 (d + 1) s2 ]

beta is the best at the training length N0, where dt = ln 2 / N0 for the models here: the sum s1 goes on to grow, to twice of what it was
trained for, and the answer with it. That is all that goes wrong beyond the training length. Slowing down by N0 / N keeps s1 and lets
s2 fall; the mean over K windows of N0 pairs each keeps s1 too, and divides s2 by K.

Reference: arXiv:2509.23779 for the layer and its training; the form beyond N0 is this project's own.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """Sum and sum of squares of what the pairs weigh in an answer, without beta."""

    s1: float
    s2: float

    @classmethod
    def after(cls, N: int, dt: float, slow: float = 1.0, question: float = 1.0, hold: bool = False) -> "Weights":
        """After N pairs read with the step size slow x dt, and a question read with question x dt.

        Args:
            hold: whether a pair writes 1 - a, as with a zero-order hold, in place of dt; the same but for terms of the order dt.
        """
        a = math.exp(-slow * dt)
        write = (1 - a if hold else slow * dt) * math.exp(-question * dt)
        return cls(write * (1 - a**N) / (1 - a), write**2 * (1 - a ** (2 * N)) / (1 - a**2))

    def mean_of(self, K: float) -> "Weights":
        """Of the mean answer of K windows that share no pair."""
        return Weights(self.s1, self.s2 / K)


@dataclass(frozen=True)
class Theory:
    """One S6 layer trained at one length.

    Attributes:
        d: entries of x.
        N0: pairs of every training sequence.
        hold: see `Weights.after`; the models here have none.
    """

    d: int
    N0: int
    hold: bool = False

    @property
    def dt(self) -> float:
        """Step size: half of a write is left after N0 steps."""
        return math.log(2) / self.N0

    @property
    def beta(self) -> float:
        """The best scale at N0."""
        at_N0 = self._after(self.N0)
        return at_N0.s1 / (at_N0.s1**2 + (self.d + 1) * at_N0.s2)

    def _after(self, N: int, slow: float = 1.0, question: float = 1.0) -> Weights:
        return Weights.after(N, self.dt, slow, question, self.hold)

    def loss_of(self, weights: Weights) -> float:
        """Half the mean squared error of answers with these weights."""
        return self.d / 2 * ((1 - self.beta * weights.s1) ** 2 + self.beta**2 * (self.d + 1) * weights.s2)

    def loss(self, N: int) -> float:
        """After N pairs, as trained."""
        return self.loss_of(self._after(N))

    def slowed(self, N: int, question: bool = False) -> float:
        """With the step sizes of all pairs times N0 / N beyond N0, and that of the question too or as it is."""
        slow = min(1.0, self.N0 / N)
        return self.loss_of(self._after(N, slow, slow if question else 1.0))

    def windows(self, N: int) -> float:
        """Of the mean answer of N / N0 windows, N a multiple of N0."""
        return self.loss_of(self._after(min(N, self.N0)).mean_of(max(1.0, N / self.N0)))

    def frozen(self, N: int) -> float:
        """With nothing written, and nothing forgotten, after N0."""
        return self.loss(min(N, self.N0))
