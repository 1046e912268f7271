"""From the Jacobians of a mixer to its row in table 1 of Han et al. (ICLR 2022); its type and code are not read.

Each answer is a comparison of rows of Jacobians on small maps:

    between positions     which positions an output depends on, and how they move from one output to the next
    between channels      which channels an output channel depends on
    sharing, positions    whether the weights by offset are equal at different positions
    sharing, channels     among how many channels the weights are equal
    dynamic               whether the weights differ for another input, and which part of it makes them
    rank                  of the matrix of the weights between all positions, within a channel
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bench import (
    DIAGONAL,
    EQUAL,
    LONG,
    LONG_MAPS,
    MAP,
    MIDDLE,
    SMALL_MAP,
    SPREAD,
    Bench,
    equal,
    equal_by_offset,
)
from .jacobians import View, makers, weights, whole
from .place import Place, Reach
from .subjects import Subject

# The singular values of random matrices of this size lie above this part of the largest, rounding below.
RANK = 1e-9


def probe(subject: Subject) -> Place:
    """Find the place of a mixer.

    Raises:
        ValueError: what comes out is no map of the same shape, or `mix` is not linear in the values.
    """
    bench = Bench(subject)
    three_steps = _check(bench)
    view = weights if three_steps else whole
    supports = bench.reached(view, MAP, SPREAD)
    reach = _reach(bench, view, supports)
    shared = _shared_positions(bench, view, supports, reach)
    connected = bench.channel_connections(view)
    changes = _changes(bench, view)
    if three_steps:
        sources = bench.reached(makers, MAP, SPREAD)
        made_from = _reach(bench, makers, sources)
        from_all = bool(sources.all() and not supports.all())
        dynamic = _dynamic(changes, shared, from_all)
        whole_reach = _reach(bench, whole, bench.reached(whole, MAP, SPREAD))
        whole_connected = bench.channel_connections(whole)
    else:
        made_from, dynamic = None, 'dynamic' if changes else 'static'
        whole_reach, whole_connected = reach, connected
    return Place(
        name=subject.name,
        channels=subject.channels,
        three_steps=three_steps,
        positions=reach,
        connected=int(connected.sum(1).max()),
        shared_positions=shared,
        shared_channels=_shared_channels(bench, view, connected),
        dynamic=dynamic,
        made_from=made_from,
        rank=_rank(bench, view),
        full_rank=MAP[0] * MAP[1],
        whole_positions=whole_reach,
        whole_connected=int(whole_connected.sum(1).max()),
    )


def _check(bench: Bench) -> bool:
    """Return whether the subject has the three steps of a `TokenMixer`; ValueError unless it can be probed."""
    mixer, x = bench.mixer(SMALL_MAP), bench.input(SMALL_MAP)
    name = bench.subject.name
    with torch.no_grad():
        try:
            y = mixer(x)
        except (RuntimeError, TypeError) as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{name}: a token mixer takes a map of shape {tuple(x.shape)}: {reason}') from error
        if not isinstance(y, Tensor) or y.shape != x.shape:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f'{name}: a token mixer keeps the shape of a map, {tuple(x.shape)}, got {got}')
        if not (callable(getattr(mixer, 'prepare', None)) and callable(getattr(mixer, 'mix', None))):
            return False
        values, source = mixer.prepare(x)
        others = bench.normal(*values.shape)
        constant = mixer.mix(torch.zeros_like(values), source)
        sums = mixer.mix(values, source) + mixer.mix(others, source) - constant
        error = (mixer.mix(values + others, source) - sums).abs().max() / sums.abs().max()
    if error > EQUAL:
        raise ValueError(f'{name}: mix must be linear in the values up to a constant, it is off by {error:.1g}')
    return True


def _reach(bench: Bench, view: View, supports: Tensor) -> Reach:
    """Tell what kind of connection the supports of the outputs at `SPREAD` are, bool (P, H, W)."""
    extent = _extent(supports)
    if extent == (0, 0):
        return Reach('nothing', extent)
    cut = supports
    for side, size in enumerate(LONG_MAPS):
        if extent[side] == MAP[side]:  # perhaps it reaches on
            positions = [(step, 1) if side == 0 else (1, step) for step in range(0, LONG, 5)]
            longer = bench.reached(view, size, positions)
            reached = _extent(longer)[side]
            extent = extent[:side] + (None if reached == LONG else reached,) + extent[side + 1 :]
            if supports.all() and not longer.all():
                cut = longer
    if extent == (None, None) and cut.all():
        return Reach('global', extent)
    own = all(support[position] for support, position in zip(supports, SPREAD, strict=True))
    if extent == (1, 1) and own:
        return Reach('point', extent)
    return Reach('window' if own and _are_parts(cut) else 'sliding', extent)


def _extent(supports: Tensor) -> tuple[int, int]:
    """The most rows, and the most columns, that one support of (P, H, W) spans."""
    return _span(supports.any(2)), _span(supports.any(1))


def _span(lines: Tensor) -> int:
    """The most steps from the first to the last true entry of a line, (P, L)."""
    lengths = [int(line.nonzero()[-1] - line.nonzero()[0]) + 1 for line in lines if line.any()]
    return max(lengths, default=0)


def _are_parts(supports: Tensor) -> bool:
    """Whether any two supports, (P, H, W), are the same or have nothing in common."""
    flat = supports.flatten(1).double()
    common, sizes = flat @ flat.T, flat.sum(1)
    same = (common == sizes) & (common == sizes.unsqueeze(1))
    return bool((same | (common == 0)).all())


def _shared_positions(bench: Bench, view: View, supports: Tensor, reach: Reach) -> str:
    """Compare the weights by offset at positions on the diagonal."""
    positions = DIAGONAL
    if reach.kind == 'sliding':  # away from borders, where a neighbourhood may be moved inwards
        at_border = supports[: len(DIAGONAL)].clone()
        at_border[:, 1:-1, 1:-1] = False
        touching = at_border.any(1).any(1)
        away = [position for position, touches in zip(positions, touching, strict=True) if not touches]
        positions = away if len(away) > 2 else positions
    cotangent = bench.normal(1, bench.channels).expand(len(positions), -1)
    found = bench.rows(view, bench.input(MAP), cotangent, positions)
    count = len(positions)
    size = found.abs().max()

    def alike(i: int, j: int) -> bool:
        return equal_by_offset(found[i], positions[i], found[j], positions[j], size)

    by_distance = [[alike(i, i + distance) for i in range(count - distance)] for distance in range(1, count)]
    if all(map(all, by_distance)):
        return 'yes'
    if any(by_distance[0]):
        return 'within windows'
    # the last distance is left out: one pair is no pattern
    return 'between windows' if any(map(all, by_distance[1:-1])) else 'no'


def _shared_channels(bench: Bench, view: View, connected: Tensor) -> int:
    """Among how many channels the weights of one position are equal; of uneven parts, the smallest."""
    one_each = torch.eye(bench.channels, dtype=torch.float64)
    found = bench.rows(view, bench.input(SMALL_MAP), one_each, [MIDDLE] * bench.channels)
    size = found.abs().max()
    kinds: list[list[Tensor]] = []
    for row, inputs in zip(found, connected, strict=True):
        kernel = row[inputs]  # (connected channels, H, W): in their order, wherever their group begins
        alike = next((kind for kind in kinds if equal(kind[0], kernel, size)), None)
        if alike is None:
            kinds.append([kernel])
        else:
            alike.append(kernel)
    return min(map(len, kinds))


def _changes(bench: Bench, view: View) -> bool:
    """Whether the weights of any position differ for another input."""
    cotangents = bench.normal(len(DIAGONAL), bench.channels)
    one, other = (bench.rows(view, bench.input(MAP), cotangents, DIAGONAL) for _ in range(2))
    return not equal(one, other, one.abs().max())


def _dynamic(changes: bool, shared: str, from_all: bool) -> str:
    """Name what has dynamic weights of its own.

    Args:
        changes: the weights differ for another input.
        shared: between which positions they are shared.
        from_all: they are made from all positions, though they weigh but some.
    """
    if not changes:
        return 'static'
    if shared == 'yes' or from_all:
        return 'per image'
    return 'per window' if shared == 'within windows' else 'per position'


def _rank(bench: Bench, view: View) -> int:
    """The rank of the weights between all positions of `MAP` within the first channel."""
    positions = [(row, column) for row in range(MAP[0]) for column in range(MAP[1])]
    first = torch.zeros(len(positions), bench.channels, dtype=torch.float64)
    first[:, 0] = 1
    found = bench.rows(view, bench.input(MAP), first, positions)[:, 0].flatten(1)  # (N, N)
    return int(torch.linalg.matrix_rank(found, rtol=RANK))
