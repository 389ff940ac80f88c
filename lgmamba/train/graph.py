"""A function of tensors that is recorded once as a CUDA graph and then replayed, which leaves the host nothing to do."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

WARM_UP = 3
"""Calls that run one kernel at a time before the graph is recorded: they compile kernels and settle the allocator."""


class Replayed:
    """Calls `function`, from the fourth time on by replaying a graph of it. The results are those of the function.

    Args:
        function: of tensors that keep their shapes, to tensors that are overwritten by the next call. It may change what
            it holds (weights, moments), not the tensors it is given.
        before_recording: called once, before the graph is recorded.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], before_recording: Callable[[], None]):
        self.function, self.before_recording = function, before_recording
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._warm_up(given)
        if self._graph is None:
            self._record(given)
        for mine, new in zip(self._given, given, strict=True):
            mine.copy_(new)
        assert self._graph is not None  # recorded above
        self._graph.replay()
        return self._results

    def _warm_up(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # On a stream of its own, as recording asks for: work of the default stream may not enter a graph.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            results = self.function(*given)
        torch.cuda.current_stream().wait_stream(stream)
        return results

    def _record(self, given: Sequence[Tensor]) -> None:
        self._given = [v.clone() for v in given]
        self.before_recording()
        self._graph = torch.cuda.CUDAGraph()
        with _nothing_collected(), torch.cuda.graph(self._graph):
            self._results = self.function(*self._given)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No object is collected in here, and what waited for it has been before.

    An earlier training's graph, in a cycle with its step, may be garbage by now. CUDA refuses to free a graph while another is being
    recorded, and spoils the recording.
    """
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
