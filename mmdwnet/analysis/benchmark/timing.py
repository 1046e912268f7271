"""Timing of several things in turn: A B C A B C ..., so that the drift of a machine meets them all alike.

A sample is the mean time of a call over a burst of calls; every round takes one sample of each thing. A ratio of
two things is the median over the rounds of the ratio within a round, which is steadier than that of their medians.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeVar

Key = TypeVar('Key', bound=Hashable)
Run = Callable[[], object]
MAX_RUNS = 1000  # in a burst


@dataclass(frozen=True)
class Bundle:
    """A run that makes several calls at once, as the replay of a CUDA graph does.

    Args:
        run: what makes the calls.
        calls: how many it makes.
    """

    run: Run
    calls: int


@dataclass(frozen=True)
class Spread:
    """A median of several values and how they scatter: the ends of the middle half, the lowest and the highest."""

    median: float
    quarter: float
    three_quarters: float
    low: float
    high: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Spread:
        quarters = quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3
        return cls(median(values), quarters[0], quarters[2], min(values), max(values))

    @property
    def noise(self) -> float:
        """The middle half's width as a part of the median."""
        return (self.three_quarters - self.quarter) / self.median


@dataclass(frozen=True)
class Samples:
    """Seconds of a call, one value per round, each the mean of `calls` calls."""

    seconds: tuple[float, ...]
    calls: int

    @property
    def spread(self) -> Spread:
        return Spread.of(self.seconds)


@dataclass(frozen=True)
class Failure:
    """Why something was not measured: one line."""

    reason: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        first = next(iter(str(error).strip().splitlines()), '')
        return cls(f'{type(error).__name__}: {first[:200]}'.rstrip(': '))


def speedup(fast: Samples, slow: Samples) -> Spread:
    """How many times faster one is than the other, paired by rounds.

    Raises:
        ValueError: they have different numbers of rounds, so were not measured together.
    """
    return Spread.of(tuple(b / a for a, b in zip(fast.seconds, slow.seconds, strict=True)))


class Stopwatch:
    """Measures bursts of runs.

    Args:
        synchronize: waits until the device is idle, as a GPU's calls return before their work is done.
        clock: seconds, rising.
    """

    def __init__(
        self, synchronize: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.perf_counter
    ):
        self._synchronize, self._clock = synchronize, clock

    def time(self, run: Run, runs: int) -> float:
        """Return the seconds of a run, as the mean of that many."""
        self._synchronize()
        start = self._clock()
        for _ in range(runs):
            run()
        self._synchronize()
        return (self._clock() - start) / runs


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Args:
        rounds: samples of each thing.
        burst: seconds that a sample lasts at least; a run that is longer makes a sample by itself.
        warm_up: runs before the first round, on top of two; a run that is longer than a burst does without.
    """

    rounds: int = 7
    burst: float = 0.25
    warm_up: int = 2


def measure(
    runs: Mapping[Key, Callable[[], Run | Bundle]],
    plan: Plan,
    stopwatch: Stopwatch,
    advance: Callable[[Key], object] = lambda key: None,
) -> dict[Key, Samples | Failure]:
    """Warm everything up, then sample everything once a round.

    Args:
        runs: for each thing what makes its run, called once; a failure of one is its result and leaves the others
            be. A run is one call, a bundle as many as it says.
        plan: how long.
        stopwatch: what measures.
        advance: called with a thing after its warm-up and after each of its samples.
    """
    results: dict[Key, Samples | Failure] = {}
    ready: dict[Key, tuple[Bundle, int]] = {}
    samples: dict[Key, list[float]] = {}
    for key, make in runs.items():
        try:
            made = make()
            bundle = made if isinstance(made, Bundle) else Bundle(made, 1)
            bundle.run()
            seconds = stopwatch.time(bundle.run, 1)
            if seconds < plan.burst:
                seconds = stopwatch.time(bundle.run, plan.warm_up)
        except Exception as error:  # whatever a peer raises ends that peer's measurement alone
            results[key] = Failure.of(error)
        else:
            ready[key] = bundle, min(max(math.ceil(plan.burst / max(seconds, 1e-9)), 1), MAX_RUNS)
            samples[key] = []
        advance(key)
    for _ in range(plan.rounds):
        for key, (bundle, number) in ready.items():
            if key in results:
                continue
            try:
                samples[key].append(stopwatch.time(bundle.run, number) / bundle.calls)
            except Exception as error:
                results[key] = Failure.of(error)
            advance(key)
    for key, (bundle, number) in ready.items():
        results.setdefault(key, Samples(tuple(samples[key]), number * bundle.calls))
    return {key: results[key] for key in runs}
