"""Calls as one CUDA graph, which one launch replays: how slowly a host launches kernels makes no difference."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .timing import Bundle, Run

WARM_UP = 3  # calls before the capture: libraries choose their algorithms, Triton compiles


def captured(calls: Sequence[Run]) -> Bundle:
    """Return the calls as one run, the replay of a CUDA graph that makes them one after the other.

    What they return is dropped, so that it takes memory once. What they read is kept, for every replay reads it.

    Args:
        calls: with inputs of one shape and layout, for the first one warms up for all.

    Raises:
        RuntimeError: a call failed, or does what cannot be captured, such as waiting for the GPU.
    """
    stream, graph = _side_stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())  # which makes the inputs
    # after a capture that failed, `torch.cuda.graph` leaves its stream the current one: this context does not
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            calls[0]()
        try:
            with torch.cuda.graph(graph, stream=stream):  # waits for the GPU first, and frees what is cached
                for call in calls:
                    call()
        except Exception:
            _recover(stream)
            raise
    return Bundle(_Replay(graph, tuple(calls)), len(calls))


def _recover(stream: torch.cuda.Stream) -> None:
    """Capture something: after a capture that failed, torch draws no random numbers until one has worked."""
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
        torch.zeros(1, device=stream.device)


@dataclass(frozen=True)
class _Replay:
    """A graph, and the calls that hold the tensors it reads."""

    graph: torch.cuda.CUDAGraph
    calls: tuple[Run, ...]

    def __call__(self) -> None:
        self.graph.replay()


@functools.cache
def _side_stream() -> torch.cuda.Stream:
    """One for all captures: cuBLAS keeps a workspace for every stream."""
    return torch.cuda.Stream()
