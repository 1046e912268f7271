"""Channels in the order in which kernels per position are applied fastest on a CPU.

Channel g * c + i of a map is the i-th of the c channels of group g. Where a product makes the kernels of a
position, neighbouring values are those of neighbouring groups, and channels in the order i * G + g meet them as
they are. What stands around the convolution works at every position by itself: its rows and columns are permuted
in place of the map, and a compiler that takes weights for constants does that once.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import is_plain, pointwise_linear


def to_groups_fastest(conv: nn.Conv2d, x: Tensor, groups: int) -> Tensor:
    """A 1x1 convolution whose result has its groups fastest."""
    return pointwise_linear(x, _permuted(conv.weight.flatten(1), groups), _permuted(conv.bias, groups))


def from_groups_fastest(conv: nn.Conv2d, x: Tensor, groups: int) -> Tensor:
    """A 1x1 convolution of a map that has its groups fastest; the result is as ever."""
    return pointwise_linear(x, _permuted(conv.weight.flatten(1), groups, dim=1), conv.bias)


def norm_of_groups_fastest(norm: nn.Module, x: Tensor, groups: int) -> Tensor:
    """A norm of a map that has its groups fastest; see `is_scale_and_shift`."""
    if type(norm) is nn.Identity:
        return x
    parameters = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return F.batch_norm(x, *(_permuted(values, groups) for values in parameters), eps=norm.eps)


def is_scale_and_shift(norm: nn.Module) -> bool:
    """Whether a norm is a BN in eval mode, which scales and shifts channels by known numbers, or none at all."""
    if is_plain(norm, nn.Identity):
        return True
    # of the kinds of BN, those that differ in the shapes that they accept alone
    fixed = isinstance(norm, _BatchNorm) and not norm.training and type(norm).forward is _BatchNorm.forward
    return fixed and is_plain(norm, type(norm)) and norm.running_mean is not None and norm.running_var is not None


def with_axis_of_groups(x: Tensor, groups: int) -> Tensor:
    """A map that has its groups fastest, (B, C, H, W) -> (B, G, C / G, H, W); a view."""
    return x.unflatten(1, (-1, groups)).transpose(1, 2)  # (B, C / G, G, H, W) before


def without_axis_of_groups(x: Tensor) -> Tensor:
    """The map again, (B, G, C / G, H, W) -> (B, C, H, W); a view."""
    return x.transpose(1, 2).flatten(1, 2)  # (B, C / G, G, H, W) before


def _permuted(values: Tensor | None, groups: int, dim: int = 0) -> Tensor | None:
    """Values per channel, or None, from the order g * c + i to i * G + g."""
    if values is None:
        return None
    return values.unflatten(dim, (groups, -1)).transpose(dim, dim + 1).flatten(dim, dim + 1)
