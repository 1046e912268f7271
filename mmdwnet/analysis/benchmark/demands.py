"""The ratios that this project demands of itself, and whether a run shows them.

Source of every bound: issue 4 of this project, "Must show", by its item; where the issue gives a direction and no
number, the bound is the benchmark's own and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from .bandwidth import Bandwidth
from .cases import Case
from .nets import NETS
from .op_cases import INHOMOGENEOUS, UNFUSED, UNFUSED_BY_GROUP
from .running import AnyCase, Peak, Result
from .timing import Samples, Spread

SPEEDUP, SHARE_OF_MEMORY, GROWTH, SHARE_OF_BANDWIDTH = (
    'x the speed',
    'x the memory',
    'exponent of growth',
    "x a copy's bandwidth",
)
FLOAT32, BFLOAT16 = 'float32', 'bfloat16-autocast'

# item; task; net; the net that it is compared with (in two layouts or compile modes the faster one counts); at
# least so many times as fast in float32, and in bfloat16 autocast
CPU_SPEEDS = (
    ('1', 'inference', 'dwnet-tiny-deployed', 'as-published-dwnet-tiny', 1.35, 1.6),
    ('1', 'inference', 'dwnet-tiny-deployed', 'mmpretrain-swin-tiny', 1.9, 2.2),
    ('2', 'inference', 'dynamic-dwnet-tiny-deployed', 'as-published-dynamic-dwnet-tiny', 1.25, 1.25),
    ('2', 'inference', 'dynamic-dwnet-tiny-deployed', 'dwnet-tiny-deployed', 0.9, 0.9),
    ('3', 'inference', 'idynamic-dwnet-tiny-deployed', 'as-published-idynamic-dwnet-tiny', 5.0, 5.0),
    ('3', 'inference', 'idynamic-dwnet-tiny-deployed', 'dwnet-tiny-deployed', 0.6, 0.6),
    ('4', 'inference', 'dwnet-tiny-deployed', 'timm-convnext-tiny', 1.2, 1.4),
    ('5', 'training', 'dwnet-tiny', 'as-published-dwnet-tiny', 1.25, 1.5),
    ('5', 'training', 'dwnet-tiny', 'mmpretrain-swin-tiny', 1.0, None),
    ('5', 'training', 'dwnet-tiny', 'timm-swin-tiny', 1.0, None),
    ('5', 'training', 'dwnet-tiny', 'timm-convnext-tiny', 1.0, None),
)
# "mind bf16: it must never be the slower one", of the CPU paragraph
NEVER_SLOWER_IN_BFLOAT16 = ('dwnet-tiny-deployed', 'dynamic-dwnet-tiny-deployed', 'idynamic-dwnet-tiny-deployed')
UNFOLD_MEMORY = ('item 3', 'memory of training', 'idynamic-dwnet-tiny', 'as-published-idynamic-dwnet-tiny', 1 / 5)
# time ~ work ** exponent: 1 is flat per image, linear in pixels. The issue asks for both without a number.
GROWTH_EXPONENT = ("item 6 (the benchmark's own bound)", 1.1)
# net in training (deployed in inference), the net compared with, at least
GPU_SPEEDS = (
    ('dwnet-tiny', 'mmpretrain-swin-tiny', 1.5),
    ('dwnet-tiny', 'timm-swin-tiny', 1.3),
    ('dynamic-dwnet-tiny', 'mmpretrain-swin-tiny', 1.3),
    ('idynamic-dwnet-tiny', 'mmpretrain-swin-tiny', 1.0),
)
GPU_BANDWIDTH, GPU_FUSED = 0.7, 2.0


@dataclass(frozen=True)
class Demand:
    """A ratio, and what it must be.

    Args:
        source: the item of the issue.
        group: name of the group of results that it is judged by.
        text: what is compared with what.
        kind: `SPEEDUP`, `SHARE_OF_MEMORY`, `GROWTH` or `SHARE_OF_BANDWIDTH`.
        cases: what is judged; of several the times are added up (growth: they are the points).
        against: what it is compared with, as alternatives of which the best counts, each like `cases`.
        bound: at least this for `SPEEDUP` and `SHARE_OF_BANDWIDTH`, at most this for the others.
    """

    source: str
    group: str
    text: str
    kind: str
    cases: tuple[AnyCase, ...]
    against: tuple[tuple[AnyCase, ...], ...]
    bound: float

    @property
    def at_most(self) -> bool:
        return self.kind in (SHARE_OF_MEMORY, GROWTH)


@dataclass(frozen=True)
class Verdict:
    """What became of a demand.

    Args:
        demand: the demand.
        value: what was measured, None where a case of it was not.
        noise: the middle half of the rounds, for what has rounds.
    """

    demand: Demand
    value: float | None
    noise: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.demand.bound if self.demand.at_most else self.value >= self.demand.bound


def judge(demand: Demand, results: Iterable[Result], bandwidth: Bandwidth | None = None) -> Verdict:
    """Compare what was measured with what is demanded.

    Args:
        demand: the demand.
        results: those of its group.
        bandwidth: the device's, for demands of bandwidth.
    """
    outcomes = {result.case: result.outcome for result in results}
    judged = _outcomes(demand.cases, outcomes)
    against = [found for cases in demand.against if (found := _outcomes(cases, outcomes))]
    if judged is None or (demand.against and not against):
        return Verdict(demand, None)
    if demand.kind == SHARE_OF_MEMORY:
        return Verdict(demand, judged[0].bytes / min(peaks[0].bytes for peaks in against))
    if demand.kind == GROWTH:
        return Verdict(demand, growth_exponent(zip(demand.cases, judged, strict=True)))
    times = _added(judged)
    if demand.kind == SHARE_OF_BANDWIDTH:
        moved = sum(case.moved_bytes() for case in demand.cases)
        shares = Spread.of(tuple(moved / seconds / bandwidth.copied for seconds in times))
    else:
        best = min((_added(samples) for samples in against), key=lambda seconds: Spread.of(seconds).median)
        shares = Spread.of(tuple(theirs / ours for ours, theirs in zip(times, best, strict=True)))
    return Verdict(demand, shares.median, (shares.quarter, shares.three_quarters))


def growth_exponent(points: Iterable[tuple[Case, Samples]]) -> float:
    """Return p of time ~ work ** p, fitted to the medians by least squares of the logarithms."""
    logs = [(math.log(case.batch * case.size**2), math.log(samples.spread.median)) for case, samples in points]
    x_mean, y_mean = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / sum((x - x_mean) ** 2 for x, _ in logs)


def _outcomes(cases: Sequence[AnyCase], outcomes: dict) -> list | None:
    found = [outcomes.get(case) for case in cases]
    return found if all(isinstance(outcome, (Samples, Peak)) for outcome in found) else None


def _added(samples: Sequence[Samples]) -> tuple[float, ...]:
    """Seconds of all of them together, per round."""
    return tuple(sum(values) for values in zip(*(each.seconds for each in samples), strict=True))


def cpu_demands(groups: Mapping[str, Sequence[AnyCase]]) -> list[Demand]:
    """Return what items 1 to 6 demand of the cases of the suite's groups, given by name."""
    demands = []
    for item, task, net, other, *bounds in CPU_SPEEDS:
        for precision, bound in zip((FLOAT32, BFLOAT16), bounds, strict=True):
            if bound is not None:
                demands.append(_speed(f'item {item}', groups, task, precision, net, other, bound))
    for net in NEVER_SLOWER_IN_BFLOAT16:
        (case,) = _judged(groups['inference'], net, BFLOAT16)
        text = f'{case.label}, inference: {BFLOAT16} / {FLOAT32}'
        against = ((replace(case, precision=FLOAT32),),)
        demands.append(Demand('CPU: bf16 never slower', 'inference', text, SPEEDUP, (case,), against, 1.0))
    item, group, net, other, bound = UNFOLD_MEMORY
    (case,) = _find(groups[group], net, FLOAT32)
    text = f'{case.label} / {NETS[other].label}, training step at batch {case.batch}'
    against = ((replace(case, net=other),),)
    demands.append(Demand(item, group, text, SHARE_OF_MEMORY, (case,), against, bound))
    for growing in ('batch', 'size'):
        demands += _growth(f'scaling with {growing}', groups, growing)
    return demands


def _growth(group: str, groups: Mapping[str, Sequence[AnyCase]], growing: str) -> list[Demand]:
    source, bound = GROWTH_EXPONENT
    demands = []
    for net in dict.fromkeys(case.net for case in groups[group]):
        points = tuple(case for case in groups[group] if case.net == net)
        text = f'{NETS[net].label}: {growing} {getattr(points[0], growing)} to {getattr(points[-1], growing)}'
        demands.append(Demand(source, group, text, GROWTH, points, (), bound))
    return demands


def gpu_demands(groups: Mapping[str, Sequence[AnyCase]]) -> list[Demand]:
    """Return what the issue demands of a GPU, of the cases of the suite's groups, given by name."""
    ops = groups['ops forward']
    # where Triton is missing there are no such rows, and the demand is not met
    unfused = tuple(case for case in ops if (case.op, case.impl) == ('generated', UNFUSED))
    fused = tuple(replace(case, impl='triton') for case in unfused)
    stages = 'forward, one op of each stage'
    bandwidths = [
        Demand(
            'GPU',
            'ops forward',
            f'{op} op, {stages}',
            SHARE_OF_BANDWIDTH,
            tuple(replace(case, op=op) for case in fused),
            (),
            GPU_BANDWIDTH,
        )
        for op in INHOMOGENEOUS
    ]
    return [
        *_gpu_speeds(groups),
        *bandwidths,
        Demand(
            'GPU',
            'ops forward',
            f'fused op / op with its generator, {stages}',
            SPEEDUP,
            fused,
            (unfused, tuple(replace(case, impl=UNFUSED_BY_GROUP) for case in unfused)),
            GPU_FUSED,
        ),
    ]


def _gpu_speeds(groups: Mapping[str, Sequence[AnyCase]]) -> list[Demand]:
    """Our nets as CUDA graphs against the faster form of the others; and eager nets against eager ones."""
    demands = []
    for task, eager, (net, other, bound) in product(('inference', 'training'), (False, True), GPU_SPEEDS):
        name = f'{net}-deployed' if task == 'inference' else net
        cases = [case for case in groups[task] if not eager or case.compile == 'none']
        forms = (', eager', ', eager') if eager else (', as a CUDA graph', ', faster of both')
        demands.append(_speed('GPU', {task: cases}, task, BFLOAT16, name, other, bound, forms))
    return demands


def _speed(
    source: str,
    groups: Mapping[str, Sequence[AnyCase]],
    task: str,
    precision: str,
    net: str,
    other: str,
    bound: float,
    forms: tuple[str, str] | None = None,
) -> Demand:
    """The demand of a net's speed; `forms` say behind each net's label which of its cases are meant.

    By default as the cases' own labels do.
    """
    judged = _judged(groups[task], net, precision)
    against = tuple((case,) for case in _find(groups[task], other, precision))
    ours, theirs = forms or (_form(judged), _form([case for (case,) in against]))
    text = f'{NETS[net].label}{ours} / {NETS[other].label}{theirs}, {task}, {precision}'
    return Demand(source, task, text, SPEEDUP, judged, against, bound)


def _form(cases: Sequence[Case]) -> str:
    """What the labels of a net's cases have behind the net's own label."""
    forms = {case.label.removeprefix(NETS[case.net].label) for case in cases}
    return forms.pop() if len(forms) == 1 else ', faster of both'


def _judged(cases: Sequence[AnyCase], net: str, precision: str) -> tuple[Case, ...]:
    """The net's cases, compiled if there are such: a deployed net is judged as one runs it."""
    found = _find(cases, net, precision)
    return tuple(case for case in found if case.compile != 'none') or tuple(found)


def _find(cases: Sequence[AnyCase], net: str, precision: str) -> list[Case]:
    return [case for case in cases if (case.net, case.precision) == (net, precision)]
