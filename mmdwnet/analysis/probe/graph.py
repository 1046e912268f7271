"""The relation graph of Han et al. (ICLR 2022), figure 3, with mixers where the probe put them.

A box holds the mixers of one place. A column has one connectivity between positions; a row has one connectivity
between channels, one kind of dynamic weight, and one kind of rank. An arrow leads from a box to the next that
differs in one of these alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import permutations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .place import Place

COLUMNS = ('global', 'window', 'sliding', 'point', 'nothing')
COLUMN_TITLES = ('all positions', 'a fixed window', 'a sliding window', 'its own position', 'none')
CHANNELS = ('all channels', 'groups of channels', 'its own channel')
DYNAMIC = ('static', 'per image', 'per window', 'per position', 'dynamic')
RANKS = ('full rank', 'low rank')
# how many steps each choice is from the plainest: window and sliding are no step from each other
STEPS = ((0, 1, 1, 2, 3), (0, 1, 2), (0, 1, 1, 1, 1), (0, 1))
ARROWS = (
    ('sparser between positions', '#0072B2'),
    ('sparser between channels', '#009E73'),
    ('dynamic weights', '#D55E00'),
    ('low rank', '#CC79A7'),
)
LINE = 0.25  # height of a line of text
WIDTH = 3.2
GAP = (1.15, 0.75)

Point = tuple[float, float]


@dataclass(frozen=True, order=True)
class Kind:
    """A place in the graph: indices into COLUMNS, CHANNELS, DYNAMIC and RANKS."""

    positions: int
    channels: int
    dynamic: int
    rank: int

    @property
    def row(self) -> tuple[int, int, int]:
        return self.channels, self.dynamic, self.rank


@dataclass(frozen=True)
class Arrow:
    """From a kind to the next that differs in one thing alone: an index into ARROWS."""

    start: Kind
    end: Kind
    change: int


def kind_of(place: Place) -> Kind:
    """Return the kind of a mixer; its rank is low if it is at most half of what it could be.

    Reduced keys, few projected keys and products without an activation bound the rank by a part of the positions;
    an activation restores it, up to the few singular values that rounding hides.
    """
    channels = 0 if place.connected == place.channels else 2 if place.connected <= 1 else 1
    return Kind(
        COLUMNS.index(place.positions.kind),
        channels,
        DYNAMIC.index(place.dynamic),
        int(2 * place.rank <= place.full_rank),
    )


def arrows_between(kinds: Sequence[Kind]) -> list[Arrow]:
    """Return the arrows between kinds: one thing changes, by a step, and no kind lies between."""
    candidates = []
    for start, end in permutations(sorted(set(kinds)), 2):
        pairs = list(zip(astuple(start), astuple(end), strict=True))
        changes = [index for index, (one, other) in enumerate(pairs) if one != other]
        if len(changes) == 1 and _steps(start, end, changes[0]) > 0:
            candidates.append(Arrow(start, end, changes[0]))
    return [
        arrow
        for arrow in candidates
        if not any(
            other.start == arrow.start
            and other.change == arrow.change
            and any(last.start == other.end and last.end == arrow.end for last in candidates)
            for other in candidates
        )
    ]


def _steps(start: Kind, end: Kind, change: int) -> int:
    return STEPS[change][astuple(end)[change]] - STEPS[change][astuple(start)[change]]


def draw_graph(places: Sequence[Place], path: Path) -> Path:
    """Draw the relation graph of mixers that were probed; return the file."""
    boxes: dict[Kind, list[str]] = {}
    for place in places:
        boxes.setdefault(kind_of(place), []).extend(_lines(place))
    columns = sorted({kind.positions for kind in boxes})
    rows = sorted({kind.row for kind in boxes})
    lefts = {column: index * (WIDTH + GAP[0]) for index, column in enumerate(columns)}
    heights = {row: max(len(lines) for kind, lines in boxes.items() if kind.row == row) for row in rows}
    middles, bottom = {}, 0.0
    for row in rows:
        height = heights[row] * LINE + 0.3
        middles[row] = bottom - height / 2
        bottom -= height + GAP[1]
    right = max(lefts.values()) + WIDTH + 0.9
    figure = Figure(figsize=(right + 2.9, 1.7 - bottom))
    FigureCanvasAgg(figure)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=(-2.6, right + 0.3), ylim=(bottom - 0.2, 1.5))
    panel.set_axis_off()
    frames = {
        kind: _Box(lefts[kind.positions], middles[kind.row], len(lines) * LINE + 0.3)
        for kind, lines in boxes.items()
    }
    for kind, box in frames.items():
        box.draw(panel, boxes[kind])
    lanes = dict.fromkeys(lefts, 0)  # each way around boxes has a lane of its own at the right of its column
    for arrow in arrows_between(list(boxes)):
        around = _draw_arrow(panel, arrow, frames, lanes[arrow.start.positions])
        lanes[arrow.start.positions] += around
    _draw_titles(panel, lefts, middles, right)
    figure.savefig(path, dpi=110)
    return path


@dataclass(frozen=True)
class _Box:
    left: float
    middle: float
    height: float

    @property
    def centre(self) -> float:
        return self.left + WIDTH / 2

    def draw(self, panel: Axes, lines: Sequence[str]) -> None:
        shape = FancyBboxPatch(
            (self.left, self.middle - self.height / 2),
            WIDTH,
            self.height,
            boxstyle='round,pad=0,rounding_size=0.08',
            facecolor='#f4f4f4',
            edgecolor='#555555',
            linewidth=0.9,
            zorder=2,
        )
        panel.add_patch(shape)
        text = '\n'.join(lines)
        panel.text(
            self.centre, self.middle, text, ha='center', va='center', fontsize=9, linespacing=1.45, zorder=3
        )


def _draw_arrow(panel: Axes, arrow: Arrow, frames: dict[Kind, _Box], lane: int) -> bool:
    """Draw an arrow; past boxes that stand between it goes around. Return whether it took a lane for that."""
    start, end = frames[arrow.start], frames[arrow.end]
    if arrow.change == 0:
        points, around = _rightwards(start, end, list(frames.values())), False
    else:
        column = [box for box in frames.values() if box.left == start.left]
        around = any(end.middle < box.middle < start.middle for box in column)
        points = _aside(start, end, lane) if around else _downwards(start, end)
    color = ARROWS[arrow.change][1]
    panel.plot(*zip(*points[:-1], strict=True), color=color, linewidth=1.8, zorder=1, solid_joinstyle='round')
    head = dict(arrowstyle='-|>', mutation_scale=13, color=color, linewidth=1.8, shrinkA=0, shrinkB=0, zorder=4)
    panel.add_patch(FancyArrowPatch(*points[-2:], **head))
    return around


def _rightwards(start: _Box, end: _Box, boxes: Sequence[_Box]) -> list[Point]:
    between = [box for box in boxes if box.middle == start.middle and start.left < box.left < end.left]
    if not between:
        return [(start.left + WIDTH, start.middle), (end.left, end.middle)]
    up = start.middle + max(box.height for box in (start, end, *between)) / 2 + 0.2
    first, last = start.centre + 0.7, end.centre - 0.7
    top_of_start, top_of_end = (box.middle + box.height / 2 for box in (start, end))
    return [(first, top_of_start), (first, up), (last, up), (last, top_of_end)]


def _downwards(start: _Box, end: _Box) -> list[Point]:
    return [(start.centre, start.middle - start.height / 2), (end.centre, end.middle + end.height / 2)]


def _aside(start: _Box, end: _Box, lane: int) -> list[Point]:
    right, side = start.left + WIDTH, start.left + WIDTH + 0.3 + 0.15 * lane
    leave, enter = start.middle - 0.14, end.middle + 0.14
    return [(right, leave), (side, leave), (side, enter), (right, enter)]


def _draw_titles(panel: Axes, lefts: dict[int, float], middles: dict[tuple, float], right: float) -> None:
    top = 0.35
    panel.text(-2.4, top, 'an output sums', fontsize=9.5, color='#333333', va='center')
    for column, left in lefts.items():
        title = COLUMN_TITLES[column]
        panel.text(left + WIDTH / 2, top, title, ha='center', va='center', fontsize=11, fontweight='bold')
    for (channels, dynamic, rank), middle in middles.items():
        weights = DYNAMIC[dynamic] if dynamic in (0, 4) else f'dynamic, {DYNAMIC[dynamic]}'
        lines = [CHANNELS[channels], weights, *([RANKS[rank]] if rank else [])]
        panel.text(-2.4, middle, '\n'.join(lines), va='center', fontsize=9.5, linespacing=1.4, fontweight='bold')
    handles = [Line2D([], [], color=color, linewidth=2, label=label) for label, color in ARROWS]
    panel.legend(handles=handles, loc='upper right', ncols=4, frameon=False, fontsize=9.5)
    panel.text(-2.4, 1.15, 'Relations between mixers, as measured', fontsize=12.5, va='center')


def _lines(place: Place) -> list[str]:
    """The name of a mixer, the extent of what it sees where that is a part of the map, and its options below."""
    name, _, options = place.name.partition(':')
    if place.positions.kind in ('window', 'sliding'):
        name = f'{name} {str(place.positions).partition(" ")[2]}'
    return [name, *textwrap.wrap(options.replace(',', ', '), 40)]
