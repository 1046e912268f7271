"""What the ops accept: shapes and dtypes, checked in one place, so that every implementation may rely on them."""

from __future__ import annotations

import torch
from torch import Tensor


def check_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """x (B, C, H, W), weight (C, 1, K, K), bias (C,) or None; ValueError otherwise."""
    op = 'depthwise_conv2d'
    if x.dim() != 4 or weight.dim() != 4 or weight.shape[:2] != (x.shape[1], 1):
        raise ValueError(
            f'{op} needs x (B, C, H, W) and weight (C, 1, K, K) with the same C, got '
            f'x {tuple(x.shape)} and weight {tuple(weight.shape)}'
        )
    _check_sides(weight.shape[2:], op)
    _check_bias(bias, x.shape[1], op, 'channel')
    _check_dtypes(x, op, weight=weight, bias=bias)


def check_dynamic(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """x (B, C, H, W), weight (B, C, K, K), bias (C,) or None; ValueError otherwise."""
    op = 'dynamic_depthwise_conv2d'
    if x.dim() != 4 or weight.dim() != 4 or weight.shape[:2] != x.shape[:2]:
        raise ValueError(
            f'{op} needs x (B, C, H, W) and weight (B, C, K, K) with the same B and C, got '
            f'x {tuple(x.shape)} and weight {tuple(weight.shape)}'
        )
    _check_sides(weight.shape[2:], op)
    _check_bias(bias, x.shape[1], op, 'channel')
    _check_dtypes(x, op, weight=weight, bias=bias)


def check_inhomogeneous(x: Tensor, weight: Tensor) -> None:
    """x (B, C, H, W), weight (B, G, K, K, H, W), G a divisor of C; ValueError otherwise."""
    op = 'inhomogeneous_depthwise_conv2d'
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
            f'{op} needs x (B, C, H, W) and weight (B, G, K, K, H, W) with the same B, H, W and G a divisor of C, '
            f'got x {tuple(x.shape)} and weight {tuple(weight.shape)}'
        )
    _check_sides(weight.shape[2:4], op)
    _check_dtypes(x, op, weight=weight)


def check_generated(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> None:
    """x (B, C, H, W) or (B, G, C / G, H, W), feature (B, R, H, W), weight (G*K*K, R), bias (G*K*K,).

    Raises:
        ValueError: otherwise.
    """
    op = 'generated_depthwise_conv2d'
    _check_sides((kernel_size, kernel_size), op)
    fits = (
        (x.dim() == 4 or (x.dim() == 5 and x.shape[1] == groups))
        and feature.dim() == 4
        and feature.shape[0] == x.shape[0]
        and feature.shape[2:] == x.shape[-2:]
        and groups > 0
        and x.shape[1] % groups == 0
        and weight.shape == (groups * kernel_size**2, feature.shape[1])
    )
    if not fits:
        raise ValueError(
            f'{op} needs x (B, C, H, W) or (B, G, C / G, H, W), feature (B, R, H, W) and weight (G*K*K, R) with '
            f'the same B, H, W and groups=G, a divisor of C, got x {tuple(x.shape)}, feature '
            f'{tuple(feature.shape)}, weight {tuple(weight.shape)}, groups={groups} and kernel_size={kernel_size}'
        )
    _check_bias(bias, weight.shape[0], op, 'row of weight')
    _check_dtypes(x, op, feature=feature, weight=weight, bias=bias)


def _check_sides(sides: tuple[int, int] | torch.Size, op: str) -> None:
    if sides[0] != sides[1] or sides[0] % 2 == 0:
        raise ValueError(f'{op} needs square kernels of an odd side, got {sides[0]} x {sides[1]}')


def _check_bias(bias: Tensor | None, length: int, op: str, per: str) -> None:
    if bias is not None and bias.shape != (length,):
        raise ValueError(f'{op} needs bias ({length},), a value per {per}, got {tuple(bias.shape)}')


def _check_dtypes(x: Tensor, op: str, **others: Tensor | None) -> None:
    if not x.is_floating_point():
        raise ValueError(f'{op} needs a floating dtype, got {x.dtype}')
    for name, tensor in others.items():
        if tensor is not None and tensor.dtype != x.dtype:
            raise ValueError(f'{op} needs x and {name} of one dtype, got {x.dtype} and {tensor.dtype}')
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f'{op} needs x and {name} on one device, got {x.device} and {tensor.device}')
