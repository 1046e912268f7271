"""Pictures of the weights that `mixing_maps.py` finds, beside the image that the network saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .inspected import Inspected
from .mixing_maps import Box, Row, Weights, cut
from .watching import Block

# of the places, in turn; colours that differ for colour-blind eyes too (Okabe and Ito)
COLORS = ('#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
SIGNED, POSITIVE = 'RdBu_r', 'viridis'
TOKENS = ('class token', 'distillation token')
KINDS = {
    'kernel': 'kernels around the positions',
    'window': 'windows that hold the positions',
    'map': 'weights of the whole map',
}


def draw(inspected: Inspected, block: Block, found: Weights, path: Path) -> Path:
    """Draw the image with the places, and beside it a row of weights per place, a column per channel.

    Args:
        inspected: names the config, and has the image.
        block: names itself and its mixer, and has the stride of its map.
        found: the weights.
        path: PNG file.

    Returns:
        The file.
    """
    height, width = inspected.shown.shape[:2]
    of_map = found.kind == 'map'
    cell = 1.6 if of_map else 1.35  # inches, of a panel
    tall = cell * len(found.rows) + 1.5
    of_image = min(max(tall - 1.4, 3.2), 5.5) * min(width / height, 1.6)
    of_panels = min(cell * width / height, 2.6) * len(found.names) if of_map else cell * len(found.names)
    figure = Figure(figsize=(max(of_image + of_panels + 1.2, 6.5), tall), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(of_image, of_panels + 0.7))
    _draw_image(left.subplots(), inspected, block, found)
    panels = right.subplots(len(found.rows), len(found.names), squeeze=False)
    for j, name in enumerate(found.names):
        panels[0, j].set_title(name, fontsize=9)
        scale, colors = _scale(found.rows, j)
        for i, (row, box) in enumerate(zip(found.rows, found.boxes, strict=True)):
            if of_map or isinstance(row.place, int):
                _draw_over(panels[i, j], inspected, row, j, block.stride, scale, colors)
            else:
                _draw_box(panels[i, j], row, j, box, scale, colors)
            _frame(panels[i, j], _color(i, row))
        _draw_scale(right, panels[:, j], scale, colors)
    for i, row in enumerate(found.rows):
        panels[i, 0].set_ylabel(_name(i, row), fontsize=9, color=_color(i, row), fontweight='bold')
    rows, columns = found.rows[0].maps.shape[1:]
    kind = KINDS[found.kind] + (', minus their mean' if found.minus_mean else '')
    padded = ', with its padding' if (rows * block.stride, columns * block.stride) != (height, width) else ''
    figure.suptitle(
        f'{inspected.name}, block {block.key}: {type(block.mixer).__name__}\n'
        f'{kind}, on a map of {rows} x {columns}{padded}',
        fontsize=11,
    )
    figure.savefig(path, dpi=130)
    return path


def _draw_scale(figure: SubFigure, panels: Sequence[Axes], scale: Normalize, colors: Colormap) -> None:
    bar = figure.colorbar(
        ScalarMappable(scale, colors), ax=panels, location='bottom', shrink=0.9, aspect=14, pad=0.02
    )
    bar.locator = MaxNLocator(2, symmetric=colors.name == SIGNED)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _name(i: int, row: Row) -> str:
    """Of the row: the number of its place in the image, or of a token."""
    return TOKENS[row.place] if isinstance(row.place, int) else str(i + 1)


def _color(i: int, row: Row) -> str:
    return '#333333' if isinstance(row.place, int) else COLORS[i % len(COLORS)]


def _draw_image(panel: Axes, inspected: Inspected, block: Block, found: Weights) -> None:
    height, width = inspected.shown.shape[:2]
    panel.imshow(inspected.shown, extent=(0, width, height, 0))
    stride = block.stride
    for i, (row, (top, left, bottom, right)) in enumerate(zip(found.rows, found.boxes, strict=True)):
        if isinstance(row.place, int):
            continue
        color = _color(i, row)
        y, x = ((at + 0.5) * stride for at in row.place)
        badge = dict(boxstyle='circle,pad=0.25', fc=color, ec='white', lw=1.2)
        panel.text(
            x, y, str(i + 1), color='white', fontsize=8, fontweight='bold', ha='center', va='center', bbox=badge
        )
        if found.kind != 'map':
            corner, sides = (left * stride, top * stride), ((right - left) * stride, (bottom - top) * stride)
            for line, ink in ((3.2, 'white'), (1.8, color)):
                panel.add_patch(Rectangle(corner, *sides, fill=False, ec=ink, lw=line, clip_on=True))
    panel.set(xlim=(0, width), ylim=(height, 0))
    panel.tick_params(labelsize=7)
    panel.set_xlabel('pixels', fontsize=8)
    panel.set_title('what the network sees', fontsize=9)


def _scale(rows: Sequence[Row], column: int) -> tuple[Normalize, Colormap]:
    """One scale for a column: around 0 if any weight is negative, and from 0 on otherwise."""
    values = np.concatenate([row.maps[column].flatten().numpy() for row in rows])
    largest = max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    signed = values.min() < -1e-6 * largest  # less is rounding
    colors = colormaps[SIGNED if signed else POSITIVE]
    return Normalize(-largest if signed else 0, largest), colors


def _draw_box(panel: Axes, row: Row, column: int, box: Box, scale: Normalize, colors: Colormap) -> None:
    """The weights in a box, a cell each; hatched where it reaches over the edge of the map; the place marked."""
    top, left, bottom, right = box
    extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    panel.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fc='#f2f2f2', ec='#b5b5b5', hatch='////', lw=0
        )
    )
    weights = cut(row.maps[column], box)
    panel.imshow(weights, cmap=colors, norm=scale, extent=extent, zorder=2)
    for at in range(top, bottom - 1):
        panel.axhline(at + 0.5, color='white', lw=0.4, zorder=3)
    for at in range(left, right - 1):
        panel.axvline(at + 0.5, color='white', lw=0.4, zorder=3)
    panel.add_patch(
        Rectangle((row.place[1] - 0.5, row.place[0] - 0.5), 1, 1, fill=False, ec='black', lw=1.2, zorder=4)
    )
    panel.set(xlim=extent[:2], ylim=extent[2:])


def _draw_over(
    panel: Axes, inspected: Inspected, row: Row, column: int, stride: int, scale: Normalize, colors: Colormap
) -> None:
    """The weights of the whole map times the image in pale grey, the place marked, tokens' weights in words."""
    height, width = inspected.shown.shape[:2]
    weights = row.maps[column].numpy().repeat(stride, 0).repeat(stride, 1)[:height, :width]
    grey = 0.7 + 0.3 * inspected.shown.mean(2, keepdims=True) / 255
    panel.imshow(colors(scale(weights))[..., :3] * grey, extent=(0, width, height, 0))
    if not isinstance(row.place, int):
        corner = (row.place[1] * stride, row.place[0] * stride)
        for line, ink in ((2.6, 'white'), (1.2, 'black')):
            panel.add_patch(Rectangle(corner, stride, stride, fill=False, ec=ink, lw=line))
    panel.set(xlim=(0, width), ylim=(height, 0))
    if row.tokens.shape[1]:
        parts = [f'{name} {weight:.2g}' for name, weight in zip(TOKENS, row.tokens[column].tolist(), strict=False)]
        panel.set_xlabel(', '.join(parts), fontsize=7, labelpad=2)


def _frame(panel: Axes, color: str) -> None:
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set(color=color, linewidth=1.6)
