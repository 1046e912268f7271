"""Pictures of scaling: what was measured on local processes, and what is predicted for clusters and says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, PercentFormatter, StrMethodFormatter

from .measuring import Check, Measured
from .model import Cluster, Prediction, Training, predict
from .report import PREDICTION, assumptions
from .worker import ALONE, DEFAULT, Plan

# colours that differ for colour-blind eyes too (Okabe and Ito)
PARTS = {
    'compute': '#BBBBBB',
    'gradients': '#D55E00',
    'sync_bn': '#0072B2',
    'sharding': '#009E73',
    'waiting': '#E69F00',
}
NAMES = dict(
    compute='one GPU by itself',
    gradients='gradients not hidden by backward',
    sync_bn='SyncBN',
    sharding='weights of a sharded optimizer',
    waiting='waiting for images',
)
LINE = '#D55E00'


def draw_prediction(
    training: Training, cluster: Cluster, predictions: Sequence[Prediction], title: str, path: Path
) -> Path:
    """Draw efficiency against GPUs, and where the time of a step goes; return the file.

    Args:
        training: the step of one GPU.
        cluster: where.
        predictions: for growing numbers of GPUs.
        title: what is trained.
        path: PNG file.
    """
    figure = Figure(figsize=(11, 5.2), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    gpus = [p.gpus for p in predictions]
    hidden = [[predict(replace(training, overlap=o), cluster, n).efficiency for n in gpus] for o in (0, 1)]
    left.fill_between(gpus, *hidden, color=LINE, alpha=0.15, lw=0, label='nothing to all that backward can hide')
    left.plot(
        gpus,
        [p.efficiency for p in predictions],
        'o--',
        color=LINE,
        label=f'{training.overlap:.0%} of that hidden',
    )
    more = replace(training, accumulation=4 * training.accumulation)
    apart = [predict(more, cluster, n).efficiency for n in gpus]
    left.plot(gpus, apart, 's:', color='#000000', ms=4, label='4 times the accumulation')
    _against_gpus(left, gpus)
    left.set_ylim(0, 1.05)
    left.yaxis.set_major_formatter(PercentFormatter(1))
    left.set_ylabel('efficiency (predicted)')
    left.legend(frameon=False, fontsize=9, loc='lower left')
    _stack(right, predictions)
    figure.suptitle(f'{PREDICTION}: {title}', fontsize=12, color='#B00000')
    lines = [line for text in assumptions(training, cluster) for line in wrap(text, 150)]
    figure.supxlabel('\n'.join(lines), fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def draw_measured(
    plan: Plan, measured: Sequence[Measured], checks: Sequence[Check], machine: str, path: Path
) -> Path:
    """Draw the all-reduces with their fits, and every net's steps, the model's beside them; return the file."""
    figure = Figure(figsize=(11, 4.6), layout='constrained')
    FigureCanvasAgg(figure)
    left, *panels = figure.subplots(1, 1 + len(plan.nets))
    several = [m for m in measured if m.all_reduce]
    for result, color in zip(several, cycle(('#0072B2', '#D55E00', '#009E73'))):
        sizes, link, n = list(result.all_reduce), result.link, result.ranks
        left.plot(sizes, [s * 1e3 for s in result.all_reduce.values()], 'o', color=color, label=f'{n} processes')
        fit = [2 * (n - 1) * (link.latency + size / n / link.bandwidth) for size in sizes]
        left.plot(sizes, [s * 1e3 for s in fit], '-', color=color, lw=1, label=f'{n}: latency and bandwidth')
    left.set(xscale='log', yscale='log', xlabel='bytes', ylabel='all-reduce (ms)')
    left.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    left.legend(frameon=False, fontsize=8)
    for axes, net in zip(panels, plan.nets, strict=True):
        _steps(axes, net.arch, measured, [c for c in checks if c.net == net.arch])
        axes.set_title(f'DWNet-{net.arch}, {net.batch_size} x {net.size}²', fontsize=10)
    for axes in (left, *panels):
        axes.grid(color='#e5e5e5', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
    figure.suptitle('\n'.join(['measured on local processes over gloo', *wrap(machine, 140)]), fontsize=9)
    figure.savefig(path, dpi=150)
    return path


def _steps(axes: Axes, arch: str, measured: Sequence[Measured], checks: Sequence[Check]) -> None:
    names = [str(m.ranks) for m in measured]
    alone = [m.steps[arch][ALONE] * 1e3 for m in measured]
    added = [max(m.steps[arch][DEFAULT] * 1e3 - a, 0) for m, a in zip(measured, alone, strict=True)]
    axes.bar(names, alone, color=PARTS['compute'], label='computing, sharing the cores')
    axes.bar(names, added, bottom=alone, color=PARTS['gradients'], label='gradients not hidden')
    for check in checks:
        at = names.index(str(check.ranks))
        axes.plot(at, check.predicted * 1e3, 'D', mfc='white', color='#000000', label='the model, from 1 and 2')
    axes.set(xlabel='processes', ylabel='step of one batch (ms)')
    axes.margins(y=0.3)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc='upper left')


def _stack(axes: Axes, predictions: Sequence[Prediction]) -> None:
    gpus = [p.gpus for p in predictions]
    bottom = [0.0] * len(gpus)
    places = range(len(gpus))
    for part, color in PARTS.items():
        heights = [getattr(p, part) * 1e3 for p in predictions]
        if any(heights):
            axes.bar(places, heights, bottom=bottom, color=color, label=NAMES[part])
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(list(places), [str(n) for n in gpus])
    axes.set(xlabel='GPUs', ylabel='ms of an optimizer step (predicted)')
    axes.grid(axis='y', color='#e5e5e5', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_ylim(top=max(bottom) * 1.3)
    axes.legend(frameon=False, fontsize=9, loc='upper left')


def _against_gpus(axes: Axes, gpus: Sequence[int]) -> None:
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(FixedLocator(gpus))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter('{x:.0f}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel('GPUs')
    axes.grid(color='#e5e5e5', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
