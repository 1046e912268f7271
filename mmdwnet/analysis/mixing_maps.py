"""The weights of a mixer that a picture shows: at some places, of some channels, of some part of the map.

The weights themselves say whether they are a kernel that slides, a window, or of the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .watching import Place, Seen

# top, left, bottom, right; the last two are outside
Box = tuple[int, int, int, int]
MOST_GROUPS = 4  # that are drawn unless others are asked for


@dataclass(frozen=True)
class Row:
    """The weights of the chosen channels at one place.

    Args:
        place: of the output.
        maps: (channels, H, W).
        tokens: (channels, T).
    """

    place: Place
    maps: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Weights:
    """The weights of some channels at some places, and what part of the map they are of.

    Args:
        kind: 'map' (all of it), 'kernel' (a box that moves with the place; it may reach over the edge of the map,
            as a kernel does there) or 'window' (any other box).
        rows: per place.
        boxes: per row, what is not 0; all of the map for a token.
        names: of the channels.
        minus_mean: whether the mean over the places has been taken away.
    """

    kind: str
    rows: list[Row]
    boxes: list[Box]
    names: list[str]
    minus_mean: bool = False


def find_weights(
    seen: Seen,
    places: Sequence[Place],
    channels: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
) -> Weights:
    """Find the weights of a mixer's outputs.

    A mixer that mixes channels has weights for the values of all of them: those of the channel that counts most at
    the first place are taken, and the name says so.

    Args:
        seen: the mixer.
        places: of the outputs; tokens after the others.
        channels: of the outputs, from 0.
        groups: instead, numbers of groups of neighbouring channels that share their weights at these places, from
            0, the first channel of each; without either, up to four groups that are spread over all.

    Raises:
        UserError: there is no such channel or group.
    """
    channels, names = _choose_channels(seen, places, channels, groups)
    rows, inputs = _rows_at(seen, places, channels)
    names = [n if c == of else f'{n} from {of}' for n, c, of in zip(names, channels, inputs, strict=True)]
    kind, boxes = _boxes_of(rows, seen.size)
    return Weights(kind, rows, boxes, names)


def without_mean(found: Weights) -> Weights:
    """Take the mean over the places away from weights: what is left is what the place makes of them.

    Args:
        found: kernels, which are compared offset by offset, or weights of the whole map, position by position.

    Returns:
        The same without the rows of tokens, which are no places.

    Raises:
        UserError: windows, whose places lie at different offsets.
    """
    if found.kind == 'window':
        raise UserError(
            '--minus-mean: these weights are of windows, in which every place has other offsets: expected kernels '
            'that slide, or attention over the whole map'
        )
    pairs = [(r, box) for r, box in zip(found.rows, found.boxes, strict=True) if not isinstance(r.place, int)]
    mean = torch.stack([cut(row.maps, box) for row, box in pairs]).nanmean(0)  # (channels, K, K)
    mean_of_tokens = torch.stack([row.tokens for row, _ in pairs]).mean(0)
    rows = []
    for row, (top, left, _, _) in pairs:
        height, width = row.maps.shape[1:]
        # cut the other way round; no weight was outside of the box, and none is there now
        mean_there = cut(mean, (-top, -left, height - top, width - left)).nan_to_num(0)
        rows.append(Row(row.place, row.maps - mean_there, row.tokens - mean_of_tokens))
    return replace(found, rows=rows, boxes=[box for _, box in pairs], minus_mean=True)


def cut(maps: Tensor, box: Box) -> Tensor:
    """Cut a box out of maps, (..., H, W); what lies outside of them is nan."""
    height, width = maps.shape[-2:]
    top, left, bottom, right = box
    return F.pad(maps, (-left, right - width, -top, bottom - height), value=float('nan'))


def _choose_channels(
    seen: Seen, places: Sequence[Place], channels: Sequence[int] | None, groups: Sequence[int] | None
) -> tuple[list[int], list[str]]:
    """The channels that are asked for, or the first ones of groups, and their names, as in `find_weights`."""
    if channels is not None:
        _check_numbers('--channels', channels, seen.values.shape[1])
        return list(channels), [f'channel {channel}' for channel in channels]
    found = seen.groups(places)
    if groups is None:
        drawn = min(len(found), MOST_GROUPS)
        groups = [(2 * i + 1) * len(found) // (2 * drawn) for i in range(drawn)]
    _check_numbers('--groups', groups, len(found))
    chosen = [found[group] for group in groups]
    names = [f'channels {c[0]}-{c[-1]}' if len(c) > 1 else f'channel {c[0]}' for c in chosen]
    return [c[0] for c in chosen], names


def _check_numbers(option: str, numbers: Sequence[int], count: int) -> None:
    outside = [number for number in numbers if not 0 <= number < count]
    if outside:
        raise UserError(f'{option} {outside[0]}: this mixer has {count} of them, 0 to {count - 1}')


def _rows_at(seen: Seen, places: Sequence[Place], channels: Sequence[int]) -> tuple[list[Row], list[int]]:
    """A row per place, and for each channel the one whose values are weighed, as in `find_weights`."""
    inputs: list[int] = []
    found = []
    for place in places:
        pairs = [seen.weights(place, channel) for channel in channels]
        if not inputs:
            strengths = [of_map.abs().sum((1, 2)) for of_map, _ in pairs]
            inputs = [int(s.argmax()) if s.any() else c for s, c in zip(strengths, channels, strict=True)]
        of_map, of_tokens = (
            torch.stack([pair[part][i] for pair, i in zip(pairs, inputs, strict=True)]).cpu() for part in (0, 1)
        )
        found.append(Row(place, of_map, of_tokens))
    return found, inputs


def _boxes_of(rows: Sequence[Row], size: tuple[int, int]) -> tuple[str, list[Box]]:
    """The kind of the weights and a box per row, as in `Weights`."""
    whole = (0, 0, *size)
    found = [whole if isinstance(row.place, int) else _box_of(row.maps, row.place) for row in rows]
    moving = [i for i, row in enumerate(rows) if not isinstance(row.place, int)]
    if all(found[i] == whole for i in moving):
        return 'map', found
    offsets = [[edge - rows[i].place[j % 2] for j, edge in enumerate(found[i])] for i in moving]
    frame = [choose(edges) for choose, edges in zip((min, min, max, max), zip(*offsets, strict=True), strict=True)]
    frames = [tuple(edge + rows[i].place[j % 2] for j, edge in enumerate(frame)) for i in moving]
    if [found[i] for i in moving] != [_clipped(box, size) for box in frames]:
        return 'window', found
    for i, box in zip(moving, frames, strict=True):
        found[i] = box
    return 'kernel', found


def _box_of(maps: Tensor, place: tuple[int, int]) -> Box:
    """The smallest box with all weights that are not 0, of (channels, H, W); the place alone if all are."""
    used = (maps != 0).any(0)
    if not used.any():
        return place[0], place[1], place[0] + 1, place[1] + 1
    rows, columns = (used.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    return max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])
