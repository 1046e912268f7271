"""The charts of a report, as SVG in a URL of its own, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

# colours that differ for colour-blind eyes too (Okabe and Ito)
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MOST_POINTS = 400  # of a curve; more are averaged
NUMBERED = 15  # classes up to which a confusion matrix has its numbers
SETTINGS = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmdwnet',  # the same page from the same run
    'font.family': ['sans-serif'],
    'font.sans-serif': ['Helvetica', 'Arial', 'Liberation Sans', 'DejaVu Sans'],
    'font.size': 10.5,
    'axes.edgecolor': '#8a94a0',
    'axes.labelcolor': '#3c4650',
    'xtick.color': '#5a6672',
    'ytick.color': '#5a6672',
}


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Args:
        label: in the legend.
        x, y: of its points; y of nan is left out.
        marked: every point is one measurement, and is drawn.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of the page: its title, the picture as a URL, and what it says in words."""

    title: str
    url: str
    alt: str


def line_chart(
    title: str, curves: Sequence[Curve], x_label: str, log: bool = False, breaks: Sequence[float] = ()
) -> Chart | None:
    """Curves over one another; None where no curve has a point.

    Args:
        title: of the chart.
        curves: to be drawn.
        x_label: of the axis.
        log: the y axis is logarithmic, if all values are positive and they span a decade.
        breaks: places on the x axis where a run was resumed.
    """
    curves = [curve for curve in map(_thinned, curves) if len(curve.x)]
    if not curves:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(5.6, 3.1), layout='constrained')
        axes = figure.add_subplot()
        for place in breaks:
            axes.axvline(place, color='#b8c0c8', linewidth=1, linestyle=(0, (3, 3)))
        for curve, color in zip(curves, cycle(COLORS)):
            style = dict(color=color, linewidth=1.6, label=printable(curve.label))
            if curve.marked or len(curve.x) == 1:
                style.update(marker='o', markersize=4, markeredgecolor='white', markeredgewidth=0.6)
            axes.plot(curve.x, curve.y, **style)
        values = np.concatenate([curve.y for curve in curves])
        _style(axes, x_label, log and values.min() > 0 and values.max() > 10 * values.min())
        if len(curves) > 1:
            figure.legend(loc='outside lower center', ncols=3, frameon=False, fontsize=9)
        return Chart(title, _url(figure), f'{title}: {", ".join(map(_said, curves))}')


def confusion_chart(table: np.ndarray, classes: Sequence[str], what: str) -> Chart:
    """A confusion matrix, each row in parts of its truth."""
    parts = table / np.maximum(table.sum(1, keepdims=True), 1)
    count = len(classes)
    side = min(max(0.42 * count + 1.6, 3.4), 8)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(side + 0.4, side), layout='constrained')
        axes = figure.add_subplot()
        axes.imshow(parts, cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
        if count <= NUMBERED:
            centred = dict(ha='center', va='center', fontsize=8.5)
            for i, j in np.ndindex(count, count):
                if round(100 * parts[i, j]):
                    color = 'white' if parts[i, j] > 0.55 else '#20262c'
                    axes.text(j, i, f'{100 * parts[i, j]:.0f}', color=color, **centred)
        names = [name if len(name) <= 14 else f'{name[:13]}…' for name in map(printable, classes)]
        if count <= 40:
            size = 9 if count <= NUMBERED else 7
            axes.set_xticks(range(count), names, rotation=60, ha='right', rotation_mode='anchor', fontsize=size)
            axes.set_yticks(range(count), names, fontsize=size)
        axes.set_xlabel('predicted')
        axes.set_ylabel('truth')
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        title = f'Confusion, % of the {what} of each truth'
        return Chart(title, _url(figure), f'{title}: a matrix of {count} by {count} classes')


def printable(text: str) -> str:
    """The text, with ? for bytes of names that are no UTF-8, which can be neither drawn nor written."""
    return text.encode(errors='replace').decode()


def _style(axes: Axes, x_label: str, log: bool) -> None:
    axes.set_xlabel(x_label)
    axes.grid(color='#e8ecf0', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if log:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ''))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(y=0.08)


def _thinned(curve: Curve) -> Curve:
    """Without what is no number, and of many points the means of neighbours."""
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) > MOST_POINTS:
        x, y = (np.array([part.mean() for part in np.array_split(values, MOST_POINTS)]) for values in (x, y))
    return Curve(curve.label, x, y, curve.marked)


def _said(curve: Curve) -> str:
    return f'{curve.label} from {curve.y[0]:.4g} to {curve.y[-1]:.4g}'


def _url(figure: Figure) -> str:
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict(Date=None, Creator=None))
    return 'data:image/svg+xml;base64,' + base64.b64encode(file.getvalue().encode()).decode()
