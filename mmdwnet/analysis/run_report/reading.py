"""What the scalars of a run say: its losses, metrics and pace, and which metric counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .charts import Chart, Curve, line_chart
from .collecting import PACE, Run, Scalars

# the metric that a task is about, the first of these that is there
MAIN = ('accuracy/top1', 'coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'mIoU')
RATES = ('lr', 'base_lr')
SIZES = ('_s', '_m', '_l')  # of objects, behind COCO's metrics
LOWER_IS_BETTER = ('loss', 'error', 'mae', 'mse')
MOST_CURVES = 6  # of a chart


@dataclass(frozen=True)
class Best:
    """The best value of a metric, and the epoch or iteration of its validation."""

    value: float
    step: int


@dataclass(frozen=True)
class Pace:
    """How fast a training ran on average, its first logged steps left out.

    Args:
        step: seconds.
        waiting: seconds of them that the step waited for data.
        images: a second, on all processes; None where the batch is not known.
        memory: of a GPU at most, in MiB; None without one.
    """

    step: float
    waiting: float
    images: float | None
    memory: float | None


def metric_names(run: Run) -> list[str]:
    """All metrics that were logged, the main one first."""
    lines = [*run.evaluations, run.test_metrics]
    names = list(dict.fromkeys(name for line in lines for name in line if name not in PACE))
    main = main_metric(names)
    return sorted(names, key=lambda name: name != main)


def main_metric(names: Sequence[str]) -> str | None:
    """The metric that counts, of those there are."""
    known = [name for name in MAIN if name in names] or [name for name in names if 'top1' in name or 'mAP' in name]
    return (known or list(names) or [None])[0]


def best(run: Run, name: str) -> Best | None:
    """The best value that a metric had in validation."""
    found = [(line[name], int(line['step'])) for line in run.evaluations if np.isfinite(line.get(name, np.nan))]
    if not found:
        return None
    choose = min if any(word in name.lower() for word in LOWER_IS_BETTER) else max
    return Best(*choose(found, key=lambda pair: pair[0]))


def shown(name: str, value: float | None) -> str:
    """A metric's value in words; COCO says -1 where there is nothing to measure."""
    if value is None or not np.isfinite(value) or (value == -1 and 'coco' in name):
        return '–'
    return f'{value:.3f}' if name.startswith(('coco/', 'pascal_voc/')) else f'{value:.2f}'


def pace(run: Run) -> Pace | None:
    """How fast the training ran; None where no step was logged."""
    lines = [line for session in run.sessions for line in session.steps[1:]] or run.steps
    times = [line['time'] for line in lines if 'time' in line]
    if not times:
        return None
    step = float(np.mean(times))
    waiting = float(np.mean([line.get('data_time', 0) for line in lines if 'time' in line]))
    memory = max((line['memory'] for line in run.steps if 'memory' in line), default=None)
    return Pace(step, waiting, run.images_per_step / step if run.images_per_step and step else None, memory)


def training_charts(run: Run) -> list[Chart]:
    """Losses, learning rate, metrics, and what else was logged of a step."""
    names = list(dict.fromkeys(name for line in run.steps for name in line))
    parts = [name for name in names if 'loss' in name and name != 'loss']
    rest = [name for name in names if 'loss' not in name and name not in (*PACE, *RATES)]
    charts = [
        chart_of_steps(run, 'Loss', ['loss'], log=True),
        chart_of_metrics(run),
        chart_of_steps(run, 'Parts of the loss', parts, log=True) if parts != ['loss'] else None,
        chart_of_steps(run, 'Learning rate', [name for name in ('lr', 'base_lr') if name in names][:1]),
        *(chart_of_steps(run, name, [name]) for name in rest[:4]),
    ]
    return [chart for chart in charts if chart is not None]


def chart_of_steps(run: Run, title: str, names: Sequence[str], log: bool = False) -> Chart | None:
    """Curves of what is logged of training steps."""
    if len(names) > MOST_CURVES:  # those that are the largest in the end
        names = sorted(names, key=lambda name: -np.mean([line.get(name, 0) for line in run.steps[-20:]]))[
            :MOST_CURVES
        ]
    return line_chart(title, [step_curve(run, name, name) for name in names], run.unit, log, breaks(run))


def chart_of_metrics(run: Run) -> Chart | None:
    """The metrics of every validation, without those of one size or class of objects."""
    names = [name for name in metric_names(run) if not name.endswith((*SIZES, '_precision'))][:MOST_CURVES]
    return line_chart('Metrics', [metric_curve(run, name, name) for name in names], run.unit)


def step_curve(run: Run, name: str, label: str) -> Curve:
    """What is logged of training steps under a name, as a curve."""
    lines = [line for line in run.steps if name in line]
    return Curve(label, [run.x_of(line['step']) for line in lines], [line[name] for line in lines])


def metric_curve(run: Run, name: str, label: str) -> Curve:
    """A metric of every validation, as a curve; where epochs count, 'step' of a validation is an epoch."""
    lines = [line for line in run.evaluations if name in line and shown(name, line[name]) != '–']
    return Curve(label, [line['step'] for line in lines], [line[name] for line in lines], True)


def speed_charts(run: Run) -> list[Chart]:
    """Images a second, the time of a step and of waiting for data, the memory of a GPU."""

    def curve(label: str, value: object) -> Curve:
        lines = [line for line in run.steps if line.get('time')]
        return Curve(label, [run.x_of(line['step']) for line in lines], [value(line) for line in lines])

    def milliseconds(name: str) -> object:
        return lambda line: 1000 * line.get(name, np.nan)

    images, charts = run.images_per_step, []
    if images:
        rate = curve('images/s', lambda line: images / line['time'])
        charts.append(line_chart('Images a second', [rate], run.unit, breaks=breaks(run)))
    times = [curve('step', milliseconds('time')), curve('waiting for data', milliseconds('data_time'))]
    charts.append(line_chart('Time of a step (ms)', times, run.unit, breaks=breaks(run)))
    memory = [step_curve(run, 'memory', 'memory')]
    charts.append(line_chart('Memory of the GPU (MiB)', memory, run.unit, breaks=breaks(run)))
    return [chart for chart in charts if chart is not None]


def breaks(run: Run) -> list[float]:
    """Where on the x axis the run was resumed."""
    return [run.x_of(session.first_step) for session in run.sessions[1:]]


def last_metrics(run: Run) -> Scalars:
    """Those of the last validation."""
    return run.evaluations[-1] if run.evaluations else {}
