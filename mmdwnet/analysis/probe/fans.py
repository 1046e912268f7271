"""The connections of a few outputs, measured along one row of a map: what a picture of connectivity shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .bench import MAP, Bench, Position, equal_by_offset
from .jacobians import not_zero, weights, whole
from .place import Place
from .subjects import Subject

ROW = 7
# (column, channel among those shown) of the outputs: two in one window of 7, and three channels in the next one,
# at the place of the first.
OUTPUTS = ((3, 0), (5, 0), (10, 0), (10, 1), (10, 2))


@dataclass(frozen=True)
class Fan:
    """The connections of one output.

    Args:
        column, channel: of the output; channels are counted among those of the picture.
        ends: (column, channel) of the inputs that are connected, and the weight as a part of the largest.
        kernel: outputs with the same number have the same weights.
    """

    column: int
    channel: int
    ends: tuple[tuple[int, int, float], ...]
    kernel: int


def channels_of(channels: int) -> list[int]:
    """The channels of a picture: two neighbours from each half."""
    return sorted({0, min(1, channels - 1), channels // 2, min(channels // 2 + 1, channels - 1)})


def fans(subject: Subject, place: Place) -> list[Fan]:
    """Measure the fans of a subject that was probed; without the three steps those of the whole module."""
    bench = Bench(subject)
    shown = channels_of(subject.channels)
    outputs = [(column, channel) for column, channel in OUTPUTS if channel < len(shown)]
    positions = [(ROW, column) for column, _ in outputs]
    cotangents = torch.eye(subject.channels, dtype=torch.float64)[[shown[channel] for _, channel in outputs]]
    found = bench.rows(weights if place.three_steps else whole, bench.input(MAP), cotangents, positions)
    there = not_zero(found)
    size = found.abs().max()
    kinds: list[tuple[Position, Tensor]] = []
    result = []
    for (column, channel), position, row, connected in zip(outputs, positions, found, there, strict=True):
        kernel = row[connected.flatten(1).any(1)]  # (connected channels, H, W)
        numbers = (
            number for number, (at, kind) in enumerate(kinds)
            if len(kind) == len(kernel) and equal_by_offset(kind, at, kernel, position, size)
        )  # fmt: skip
        number = next(numbers, len(kinds))
        if number == len(kinds):
            kinds.append((position, kernel))
        largest = row.abs().max()
        ends = tuple(
            (end, start, float(row[shown[start], ROW, end].abs() / largest))
            for start in range(len(shown))
            for end in range(MAP[1])
            if connected[shown[start], ROW, end]
        )
        result.append(Fan(column, channel, ends, number))
    return result
