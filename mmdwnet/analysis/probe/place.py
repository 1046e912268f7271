"""What is known of a mixer once it is probed: its row in table 1 of Han et al. (ICLR 2022)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """Which positions an output depends on.

    Args:
        kind: 'nothing', 'point' (its own position), 'window' (the positions are cut into parts, an output sees its
            part), 'sliding' (a neighbourhood that moves with the output) or 'global'.
        extent: (rows, columns) that an output sees at most; None for a side that is as long as every map.
    """

    kind: str
    extent: tuple[int | None, int | None]

    def __str__(self) -> str:
        if self.kind in ('nothing', 'point', 'global'):
            return self.kind
        return f'{self.kind} {"x".join("all" if side is None else str(side) for side in self.extent)}'


@dataclass(frozen=True)
class Place:
    """What was measured of a mixer.

    Args:
        name: of the subject.
        channels: C that it was probed with.
        three_steps: it has `prepare` and `mix`, so that the weights are those of the sums alone; without, all is
            measured of the whole module, whose Jacobian takes the place of the weights.
        positions: where the values of an output come from.
        connected: how many channels they come from, 1 to C.
        shared_positions: 'yes', 'within windows', 'between windows' or 'no'.
        shared_channels: how many channels have equal weights, 1 to C.
        dynamic: 'static'; 'per image', 'per window' or 'per position', by what has weights of its own; without the
            three steps 'dynamic', for there a Jacobian does not tell the weights from what they are made from.
        made_from: which positions of the input make the weights of an output; None without the three steps.
        rank, full_rank: of the matrix of the weights between all positions of a small map, within a channel.
        whole_positions, whole_connected: of the whole module, with what stands around the sums.
    """

    name: str
    channels: int
    three_steps: bool
    positions: Reach
    connected: int
    shared_positions: str
    shared_channels: int
    dynamic: str
    made_from: Reach | None
    rank: int
    full_rank: int
    whole_positions: Reach
    whole_connected: int

    @property
    def low_rank(self) -> bool:
        return self.rank < self.full_rank
