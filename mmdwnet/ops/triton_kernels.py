"""The Triton kernels as one implementation: what is in its way on a device, and a function per op and direction.

The kernels write channels_last maps; where an argument lies in memory otherwise, its gradient or the result is
copied into that layout, which is what the ops promise. Times on an NVIDIA H100: docs/speed.md.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import triton_support
from .tiled import laid_out


def obstacle(device: str | torch.device) -> str | None:
    """Why the kernels cannot run on tensors of a device, in a few words, or None."""
    return _obstacle(torch.device(device).type)


def gap(kind: str, dtype: torch.dtype) -> str | None:
    """What there is no kernel for, in a few words, or None: an op by the first word of its name, and a dtype."""
    if kind == 'generated' and dtype == torch.float64:
        return 'generated kernels have no Triton kernel for float64'
    return None


@functools.cache
def _obstacle(device_type: str) -> str | None:
    return triton_support.availability(device_type)


def depthwise_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As in `tiled.py`; so are the others."""
    from . import triton_dynamic  # here and below: imports Triton, which not every machine has

    one_for_all = weight.transpose(0, 1)  # (1, C, K, K)
    return laid_out(triton_dynamic.forward(x, one_for_all, bias), x)


def depthwise_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    from . import triton_dynamic

    grad_x, grad_weight = triton_dynamic.backward(grad, x, weight.transpose(0, 1))
    return _like_arguments((grad_x, grad_weight.transpose(0, 1)), x, weight)


def dynamic_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    from . import triton_dynamic

    return laid_out(triton_dynamic.forward(x, weight, bias), x)


def dynamic_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    from . import triton_dynamic

    return _like_arguments(triton_dynamic.backward(grad, x, weight), x, weight)


def inhomogeneous_forward(x: Tensor, weight: Tensor) -> Tensor:
    from . import triton_inhomogeneous

    return laid_out(triton_inhomogeneous.forward(x, weight), x)


def inhomogeneous_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    from . import triton_inhomogeneous

    return _like_arguments(triton_inhomogeneous.backward(grad, x, weight), x, weight)


def generated_forward(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> Tensor:
    from . import triton_generated

    return laid_out(triton_generated.forward(x, feature, weight, bias, groups, kernel_size), x)


def generated_backward(
    grad: Tensor, x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from . import triton_generated

    gradients = triton_generated.backward(grad, x, feature, weight, bias, groups, kernel_size)
    return _like_arguments(gradients, x, feature, weight, bias)


def _like_arguments(gradients: tuple[Tensor, ...], *arguments: Tensor) -> tuple[Tensor, ...]:
    return tuple(laid_out(gradient, argument) for gradient, argument in zip(gradients, arguments, strict=True))
