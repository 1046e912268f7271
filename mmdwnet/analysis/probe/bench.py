"""Where a subject is measured: its mixers for a few sizes of map, random inputs, and comparing weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .jacobians import View, connections, rows
from .subjects import Subject

# More than two windows of 7 in each direction, and no multiple of 7.
MAP = (15, 16)
# Where every channel gets a row of its own, a smaller one.
SMALL_MAP = (9, 10)
# Each of these lies a row and a column further than the one before, so that a line of them shows both directions.
DIAGONAL = [(step, step) for step in range(min(MAP))]
# With a few along a row and a column: what slides in one direction alone does not overlap on the diagonal.
SPREAD = DIAGONAL + [(7, 7 + step) for step in (1, 2, 3)] + [(7 + step, 7) for step in (1, 2, 3)]
MIDDLE = SMALL_MAP[0] // 2, SMALL_MAP[1] // 2
# How far a mixer reaches that fills the others shows in a few positions of thin maps.
LONG = 41
LONG_MAPS = ((LONG, 3), (3, LONG))
# Equal weights that were summed in another order differ by some 1e-15 of the largest, others by far more.
EQUAL = 1e-9
SEED_OF_INPUTS = 1

Position = tuple[int, int]
Positions = Sequence[Position]


class Bench:
    """A subject, and the random inputs that it is probed on."""

    def __init__(self, subject: Subject):
        self.subject, self.channels = subject, subject.channels
        self.generator = torch.Generator().manual_seed(SEED_OF_INPUTS)
        self.mixers: dict[tuple[int, int], nn.Module] = {}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def mixer(self, size: tuple[int, int]) -> nn.Module:
        if size not in self.mixers:
            self.mixers[size] = self.subject.build(size)
        return self.mixers[size]

    def input(self, size: tuple[int, int]) -> Tensor:
        return self.normal(1, self.channels, *size)

    def reached(self, view: View, size: tuple[int, int], positions: Positions) -> Tensor:
        """Which positions outputs depend on, through any channel, bool (P, H, W)."""
        found = connections(
            view,
            self.mixer(size),
            lambda: self.input(size),
            lambda: self.normal(len(positions), self.channels),
            positions,
        )
        return found.any(1)

    def channel_connections(self, view: View) -> Tensor:
        """Which channels the channels of one output depend on, bool (C, C)."""
        one_each = torch.eye(self.channels, dtype=torch.float64)
        found = connections(
            view,
            self.mixer(SMALL_MAP),
            lambda: self.input(SMALL_MAP),
            lambda: one_each,
            [MIDDLE] * self.channels,
        )
        return found.flatten(2).any(2)

    def rows(self, view: View, x: Tensor, cotangents: Tensor, positions: Positions) -> Tensor:
        return rows(*view(self.mixer(tuple(x.shape[2:])), x), cotangents, positions)


def equal(one: Tensor, other: Tensor, size: Tensor) -> bool:
    """Whether two tensors of weights are the same, up to rounding of weights as large as `size`."""
    return one.shape == other.shape and bool((one - other).abs().max() <= EQUAL * size)


def equal_by_offset(one: Tensor, here: Position, other: Tensor, there: Position, size: Tensor) -> bool:
    """Whether the weights of outputs at two positions, (n, H, W), are equal at all offsets in the map for both."""
    parts = []
    for weights, mine, its in ((one, here, there), (other, there, here)):
        for side in (0, 1):
            length = weights.shape[1 + side]
            first = max(-mine[side], -its[side])
            last = length - max(mine[side], its[side])
            weights = weights.narrow(1 + side, mine[side] + first, last - first)
        parts.append(weights)
    return equal(*parts, size)
