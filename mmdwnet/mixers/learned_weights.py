"""Weights that are learned per position: where they begin, and what they are for a map of another size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def learned_weights(*shape: int) -> nn.Parameter:
    """A parameter whose last dimension is summed over; it begins as the weight of torch's Linear does."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def check_count(value: int, option: str, name: str) -> None:
    """Raise ValueError unless the value of an option is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}: {option} must be a positive integer, got {value!r}')


def resize_summed(weights: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Weights of sums over a map, for a map of another size.

    Interpolated, and divided by how many times more positions there are, so that a sum over a map that does not
    change from position to position stays what it is.

    Args:
        weights: (R, H * W), a sum per row.
        size: (H, W).
        wanted: (H', W').

    Returns:
        Tensor (R, H' * W').
    """
    if size == wanted:
        return weights
    scale = size[0] * size[1] / (wanted[0] * wanted[1])
    return _interpolated(weights, size, wanted) * scale


def resize_per_position(weights: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """What is learned per output position, for a map of another size, (H * W, R) -> (H' * W', R)."""
    return weights if size == wanted else _interpolated(weights.t(), size, wanted).t()


def _interpolated(rows: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    maps = rows.unflatten(1, size).unsqueeze(1)  # (R, 1, H, W)
    return F.interpolate(maps, wanted, mode='bilinear', align_corners=False).flatten(1)
