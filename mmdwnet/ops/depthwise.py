"""Depth-wise convolutions whose kernels are data: one per image, or one per image and position.

Source: Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution" (ICLR
2022), section 3: homogeneous dynamic weights are shared by all positions of an image, inhomogeneous ones are
not. Plain torch, any device, one floating dtype for x and weight, empty batches too. Both ops use stride 1, pad
with K // 2 zeros on every side, and compute a correlation, as `torch.nn.functional.conv2d` does.

They span a ladder, which the tests hold them to: inhomogeneous with weights that are constant over the map
= dynamic; dynamic with weights that are constant over the batch = `conv2d(..., groups=C)`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depth-wise convolution with a kernel per image and channel.

    ``out[b, c, y, x] = bias[c] + sum_ij weight[b, c, i, j] * x[b, c, y + i - K // 2, x + j - K // 2]``

    Args:
        x: features, (B, C, H, W).
        weight: kernels, (B, C, K, K), K odd.
        bias: one value per channel, (C,), shared by the images.

    Returns:
        Tensor (B, C, H, W).

    Raises:
        ValueError: a shape does not fit the above.
    """
    if x.dim() != 4 or weight.dim() != 4 or weight.shape[:2] != x.shape[:2]:
        raise ValueError(
            'dynamic_depthwise_conv2d needs x (B, C, H, W) and weight (B, C, K, K) with the same B and C, got '
            f'x {tuple(x.shape)} and weight {tuple(weight.shape)}'
        )
    kernel_size = _odd_side(weight.shape[2:], 'dynamic_depthwise_conv2d')
    batch, channels, height, width = x.shape
    if bias is not None and bias.shape != (channels,):
        raise ValueError(
            f'dynamic_depthwise_conv2d needs bias ({channels},), a value per channel, got {tuple(bias.shape)}'
        )
    _same_dtype(x, weight, 'dynamic_depthwise_conv2d')
    if batch == 0:
        return x.clone()
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),  # (1, B*C, H, W): every image its own groups
        weight.reshape(batch * channels, 1, kernel_size, kernel_size),  # (B*C, 1, K, K)
        padding=kernel_size // 2,
        groups=batch * channels,
    ).view(batch, channels, height, width)
    return out if bias is None else out + bias.to(out.dtype).view(1, channels, 1, 1)  # stays in half precision


def inhomogeneous_depthwise_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Depth-wise convolution with a kernel per image, position and group of channels.

    Channel c uses the kernels of group ``c // (C / G)``:

    ``out[b, c, y, x] = sum_ij weight[b, g, i, j, y, x] * x[b, c, y + i - K // 2, x + j - K // 2]``

    Args:
        x: features, (B, C, H, W).
        weight: kernels, (B, G, K, K, H, W), G divides C, K odd.

    Returns:
        Tensor (B, C, H, W).

    Raises:
        ValueError: a shape does not fit the above.
    """
    fits = (
        x.dim() == 4
        and weight.dim() == 6
        and weight.shape[0] == x.shape[0]
        and weight.shape[4:] == x.shape[2:]
        and weight.shape[1] > 0
        and x.shape[1] % weight.shape[1] == 0
    )
    if not fits:
        raise ValueError(
            'inhomogeneous_depthwise_conv2d needs x (B, C, H, W) and weight (B, G, K, K, H, W) with the same '
            f'B, H, W and G a divisor of C, got x {tuple(x.shape)} and weight {tuple(weight.shape)}'
        )
    kernel_size = _odd_side(weight.shape[2:4], 'inhomogeneous_depthwise_conv2d')
    batch, channels, height, width = x.shape
    groups = weight.shape[1]
    _same_dtype(x, weight, 'inhomogeneous_depthwise_conv2d')
    patches = F.unfold(x, kernel_size, padding=kernel_size // 2)  # (B, C*K*K, H*W)
    patches = patches.view(batch, groups, channels // groups, kernel_size**2, height, width)
    kernels = weight.reshape(batch, groups, 1, kernel_size**2, height, width)
    return (patches * kernels).sum(3).view(batch, channels, height, width)  # (B, G, C/G, H, W)


def _same_dtype(x: Tensor, weight: Tensor, op: str) -> None:
    if x.dtype != weight.dtype:
        raise ValueError(f'{op} needs x and weight of one dtype, got {x.dtype} and {weight.dtype}')


def _odd_side(sides: torch.Size, op: str) -> int:
    if sides[0] != sides[1] or sides[0] % 2 == 0:
        raise ValueError(f'{op} needs square kernels of an odd side, got {sides[0]} x {sides[1]}')
    return int(sides[0])  # a tensor under jit tracing, which unfold refuses
