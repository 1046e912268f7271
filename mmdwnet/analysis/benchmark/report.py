"""Results as sheets of text, for a terminal and for Markdown, and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from ..tables import aligned
from .bandwidth import Bandwidth
from .demands import Verdict
from .machine import headline
from .nets import NETS
from .op_cases import OPS as OP_NAMES
from .op_cases import OpCase
from .running import MEMORY, OPS, SCALING, AnyCase, Group, Peak, Result, Skipped, baseline_of
from .timing import Failure, Plan, Samples, Spread, speedup

STYLES = {'pass': 'green', 'FAIL': 'bold red'}
Measured = Sequence[tuple[Group, Sequence[Result]]]


@dataclass(frozen=True)
class Sheet:
    """A table of text: title, headings, sections of rows, and lines below. The first `left` columns hold words."""

    title: str
    headings: Sequence[str]
    sections: Sequence[Sequence[Sequence[str]]]
    below: Sequence[str] = ()
    left: int = 2

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify='left')
        for column, heading in enumerate(self.headings):
            table.add_column(heading, justify='left' if column < self.left else 'right', no_wrap=column == 0)
        for section in self.sections:
            for row in section:
                table.add_row(*(Text(cell, STYLES.get(cell, '')) for cell in row))
            table.add_section()
        return table

    def markdown(self) -> str:
        rows = [self.headings, *(row for section in self.sections for row in section)]
        return f'### {self.title}\n\n{aligned(rows)}' + ''.join(f'\n{line}\n' for line in self.below)


def ratio_of(result: Result, base: Result | None) -> Spread | None:
    """Return how many times faster than its baseline a result is; of memory, the part of the baseline's."""
    if base is None or not isinstance(result.outcome, (Samples, Peak)):
        return None
    if isinstance(result.outcome, Peak):
        return Spread.of((result.outcome.bytes / max(base.outcome.bytes, 1),))
    return speedup(result.outcome, base.outcome)


def sheet_of(group: Group, results: Sequence[Result], bandwidth: Bandwidth | None = None) -> Sheet:
    """Return the sheet of a group.

    Within a precision (and op) the fastest or smallest comes first; what was not measured has a line below.

    Args:
        group: the group.
        results: its results.
        bandwidth: the device's, for ops.
    """
    if group.kind == SCALING:
        return _scaling_sheet(group, results)
    first = 'op' if group.kind == OPS else 'net'
    sections: dict[tuple, list[list[str]]] = {}
    for result in sorted((each for each in results if isinstance(each.outcome, (Samples, Peak))), key=_order):
        case = result.case
        ratio = ratio_of(result, baseline_of(result, results, group.baseline))
        cells = [case.label, case.precision, *_cells(group.kind, result, bandwidth)]
        cells.append('-' if ratio is None else f'{ratio.median:.2f}')
        sections.setdefault((case.precision, getattr(case, 'op', None)), []).append(cells)
    baseline = 'its published form' if group.kind == OPS else NETS[group.baseline].label
    return Sheet(
        f'{group.name}: {_conditions(results[0].case)}; baseline: {baseline}',
        [first, 'precision', *_headings(group.kind, results[0].case, bandwidth)],
        list(sections.values()),
        not_measured(results),
    )


def not_measured(results: Sequence[Result]) -> list[str]:
    """Return a line for each reason why something was skipped or failed, with all that it befell."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if isinstance(result.outcome, Skipped):
            reason, what = result.outcome.reason, result.case.label
        elif isinstance(result.outcome, Failure):
            reason, what = f'failed: {result.outcome.reason}', f'{result.case.label} in {result.case.precision}'
        else:
            continue
        labels = reasons.setdefault(reason, [])
        labels += [what] * (what not in labels)
    return [f'{", ".join(labels)}: {reason}' for reason, labels in reasons.items()]


def verdict_sheet(verdicts: Sequence[Verdict]) -> Sheet:
    """Return the demanded ratios with their bounds, and whether they were shown."""
    rows = []
    for verdict in verdicts:
        demand = verdict.demand
        rows.append(
            [
                demand.source,
                demand.text,
                'not measured' if verdict.value is None else f'{verdict.value:.3g} {demand.kind}',
                '' if verdict.noise is None else f'{verdict.noise[0]:.3g} to {verdict.noise[1]:.3g}',
                f'{"at most" if demand.at_most else "at least"} {demand.bound:g}',
                'pass' if verdict.met else 'FAIL',
            ]
        )
    headings = ['source', 'what', 'measured', 'middle half', 'demanded', 'met']
    return Sheet('demanded ratios (issue 4, "Must show")', headings, [rows])


def _conditions(case: AnyCase) -> str:
    image = '' if isinstance(case, OpCase) else f', {case.size} x {case.size}'
    step = ', with the optimizer step' if getattr(case, 'optimizer', False) else ''
    how = ', as CUDA graphs' if isinstance(case, OpCase) and case.device == 'cuda' else ''
    return f'batch {case.batch}{image}, {case.device}{how}{step}'


def _headings(kind: str, case: AnyCase, bandwidth: Bandwidth | None) -> list[str]:
    if kind == MEMORY:
        return ['MiB', 'MiB per image', 'of baseline']
    if kind != OPS:
        return ['images/s', 'ms', 'noise %', 'x baseline']
    shares = []
    if case.task == 'forward' and bandwidth:
        shares = ['GB/s', '% of a copy'] + ['% of specification'] * (bandwidth.peak is not None)
    return ['ms', *shares, 'noise %', 'x baseline']


def _cells(kind: str, result: Result, bandwidth: Bandwidth | None) -> list[str]:
    outcome, case = result.outcome, result.case
    if kind == MEMORY:
        return [f'{outcome.bytes / 2**20:.0f}', f'{outcome.bytes / 2**20 / case.items:.1f}']
    seconds, noise = outcome.spread.median, f'{100 * outcome.spread.noise:.1f}'
    if kind != OPS:
        return [_digits(case.items / seconds), _digits(1e3 * seconds), noise]
    shares = []
    if case.task == 'forward' and bandwidth:
        moved = case.moved_bytes() / seconds
        known = [rate for rate in (bandwidth.copied, bandwidth.peak) if rate is not None]
        shares = [_digits(moved / 1e9), *(f'{100 * moved / rate:.0f}' for rate in known)]
    return [_digits(1e3 * seconds), *shares, noise]


def _digits(value: float) -> str:
    """Three digits, at least, and no exponent."""
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _order(result: Result) -> tuple:
    case, outcome = result.case, result.outcome
    shape = (OP_NAMES.index(case.op), -case.side) if isinstance(case, OpCase) else ()
    size = outcome.bytes if isinstance(outcome, Peak) else outcome.spread.median / case.items
    return (case.precision != 'float32', case.precision, *shape, size)


def _scaling_sheet(group: Group, results: Sequence[Result]) -> Sheet:
    by_batch = group.name.endswith('batch')
    unit = 'ms per image' if by_batch else 'ns per pixel'
    sections: dict[tuple, list[list[str]]] = {}
    first: dict[tuple, float] = {}
    for result in results:
        case, outcome = result.case, result.outcome
        if not isinstance(outcome, Samples):
            continue
        key, seconds = (case.net, case.precision), outcome.spread.median
        cost = 1e3 * seconds / case.batch if by_batch else 1e9 * seconds / case.batch / case.size**2
        growth = cost / first.setdefault(key, cost)
        numbers = [_digits(1e3 * seconds), _digits(cost), f'{growth:.2f}', f'{100 * outcome.spread.noise:.1f}']
        row = [case.label, case.precision, str(case.batch), str(case.size), *numbers]
        sections.setdefault(key, []).append(row)
    headings = ['net', 'precision', 'batch', 'side', 'ms', unit, 'x first', 'noise %']
    title = f'{group.name}: inference, {results[0].case.device}'
    return Sheet(title, headings, list(sections.values()), not_measured(results))


def as_markdown(machine: dict, sheets: Sequence[Sheet]) -> str:
    """Return all sheets as one page that says where they were measured."""
    versions = ', '.join(f'{name} {version}' for name, version in machine['versions'].items())
    return f'Measured on: {headline(machine)}\n\nVersions: {versions}\n\n' + '\n'.join(
        sheet.markdown() for sheet in sheets
    )


def as_json(
    machine: dict, plan: Plan, measured: Measured, verdicts: Sequence[Verdict], bandwidth: Bandwidth | None
) -> dict:
    """Return everything as plain data. Times are in seconds per call, ratios as `ratio_of` explains them."""
    return dict(
        machine=machine,
        plan=asdict(plan),
        bandwidth=None if bandwidth is None else asdict(bandwidth),
        groups=[
            dict(
                name=group.name,
                kind=group.kind,
                baseline=group.baseline,
                results=[_result_json(group, result, results) for result in results],
            )
            for group, results in measured
        ],
        demands=[
            dict(
                source=verdict.demand.source,
                what=verdict.demand.text,
                kind=verdict.demand.kind,
                bound=verdict.demand.bound,
                at_most=verdict.demand.at_most,
                measured=verdict.value,
                middle_half=verdict.noise,
                met=verdict.met,
            )
            for verdict in verdicts
        ],
    )


def _result_json(group: Group, result: Result, results: Sequence[Result]) -> dict:
    case, outcome = result.case, result.outcome
    data = dict(label=case.label, family=case.family, **case.as_json())
    if isinstance(outcome, (Skipped, Failure)):
        status = 'skipped' if isinstance(outcome, Skipped) else 'failed'
        return dict(data, status=status, reason=outcome.reason)
    base = baseline_of(result, results, group.baseline) if group.kind != SCALING else None
    ratio = ratio_of(result, base)
    data.update(status='measured', ratio=ratio and asdict(ratio), ratio_to=base and base.case.label)
    if isinstance(outcome, Peak):
        return dict(data, peak_bytes=outcome.bytes)
    data.update(seconds=outcome.seconds, calls=outcome.calls, spread=asdict(outcome.spread))
    if isinstance(case, OpCase) and case.task == 'forward':
        data.update(moved_bytes=case.moved_bytes())
    return dict(data, noise=outcome.spread.noise, images_per_second=case.items / outcome.spread.median)
