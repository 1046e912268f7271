"""The oracles: every op in a few lines of plain torch, on any device, in any floating dtype, float64 too.

Everything else in this package is tested against these. They are written to be read; they are also what
`impl='reference'` runs, twice differentiable because torch's own operations are. Shapes are those of
`depthwise.py`, checked there.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Static: torch's grouped convolution. x (B, C, H, W), weight (C, 1, K, K)."""
    margins = [weight.shape[-1] // 2] * 2  # a list: torch 2.1 traces a single number as none at all
    return F.conv2d(x, weight, bias, padding=margins, groups=x.shape[1])


def dynamic(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Homogeneous: one grouped convolution in which every image has its own groups. weight (B, C, K, K)."""
    batch, channels, height, width = x.shape
    if batch == 0:
        return x.clone()
    kernel_size = weight.shape[-1]
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),  # (1, B*C, H, W)
        weight.reshape(batch * channels, 1, kernel_size, kernel_size),  # (B*C, 1, K, K)
        padding=[kernel_size // 2] * 2,
        groups=batch * channels,
    ).view(batch, channels, height, width)
    return out if bias is None else out + bias.view(1, channels, 1, 1)


def inhomogeneous(x: Tensor, weight: Tensor) -> Tensor:
    """Unfold the K x K neighbours of every position and weight them. weight (B, G, K, K, H, W)."""
    batch, channels, height, width = x.shape
    groups, kernel_size = weight.shape[1], int(weight.shape[2])  # a tensor under jit tracing, which unfold refuses
    patches = F.unfold(x, kernel_size, padding=kernel_size // 2)  # (B, C*K*K, H*W)
    patches = patches.view(batch, groups, channels // groups, kernel_size**2, height, width)
    kernels = weight.reshape(batch, groups, 1, kernel_size**2, height, width)
    return (patches * kernels).sum(3).view(batch, channels, height, width)  # (B, G, C/G, H, W)


def generated(x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int) -> Tensor:
    """Make the kernels of every position with a 1x1 convolution, then apply them. weight (G*K*K, R)."""
    kernels = F.conv2d(feature, weight[:, :, None, None], bias)  # (B, G*K*K, H, W)
    return inhomogeneous(x, kernels.unflatten(1, (groups, kernel_size, kernel_size)))
