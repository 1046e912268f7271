"""Pictures of connectivity in the manner of Han et al. (ICLR 2022), figure 1: a panel per mixer, as measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from .bench import MAP
from .fans import Fan, channels_of, fans
from .place import Place
from .report import cells
from .subjects import Subject

# colours that differ for colour-blind eyes too (Okabe and Ito), and two more
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8B5A2B', '#7F7F7F')
ACROSS = 4
# how far a channel lies behind the one before, and the inputs below the outputs
DEPTH = (0.6, 0.8)
HEIGHT = 5.6


def draw_connectivity(subjects: Sequence[Subject], places: Sequence[Place], path: Path) -> Path:
    """Measure and draw a panel for each subject that was probed; return the file."""
    across = min(ACROSS, len(places))
    down = -(-len(places) // across)
    figure = Figure(figsize=(max(4.4 * across, 9), 3.1 * down + 0.8), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for panel in panels:
        panel.set_axis_off()
    for panel, subject, place in zip(panels, subjects, places, strict=False):
        _draw_panel(panel, place, fans(subject, place), len(channels_of(subject.channels)))
    figure.suptitle(
        'Inputs (below) that outputs (above) are connected to, along one row of a map: positions to the right, '
        'channels to the back.\nLines of one colour: outputs with the same weights. Strength of a line: size of '
        'the weight. Measured from Jacobians.',
        fontsize=11,
    )
    figure.savefig(path, dpi=90)
    return path


def _draw_panel(panel: Axes, place: Place, measured: Sequence[Fan], channels: int) -> None:
    for height in (0, HEIGHT):
        for channel in range(channels):
            spots = [_spot(column, channel, height) for column in range(MAP[1])]
            panel.plot(*zip(*spots, strict=True), 'o-', color='#d0d0d0', markersize=2.6, linewidth=0.5, zorder=1)
    for fan in reversed(measured):
        color = COLORS[fan.kernel % len(COLORS)]
        top = _spot(fan.column, fan.channel, HEIGHT)
        lines = [(top, _spot(column, channel, 0)) for column, channel, _ in fan.ends]
        strengths = [0.25 + 0.75 * weight**0.5 for _, _, weight in fan.ends]
        panel.add_collection(LineCollection(lines, colors=color, linewidths=1.1, alpha=strengths, zorder=2))
        panel.plot(*zip(*(bottom for _, bottom in lines), strict=True), 'o', color=color, markersize=2.8, zorder=3)
        panel.plot(*top, 'o', color=color, markersize=4.6, zorder=4)
    name, between, connected, positions, shared, dynamic = cells(place)[:6]
    mixer, _, options = name.partition(':')
    panel.set_title(mixer, fontsize=10.5, fontweight='bold', pad=14 if options else 4)
    panel.text(0.5, 1.01, options.replace(',', ', '), transform=panel.transAxes, ha='center', fontsize=8.5)
    panel.text(
        0.5,
        -0.03,
        f'positions: {between}; channels: {connected}; dynamic: {dynamic}\n'
        f'shared across positions: {positions}; across channels: {shared}',
        transform=panel.transAxes,
        ha='center',
        va='top',
        fontsize=8,
        color='#333333',
    )
    panel.set_aspect('equal')
    panel.margins(0.02)


def _spot(column: int, channel: int, height: float) -> tuple[float, float]:
    return column + DEPTH[0] * channel, height + DEPTH[1] * channel
