"""Channels in the order in which kernels per position are applied fastest on a CPU.

A map of G groups of c channels has channel g * c + i where the i-th of group g is meant. Where the kernels of a
position are made by a product, neighbouring values are of neighbouring groups, and channels in the order i * G + g
meet them without a permutation. The layers around the convolution work at every position by itself: their rows and
columns are permuted instead of the map, which costs next to nothing, and nothing where a compiler freezes weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import is_plain


def groups_fastest(values: Tensor, groups: int, dim: int = 0) -> Tensor:
    """Permute the channels on an axis from g * c + i to i * G + g; a copy."""
    return values.unflatten(dim, (groups, -1)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def with_axis_of_groups(x: Tensor, groups: int) -> Tensor:
    """A map whose groups run fastest, (B, C, H, W) -> (B, G, c, H, W); a view."""
    return x.unflatten(1, (-1, groups)).transpose(1, 2)


def without_axis_of_groups(x: Tensor) -> Tensor:
    """The map again, (B, G, c, H, W) -> (B, C, H, W), groups fastest; a view."""
    return x.transpose(1, 2).flatten(1, 2)


def permutes(norm: nn.Module) -> bool:
    """Whether `normalised` does what the norm does: none at all, or a BN that only scales and shifts."""
    if type(norm) is nn.Identity:
        return True
    plain = any(is_plain(norm, kind) for kind in (nn.BatchNorm2d, nn.SyncBatchNorm))
    return plain and not norm.training and norm.track_running_stats and norm.affine


def normalised(norm: nn.Module, x: Tensor, groups: int) -> Tensor:
    """Apply a norm to a map whose groups run fastest, (B, C, H, W)."""
    if type(norm) is nn.Identity:
        return x
    parameters = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return F.batch_norm(x, *(groups_fastest(values, groups) for values in parameters), eps=norm.eps)
