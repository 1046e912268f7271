"""The table and the picture of a comparison of trainings: what `compare_mixers.py` shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from .convergence import Run

# colours that differ for colour-blind eyes too (Okabe and Ito); the markers tell more lines apart
COLORS = ('#D55E00', '#0072B2', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>')
COLUMNS = ('top-1 (%)', 'loss at the end', 'epochs', 'images/s', 'parameters', 'training (min)')
LOSS_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


def rows(runs: Sequence[Run]) -> list[list[str]]:
    """The table: a name and the values of `COLUMNS` for each run, the best first."""
    return [
        [
            run.name,
            f'{run.accuracy:.1f}',
            f'{run.loss:.3f}',
            str(run.epochs),
            f'{run.images_per_second:.0f}',
            f'{run.parameters / 1e6:.2f} M',
            f'{run.minutes:.2f}',
        ]
        for run in sorted(runs, key=lambda run: -run.accuracy)
    ]


def markdown(runs: Sequence[Run], machine: str) -> str:
    """The table as Markdown, and where it was measured."""
    lines = [['net', *COLUMNS], ['---', *['---:' for _ in COLUMNS]], *rows(runs)]
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    return f'{table}\n\nOne run each, on {machine}\n'


def draw(runs: Sequence[Run], machine: str, path: Path) -> Path:
    """Draw loss and top-1 of every run against epochs and against minutes of training; return the file.

    Args:
        runs: in the order of their colours.
        machine: the line under the title that says where it was measured.
        path: PNG file.
    """
    figure = Figure(figsize=(11, 7.4), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharey='row', sharex='col')
    for run, color, marker in zip(runs, cycle(COLORS), cycle(MARKERS)):
        pace = run.minutes / run.epochs
        label = f'{run.name}: {run.accuracy:.1f} %'
        for column, unit in enumerate((1, pace)):
            line = dict(color=color, linewidth=1.6)
            panels[0, column].plot([unit * epoch for epoch in run.losses], run.losses.values(), **line)
            panels[1, column].plot(
                [unit * epoch for epoch in run.accuracies],
                run.accuracies.values(),
                marker=marker,
                markersize=6,
                markeredgecolor='white',
                markeredgewidth=0.6,
                label=label,
                **line,
            )
    for axes in panels.flat:
        axes.grid(color='#e5e5e5', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
        axes.set_xlim(left=0)
    panels[1, 0].set_ylim(0, 100)
    _style_losses(panels[0, 0], runs)
    panels[0, 0].set_ylabel('training loss, log scale')
    panels[1, 0].set_ylabel('top-1 on held-out images (%)')
    panels[1, 0].set_xlabel('epochs')
    panels[1, 1].set_xlabel('minutes of training')
    figure.suptitle(
        f'The same {runs[0].asked:g} minutes of training for each net; below, its top-1 at the end\n{machine}',
        fontsize=9,
    )
    figure.legend(*panels[1, 0].get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    return path


def _style_losses(axes: Axes, runs: Sequence[Run]) -> None:
    """A log scale with ticks of the round values that the losses span."""
    values = [loss for run in runs for loss in run.losses.values()]
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in LOSS_TICKS if min(values) / 2 < tick]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(min(values) / 1.15, max(values) * 1.15)
