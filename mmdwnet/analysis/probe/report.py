"""The places of mixers as table 1 of Han et al. (ICLR 2022), a row each: for a terminal, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from .place import Place, Reach

TITLE = 'Where mixers stand, measured from their Jacobians'
HEADINGS = (
    'mixer',
    'between positions',
    'between channels',
    'shared across positions',
    'shared across channels',
    'dynamic weight',
    'weights made from',
    'rank',
    'whole: positions',
    'whole: channels',
)
LEGEND = (
    'The first seven columns are of the weighted sums alone: which positions and channels of the values an output '
    'sums, which outputs have equal weights, and what makes these. "whole" is the mixer from input to output, '
    'with its projections. Rank: of the weights between all positions within a channel.'
)
FORWARD_ONLY = (
    '* without the steps `prepare` and `mix` the Jacobian of the whole module takes the place of the weights; '
    'it does not tell weights that change from what they are made from.'
)


def cells(place: Place) -> list[str]:
    """The row of a mixer, a cell for each of `HEADINGS`."""
    return [
        place.name + ('' if place.three_steps else ' *'),
        _between(place.positions),
        _connected(place.connected, place.channels),
        place.shared_positions,
        _shared(place.shared_channels, place.channels),
        'no' if place.dynamic == 'static' else place.dynamic,
        _source(place),
        'full' if place.rank == place.full_rank else f'{place.rank} of {place.full_rank}',
        _between(place.whole_positions),
        _connected(place.whole_connected, place.channels),
    ]


def rich_table(places: Sequence[Place]) -> Table:
    """The table for a terminal."""
    table = Table(title=f'{TITLE} ({_channels(places)})', title_justify='left')
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, overflow='fold', no_wrap=number == 0)
    for place in places:
        table.add_row(*(Text(cell) for cell in cells(place)))
    return table


def legend(places: Sequence[Place]) -> list[str]:
    """What stands below the table."""
    return [LEGEND, *([] if all(place.three_steps for place in places) else [FORWARD_ONLY])]


def markdown(places: Sequence[Place]) -> str:
    """The table as Markdown."""
    lines = [list(HEADINGS), *map(cells, places)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ['-' * width for width in widths])
    text = '\n'.join(
        f'| {" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |' for line in lines
    )
    return f'### {TITLE}\n\n{_channels(places)}\n\n{text}\n' + ''.join(f'\n{line}\n' for line in legend(places))


def as_json(places: Sequence[Place]) -> list[dict]:
    """The places as plain data."""
    return [asdict(place) for place in places]


def _channels(places: Sequence[Place]) -> str:
    counts = sorted({place.channels for place in places})
    return f'{" or ".join(map(str, counts))} channels'


def _between(reach: Reach) -> str:
    return {'global': 'all', 'point': 'its own', 'nothing': 'none'}.get(reach.kind, str(reach))


def _source(place: Place) -> str:
    if place.made_from is None:
        return '?' if place.dynamic != 'static' else '-'
    return '-' if place.made_from.kind == 'nothing' else _between(place.made_from)


def _connected(count: int, channels: int) -> str:
    return 'none' if count <= 1 else 'all' if count == channels else f'groups of {count}'


def _shared(count: int, channels: int) -> str:
    return 'no' if count == 1 else 'all' if count == channels else f'groups of {count}'
