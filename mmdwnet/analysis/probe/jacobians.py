"""Rows of Jacobians of a mixer, many at once, and where they are not zero.

Three functions are differentiated, each of maps (B, C, H, W) and each image by itself:

    weights     mix, with respect to the values: the weights themselves, for mix is linear in the values
    makers      what the weights give for fixed values, with respect to the input: what the weights are made from
    whole       the mixer from input to output, with what stands around the sums
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# A connection that is not there is a zero in exact arithmetic; in float64 sums that cancel leave some 1e-16 of
# what was summed. The weakest connection that is there, a key far off under a softmax, has some 1e-6 here.
ZERO = 1e-11
# Rounds of random inputs without any new connection after which no more are expected: behind a ReLU a connection
# shows in about half of the rounds, and the rows of a round are many.
PATIENCE = 4
MOST_ROUNDS = 40
# Rows of one pass: enough to be fast, few enough for the weights of global attention to stay small.
AT_ONCE = 32

Function = Callable[[Tensor], Tensor]
# from a mixer and an input (1, C, H, W): the function, and where it is differentiated, (1, C, H, W)
View = Callable[[nn.Module, Tensor], tuple[Function, Tensor]]


def weights(mixer: nn.Module, x: Tensor) -> tuple[Function, Tensor]:
    with torch.no_grad():
        values, source = mixer.prepare(x)

    def mix(values: Tensor) -> Tensor:
        return mixer.mix(values, source.expand(len(values), -1, -1, -1))

    return mix, values


def makers(mixer: nn.Module, x: Tensor) -> tuple[Function, Tensor]:
    with torch.no_grad():
        values, _ = mixer.prepare(x)

    def weighed(x: Tensor) -> Tensor:
        _, source = mixer.prepare(x)
        same = values.expand(len(x), -1, -1, -1)
        return mixer.mix(same, source) - mixer.mix(torch.zeros_like(same), source)  # without the constant of mix

    return weighed, x


def whole(mixer: nn.Module, x: Tensor) -> tuple[Function, Tensor]:
    return mixer, x


def rows(function: Function, x: Tensor, cotangents: Tensor, positions: Sequence[tuple[int, int]]) -> Tensor:
    """Return a row of the Jacobian for each position, (P, C, H, W).

    Args:
        function: of (P, C, H, W), each image by itself.
        x: where it is differentiated, (1, C, H, W).
        cotangents: how the channels of the outputs are summed, (P, C).
        positions: of the outputs, P of them.
    """
    parts = []
    for first in range(0, len(positions), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        parts.append(_rows(function, x, cotangents[part], positions[part]))
    return torch.cat(parts)


def _rows(function: Function, x: Tensor, cotangents: Tensor, positions: Sequence[tuple[int, int]]) -> Tensor:
    x = x.detach().repeat(len(positions), 1, 1, 1).requires_grad_()
    with torch.enable_grad():
        down, across = torch.tensor(positions).unbind(1)
        outputs = function(x)[torch.arange(len(positions)), :, down, across]  # (P, C)
        if not outputs.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad((outputs * cotangents).sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def connections(
    view: View,
    mixer: nn.Module,
    inputs: Callable[[], Tensor],
    cotangents: Callable[[], Tensor],
    positions: Sequence[tuple[int, int]],
) -> Tensor:
    """Return what outputs depend on for some input, bool (P, C, H, W): the union over random inputs.

    Args:
        view: one of `weights`, `makers` and `whole`.
        mixer: the mixer.
        inputs: draws an input, (1, C, H, W).
        cotangents: draws how the channels of the outputs are summed, (P, C).
        positions: of the outputs, P of them.
    """
    found, quiet = None, 0
    for _ in range(MOST_ROUNDS):
        function, x = view(mixer, inputs())
        seen = not_zero(rows(function, x, cotangents(), positions))
        new = found is None or bool((seen & ~found).any())
        found = seen if found is None else found | seen
        quiet = 0 if new else quiet + 1
        if quiet == PATIENCE:
            break
    return found


def not_zero(rows: Tensor) -> Tensor:
    """Which entries of rows (P, C, H, W) are connections; a row that is small as a whole is rounding too."""
    size = rows.abs()
    return size > ZERO * size.amax((1, 2, 3), keepdim=True).clamp(min=1e-3)
