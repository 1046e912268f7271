"""Pictures of the tables: accuracy against parameters and against FLOPs, published and measured marked apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from .published import METRICS, Row, Table
from .tables import Measured

# colours that differ for colour-blind eyes too (Okabe and Ito)
FAMILIES = {
    'Swin': '#0072B2',
    'DWNet': '#000000',
    'dynamic DWNet': '#009E73',
    'I-dynamic DWNet': '#D55E00',
}
OTHERS = '#8c8c8c'
AXES = (('params', 'parameters (millions)'), ('flops', 'FLOPs (billions of multiply-adds)'))
# x and y of a point, its name and colour
Label = tuple[float, float, str, str]


def draw(table: Table, measured: Sequence[Measured], folder: Path) -> list[Path]:
    """Draw a table, a file per metric with any point; return the files.

    A hollow circle stands at the published size and the published metric, a filled diamond at the counted size and
    the metric of a file of results. A row without either does not appear.
    """
    paths = []
    for name in table.metrics:
        rows = [item for item in measured if name in item.metrics or _is_published(item.row, name)]
        if not rows:
            continue
        figure = Figure(figsize=(11, 5.2), layout='constrained')
        canvas = FigureCanvasAgg(figure)
        panels = figure.subplots(1, 2, sharey=True)
        labels = []
        for panel, (quantity, label) in zip(panels, AXES, strict=True):
            labels.append(_draw_points(panel, rows, quantity, name))
            _style(panel, label)
        panels[0].set_ylabel(f'{METRICS[name].label} (%)')
        figure.suptitle(table.title, fontsize=12)
        figure.legend(handles=_legend(rows), loc='outside lower center', ncols=8, frameon=False, fontsize=9)
        canvas.draw()
        figure.set_layout_engine('none')  # names do not move what was laid out
        for panel, texts in zip(panels, labels, strict=True):
            _place_labels(panel, texts, canvas)
        slug = re.sub(r'[^a-z0-9]+', '-', table.title.lower()).strip('-')
        paths.append(folder / f'{slug}_{name}.png')
        figure.savefig(paths[-1], dpi=150)
    return paths


def _is_published(row: Row, metric: str) -> bool:
    return bool(row.printed(metric)) and any(row.printed(quantity) for quantity, _ in AXES)


def _draw_points(panel: Axes, rows: Sequence[Measured], quantity: str, metric: str) -> list[Label]:
    """Draw the points of a panel, and lines through the sizes of a family; return the names to write."""
    families: dict[str, list[tuple[float, float]]] = {}
    labels = []
    # every row is a family and a size, and nothing else tells two of them apart
    ours = all(_family(item.row) in FAMILIES and ', ' not in item.row.model for item in rows)
    for item in rows:
        family = _family(item.row)
        color = FAMILIES.get(family, OTHERS)
        size, printed = item.row.printed(quantity), item.row.printed(metric)
        # where colours tell the families apart, the letter of the size is enough
        text = item.row.model.rpartition('-')[2] if ours else item.row.model
        points = []
        if size and printed:
            points.append((float(size), float(printed)))
            families.setdefault(family, []).append(points[0])
            panel.plot(*points[0], 'o', color=color, mfc='white', markersize=8, mew=1.6, zorder=3)
        if metric in item.metrics:
            points.append((item.value(quantity), item.metrics[metric]))
            panel.plot(*points[-1], 'D', color=color, markersize=7, zorder=4)
        labels += [(*point, text, color) for point in points[:1]]
    for family, points in families.items() if ours else ():
        panel.plot(*zip(*sorted(points), strict=True), '-', color=FAMILIES[family], linewidth=1, alpha=0.4)
    return labels


def _style(panel: Axes, label: str) -> None:
    first, last = panel.dataLim.intervalx
    if last > 10 * first:
        panel.set_xscale('log')
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(label)
    panel.grid(color='#e5e5e5', linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[['top', 'right']].set_visible(False)
    panel.margins(0.12, 0.1)


def _place_labels(panel: Axes, labels: Sequence[Label], canvas: FigureCanvasAgg) -> None:
    """Write each name at the place around its point that overlaps least with points and names already there."""
    pixel = panel.figure.dpi / 72
    spots = panel.transData.transform([(x, y) for x, y, _, _ in labels])
    taken = [Bbox.from_bounds(x - 6 * pixel, y - 6 * pixel, 12 * pixel, 12 * pixel) for x, y in spots]
    frame = panel.get_window_extent()
    angles = np.deg2rad([90, 270, 0, 180, 45, 135, 225, 315])
    for (x, y, text, color), spot in zip(labels, spots, strict=True):
        note = panel.annotate(
            text, (x, y), (0, 0), textcoords='offset points', ha='center', va='center', fontsize=8
        )
        note.set_color(color if color != OTHERS else '#444444')
        box = note.get_window_extent(canvas.get_renderer())
        places = []
        for distance in (0, 10, 22, 36):
            for angle in angles:
                x_offset = np.cos(angle) * (box.width / 2 + (8 + distance) * pixel)
                y_offset = np.sin(angle) * (box.height / 2 + (6 + distance) * pixel)
                place = box.translated(
                    *(spot + (x_offset, y_offset) - (box.x0 + box.width / 2, box.y0 + box.height / 2))
                )
                overlap = sum(_area(Bbox.intersection(place, other)) for other in taken)
                outside = _area(place) - _area(Bbox.intersection(place, frame))
                places.append((overlap + 5 * outside + 4 * distance * pixel, distance, x_offset, y_offset, place))
        _, distance, x_offset, y_offset, place = min(places, key=lambda choice: choice[0])
        note.set_position((x_offset / pixel, y_offset / pixel))
        taken.append(place)
        if distance:
            anchor = np.clip(spot, (place.x0, place.y0), (place.x1, place.y1))
            ends = panel.transData.inverted().transform([spot, anchor])
            panel.plot(*ends.T, color='#b0b0b0', linewidth=0.6, zorder=2, scalex=False, scaley=False)


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else box.width * box.height


def _family(row: Row) -> str:
    """Return the family of a row's backbone: a part of its name that `FAMILIES` knows, or its last part."""
    parts = [re.sub(r'-[TSBL]$', '', part) for part in row.model.split(', ')]
    return next((part for part in parts if part in FAMILIES), parts[-1])


def _legend(rows: Sequence[Measured]) -> list[Line2D]:
    present = {_family(item.row) for item in rows}
    handles = [
        Line2D([], [], color=color, linewidth=3, label=name) for name, color in FAMILIES.items() if name in present
    ]
    if present - set(FAMILIES):
        handles.append(Line2D([], [], color=OTHERS, linewidth=3, label='others'))
    black = dict(color='#333333', linestyle='none', markersize=8)
    handles.append(Line2D([], [], marker='o', mfc='white', label='published', **black))
    handles.append(Line2D([], [], marker='D', label='measured here', **black))
    return handles
