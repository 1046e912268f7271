"""The depth-wise convolutions with kernels as data, in a form that ONNX has words for.

ONNX's Conv takes neither a number of groups that depends on the batch nor a kernel per position. Pads, slices,
products and sums it has: the map is shifted by every offset of the kernel, and the shifted maps are weighted and
summed. A row of the kernel at a time: with K = 7 that is 86 nodes where an offset at a time is 287, and
onnxruntime 1.31 takes 2.9 ms where it takes 7.0 (dynamic, one image of 96 channels at 56 x 56, one CPU thread).

It is for the exporter, which puts it in the place of the ops: as torch code it is slow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted_dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`dynamic_depthwise_conv2d`: x (B, C, H, W), weight (B, C, K, K), bias (C,) -> (B, C, H, W)."""
    height = x.shape[2]
    shifted = _shifted_along_rows(x, weight.shape[3])  # (B, C, K, H + K - 1, W)
    products = [
        weight[:, :, i].unsqueeze(2) @ shifted[:, :, :, i : i + height].flatten(3)  # (1, K) @ (K, H*W)
        for i in range(weight.shape[2])
    ]
    return _sum(products).reshape(x.shape) + bias.view(-1, 1, 1)


def shifted_inhomogeneous_depthwise_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """`inhomogeneous_depthwise_conv2d`: x (B, C, H, W), weight (B, G, K, K, H, W) -> (B, C, H, W)."""
    height = x.shape[2]
    groups, kernel_size = weight.shape[1:3]
    shifted = _shifted_along_rows(x.unflatten(1, (groups, -1)), kernel_size)  # (B, G, C/G, K, H + K - 1, W)
    products = [
        (weight[:, :, i].unsqueeze(2) * shifted[..., i : i + height, :]).sum(3)  # (B, G, 1, K, H, W): of the group
        for i in range(kernel_size)
    ]
    return _sum(products).flatten(1, 2)


def _shifted_along_rows(x: Tensor, kernel_size: int) -> Tensor:
    """Pad (..., H, W) with zeros and stack what each column of a kernel meets: (..., K, H + K - 1, W)."""
    width = x.shape[-1]
    x = F.pad(x, (kernel_size // 2,) * 4).unsqueeze(-3)
    return torch.cat([x[..., j : j + width] for j in range(kernel_size)], -3)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
