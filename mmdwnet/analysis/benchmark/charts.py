"""Pictures of results: bars of speed, latency or memory, a panel per precision; lines of scaling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from .nets import OURS, OURS_DEPLOYED, PUBLISHED
from .running import LATENCY, MEMORY, OPS, SCALING, SPEED, Group, Peak, Result
from .timing import Samples

# colours that differ for colour-blind eyes too (Okabe and Ito)
COLORS = {
    OURS_DEPLOYED: '#D55E00',
    OURS: '#E69F00',
    PUBLISHED: '#7f7f7f',
    'mmpretrain': '#0072B2',
    'timm': '#56B4E9',
    'natten': '#009E73',
    'torch': '#0072B2',
}
LINES = ('#D55E00', '#0072B2', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
AXIS = {
    SPEED: 'images per second',
    MEMORY: 'MiB at the peak, per image (less is better)',
    LATENCY: 'ms (less is better)',
    OPS: 'ms, on a log scale (less is better)',
}


def draw(group: Group, results: Sequence[Result], folder: Path, machine: str) -> Path | None:
    """Draw a group into `folder`; return the file, None where nothing of the group was measured.

    Args:
        group: the group.
        results: its results.
        folder: where the picture goes.
        machine: the line above the picture that says where it was measured.
    """
    measured = [result for result in results if isinstance(result.outcome, (Samples, Peak))]
    if not measured:
        return None
    figure = _lines(group, measured) if group.kind == SCALING else _bars(group, measured)
    figure.suptitle(
        '\n'.join([_title(group, measured), *wrap(machine, int(13 * figure.get_figwidth()))]), fontsize=9
    )
    FigureCanvasAgg(figure)
    path = folder / f'{re.sub(r"[^a-z0-9]+", "-", group.name.lower())}.png'
    figure.savefig(path, dpi=150)
    return path


def _bars(group: Group, results: Sequence[Result]) -> Figure:
    names, panels = _panels(group, results)
    lines = len({result.case.precision for result in results}) if group.kind == OPS else 1
    columns, rows = len(panels) // lines, max(len(panel) for panel in panels)
    width = 5.2 * columns if group.kind == OPS else max(6.4 * columns, 8.0)
    figure = Figure(figsize=(width, 1.5 + lines * (0.7 + 0.26 * rows)), layout='constrained')
    places = figure.subplots(lines, columns, squeeze=False).flat
    for axes, name, panel in zip(places, names, panels, strict=True):
        _draw_bars(axes, group, panel)
        axes.set_title(name, fontsize=10)
    present = {result.case.family for result in results}
    handles = [Patch(color=color, label=family) for family, color in COLORS.items() if family in present]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _title(group: Group, results: Sequence[Result]) -> str:
    case = results[0].case
    if group.kind == SCALING:
        return f'{group.name}: inference, {case.device}'
    size = '' if group.kind == OPS else f', {case.size} x {case.size}'
    return f'{group.name}: batch {case.batch}{size}, {case.device}'


def _panels(group: Group, results: Sequence[Result]) -> tuple[list[str], list[list[Result]]]:
    """Panels and their names: one for each precision, of ops for each precision and op."""
    precisions = list(dict.fromkeys(result.case.precision for result in results))
    if group.kind != OPS:
        return precisions, [[r for r in results if r.case.precision == precision] for precision in precisions]
    keys = list(product(precisions, dict.fromkeys(result.case.op for result in results)))
    panels = [[r for r in results if (r.case.precision, r.case.op) == key] for key in keys]
    return [f'{op}, {precision}' for precision, op in keys], panels


def _draw_bars(axes: Axes, group: Group, results: Sequence[Result]) -> None:
    bars = []  # value, its low and high end, label, colour
    for result in results:
        case = result.case
        label = case.label.removeprefix(case.op).lstrip() if group.kind == OPS else case.label
        bars.append((*_value(group, result), label, COLORS[case.family]))
    less_is_better = group.kind in (MEMORY, LATENCY, OPS)
    if group.kind == OPS:
        bars.reverse()  # in the order of the stages
    else:
        bars.sort(key=lambda bar: bar[0], reverse=less_is_better)
    values = [bar[0] for bar in bars]
    ends = [[value - low for value, low, *_ in bars], [high - value for value, _, high, *_ in bars]]
    axes.barh(
        range(len(bars)), values, color=[bar[4] for bar in bars], height=0.72,
        xerr=ends, error_kw=dict(ecolor='#333333', elinewidth=0.8, capsize=2),
    )  # fmt: skip
    axes.set_yticks(range(len(bars)), [bar[3] for bar in bars], fontsize=8)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    for position, (value, _, high, *_) in enumerate(bars):
        axes.annotate(
            f'{value:.0f}' if value >= 100 else f'{value:.3g}', (max(value, high), position), (4, 0),
            textcoords='offset points', va='center', fontsize=8,
        )  # fmt: skip
    if group.kind == OPS:
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15)
    axes.set_xlabel(AXIS[group.kind], fontsize=9)
    axes.tick_params(axis='x', labelsize=8)
    axes.grid(axis='x', color='#e5e5e5', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


def _value(group: Group, result: Result) -> tuple[float, float, float]:
    """The value of a bar, and the ends of its whisker: the lowest and the highest round."""
    outcome, items = result.outcome, result.case.items
    if isinstance(outcome, Peak):
        share = outcome.bytes / 2**20 / items
        return share, share, share
    spread = outcome.spread
    if group.kind in (LATENCY, OPS):
        return 1e3 * spread.median, 1e3 * spread.low, 1e3 * spread.high
    return items / spread.median, items / spread.high, items / spread.low


def _lines(group: Group, results: Sequence[Result]) -> Figure:
    by_batch = group.name.endswith('batch')
    figure = Figure(figsize=(7.5, 4.6), layout='constrained')
    axes = figure.subplots()
    lines: dict[str, list[tuple[int, float]]] = {}
    for result in results:
        case, seconds = result.case, result.outcome.spread.median
        value = 1e3 * seconds / case.batch if by_batch else 1e9 * seconds / case.size**2
        label = f'{case.label}, {case.precision}'
        lines.setdefault(label, []).append((case.batch if by_batch else case.size, value))
    for color, (label, points) in zip(_cycle(len(lines)), lines.items(), strict=True):
        axes.plot(*zip(*points, strict=True), 'o-', color=color, label=label, markersize=5, linewidth=1.5)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted({x for points in lines.values() for x, _ in points})))
    axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel('images per batch, 224 x 224' if by_batch else 'side of the image (pixels), batch 1')
    axes.set_ylabel('ms per image' if by_batch else 'ns per pixel')
    axes.set_ylim(bottom=0)
    axes.grid(color='#e5e5e5', linewidth=0.8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _cycle(count: int) -> list[str]:
    return [LINES[i % len(LINES)] for i in range(count)]
