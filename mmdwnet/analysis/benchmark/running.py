"""From groups of cases to their results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from .cases import Case, Workshop
from .memory import peak_bytes
from .op_cases import AS_PUBLISHED, OpCase, OpWorkshop, shape_of
from .timing import Failure, Plan, Samples, Stopwatch, measure

AnyCase = Case | OpCase
SPEED, LATENCY, MEMORY, OPS, SCALING = 'speed', 'latency', 'memory', 'ops', 'scaling'


@dataclass(frozen=True)
class Group:
    """Cases that are measured in turn, of ops those of one shape, and shown as one table.

    Args:
        name: what it measures, unique within a run.
        kind: `SPEED`, `LATENCY`, `MEMORY`, `OPS` or `SCALING`.
        cases: the cases.
        baseline: the net that the table's ratios are taken against.
    """

    name: str
    kind: str
    cases: tuple[AnyCase, ...]
    baseline: str = 'as-published-dwnet-tiny'


@dataclass(frozen=True)
class Peak:
    """Peak memory of a call."""

    bytes: int


@dataclass(frozen=True)
class Skipped:
    """Why something was not to be measured here: one line."""

    reason: str


@dataclass(frozen=True)
class Result:
    """A case and what came of it."""

    case: AnyCase
    outcome: Samples | Peak | Failure | Skipped

    @property
    def failed(self) -> bool:
        """Whether it should have been measured and was not."""
        return isinstance(self.outcome, Failure) and not self.case.optional


def steps_of(group: Group, plan: Plan) -> int:
    """Return how often `run_group` calls `advance` for a group, if nothing is skipped and nothing fails."""
    return len(group.cases) * (1 if group.kind == MEMORY else 1 + plan.rounds)


def run_group(
    group: Group,
    plan: Plan,
    stopwatch: Stopwatch,
    threads: int,
    advance: Callable[[AnyCase], object] = lambda case: None,
) -> list[Result]:
    """Measure a group; every case has a result, in order.

    Args:
        group: what to measure.
        plan: how long.
        stopwatch: what measures time.
        threads: threads of the processes that measure a CPU's memory.
        advance: called with a case after each of its steps.
    """
    skipped = {case: Skipped(reason) for case in group.cases if (reason := case.skipped())}
    cases = [case for case in group.cases if case not in skipped]
    if group.kind == MEMORY:
        outcomes = {case: _peak(case, threads, advance) for case in cases}
    else:
        outcomes = {}
        with _settings():
            for together in _measured_together(cases):
                workshop = OpWorkshop() if group.kind == OPS else Workshop()
                runs = {case: partial(workshop.prepare, case) for case in together}
                outcomes.update(measure(runs, plan, stopwatch, advance))
    return [Result(case, {**outcomes, **skipped}[case]) for case in group.cases]


def _measured_together(cases: Sequence[AnyCase]) -> list[list[AnyCase]]:
    """All nets at once; ops a shape at a time, so that memory holds the inputs and graphs of one shape alone."""
    parts: dict[OpCase | None, list[AnyCase]] = {}
    for case in cases:
        parts.setdefault(shape_of(case) if isinstance(case, OpCase) else None, []).append(case)
    return list(parts.values())


def _peak(case: Case, threads: int, advance: Callable[[AnyCase], object]) -> Peak | Failure:
    try:
        return Peak(peak_bytes(case, threads))
    except Exception as error:  # whatever a peer raises ends that peer's measurement alone
        return Failure.of(error)
    finally:
        advance(case)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """cuDNN chooses its algorithms by trying them; no compiled net falls back to eager mode without a word."""
    # nets of one class share torch.compile's table of graphs, which holds 8 by default
    if hasattr(torch._dynamo.config, 'recompile_limit'):
        limits = torch._dynamo.config.patch(recompile_limit=256, fail_on_recompile_limit_hit=True)
    else:  # torch 2.1: a limit that is not reached
        limits = torch._dynamo.config.patch(cache_size_limit=2**16)
    cudnn, tf32 = torch.backends.cudnn, torch.backends.cudnn.allow_tf32
    with limits, cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32):
        yield


def baseline_of(result: Result, results: Sequence[Result], baseline: str) -> Result | None:
    """Return the measured result that a result is compared with: the baseline net, or an op's published form.

    The baseline runs in the same precision and at the same size, in contiguous memory and not compiled where there
    is such a row, else in the result's own layout and compile mode.
    """
    case = result.case
    name = dict(impl=AS_PUBLISHED) if isinstance(case, OpCase) else dict(net=baseline)
    same = replace(case, **name)
    measured = {other.case: other for other in results if isinstance(other.outcome, (Samples, Peak))}
    return measured.get(replace(same, layout='contiguous', compile='none')) or measured.get(same)
