"""The tables of scaling: what was measured, and what is predicted, which every table of it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .measuring import Check, Measured, bytes_of
from .model import Cluster, Prediction, Training
from .worker import ALONE, DEFAULT, Plan

PREDICTION = 'PREDICTION, not measured'


@dataclass(frozen=True)
class Sheet:
    """A table: its title, its columns, its rows, and lines below it."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    below: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [list(self.columns), ['---', *['--:' for _ in self.columns[1:]]], *self.rows]
        table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
        return '\n\n'.join([f'**{self.title}**', table, *self.below]) + '\n'


def prediction_sheet(training: Training, cluster: Cluster, predictions: Sequence[Prediction]) -> Sheet:
    """The table of a prediction."""
    columns = ('GPUs', 'nodes', 'step (ms)', 'compute', 'gradients', 'SyncBN', 'sharding', 'loading')
    rows = [
        [str(p.gpus), str(p.nodes)]
        + [_ms(part) for part in (p.step, p.compute, p.gradients, p.sync_bn, p.sharding, p.waiting)]
        + [f'{p.images_per_second:.0f}', f'{p.efficiency:.1%}']
        for p in predictions
    ]
    return Sheet(PREDICTION, (*columns, 'images/s', 'efficiency'), rows, assumptions(training, cluster))


def assumptions(training: Training, cluster: Cluster) -> tuple[str, ...]:
    """What a prediction is made from, in lines."""
    t, within, between = training, cluster.within, cluster.between
    shown = (
        f'{t.step_seconds * 1e3:g} ms for {t.batch_size} images on one GPU, {t.parameters / 1e6:.1f} M parameters'
    )
    shown += f', {len(t.sync_bn)} SyncBN layers' + f', {t.accumulation} batches accumulated' * (t.accumulation > 1)
    shown += ', sharded optimizer' * t.sharded
    loading = f'; {t.loading_rate:g} images/s loaded for a GPU' if t.loading_rate else ''
    return (
        f'Given: {shown}{loading}.',
        f'Given: {cluster.gpus_per_node} GPUs a node; {within.bandwidth / 1e9:g} GB/s and '
        f'{within.latency * 1e6:g} us a hop within a node, {between.bandwidth / 1e9:g} GB/s and '
        f'{between.latency * 1e6:g} us between nodes.',
        f'Assumed: backward is {t.backward_share:.0%} of a step; {t.overlap:.0%} of what it can hide is hidden; '
        f'buckets of {t.bucket_bytes / 2**20:g} MiB; nobody waits for a slower process.',
    )


def as_json(training: Training, cluster: Cluster, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """A prediction as plain data."""
    shares = [dict(asdict(p), step=p.step, efficiency=p.efficiency) for p in predictions]
    return dict(kind=PREDICTION, training=asdict(training), cluster=asdict(cluster), predictions=shares)


def link_sheet(measured: Sequence[Measured]) -> Sheet:
    """The all-reduces by size."""
    several = [m for m in measured if m.all_reduce]
    rows = [[_size(size), *(_ms(m.all_reduce[size]) for m in several)] for size in several[0].all_reduce]
    fits = [
        f'{m.ranks} processes: {m.link.latency * 1e6:.0f} us a hop, {m.link.bandwidth / 1e9:.2f} GB/s'
        for m in several
    ]
    return Sheet(
        'all-reduce (ms)', ('bytes', *(f'{m.ranks} processes' for m in several)), rows, ('; '.join(fits) + '.',)
    )


def steps_sheet(plan: Plan, measured: Sequence[Measured]) -> Sheet:
    """Training steps of one batch, by net and setting."""
    rows = []
    for net in plan.nets:
        for setting in net.settings:
            name = f'DWNet-{net.arch}, {net.batch_size} x {net.size}^2: {setting}'
            rows.append([name, *(_ms(m.steps[net.arch][setting]) for m in measured)])
    below = []
    for net in plan.nets:
        parts = [
            f'{m.steps[net.arch][DEFAULT] / m.steps[net.arch][ALONE] - 1:.0%} on {m.ranks}'
            for m in measured
            if m.ranks > 1
        ]
        below.append(
            f'DWNet-{net.arch} sends {bytes_of(measured[0], net.arch) / 1e6:.1f} MB of gradients a step, which '
            f'makes it longer by {", ".join(parts)} processes.'
        )
    columns = ('step of one batch (ms)', *(f'{m.ranks} process{"es" * (m.ranks > 1)}' for m in measured))
    return Sheet('training steps', columns, rows, tuple(below))


def check_sheet(checks: Sequence[Check]) -> Sheet:
    """The model's prediction beside what was measured."""
    rows = [
        [f'DWNet-{c.net}', _ms(c.predicted), _ms(c.measured), f'{c.error:+.0%}', f'{c.overlap:.0%}']
        for c in checks
    ]
    ranks = checks[0].ranks
    columns = (f'step on {ranks} processes (ms)', 'predicted from 1 and 2', 'measured', 'error', 'hidden on 2')
    return Sheet('the model against the measurement', columns, rows)


def loading_sheet(rate: float) -> Sheet:
    """What one core loads, and the worker processes that GPUs of several speeds need."""
    rows = [[str(speed), f'{speed / rate:.1f}'] for speed in (500, 1000, 2000, 4000)]
    title = f'a core loads and augments {rate:.0f} images/s for ImageNet training'
    return Sheet(title, ('images/s that a GPU trains on', 'cores that load for it'), rows)


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f'{milliseconds:.3g}' if 0 < milliseconds < 100 else f'{milliseconds:.0f}'


def _size(count: int) -> str:
    for unit in ('B', 'KiB'):
        if count < 1024:
            return f'{count} {unit}'
        count //= 1024
    return f'{count} MiB'
