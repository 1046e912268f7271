"""What a CPU is good at: which of torch's libraries multiplies faster on it, and in which dtypes it computes.

torch has two libraries for a CPU, oneDNN and MKL, and chooses by the operation: convolutions go to the one and
products of matrices in float32 to the other. Which is faster depends on the instructions that the CPU has, so the
operations of this package ask here. What they compute is the same up to the rounding of sums. Measured on two
AMD EPYCs, with AVX-512 and with AVX2 alone, two cores of each (docs/speed.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .autocast import autocast_dtype, autocast_off, autocast_together
from .tracing import is_exported

# oneDNN's, which torch has for its compiler, without gradients: a convolution with an activation, and
# x @ weight.t() + bias
CONVOLUTION = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)
LINEAR = getattr(torch.ops.mkldnn, '_linear_pointwise', None)

_QUESTIONS = {torch.bfloat16: '_is_mkldnn_bf16_supported', torch.float16: '_is_mkldnn_fp16_supported'}


@torch.compiler.assume_constant_result
def onednn_computes(dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN and uses it for a dtype on this CPU."""
    if not (torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()):
        return False
    if dtype not in _QUESTIONS:
        return dtype == torch.float32
    question = getattr(torch.ops.mkldnn, _QUESTIONS[dtype], None)  # torch 2.1 has no float16 on a CPU
    return question is not None and question()


def onednn_multiplies(device_type: str, dtype: torch.dtype) -> bool:
    """Whether `onednn_product` can multiply matrices that torch gives to MKL, those in float32 on a CPU."""
    return device_type == 'cpu' and dtype == torch.float32 and LINEAR is not None and onednn_computes(dtype)


def onednn_product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b.t()` by oneDNN, (M, P) and (N, P), neither empty; it has no gradient."""
    return LINEAR(a, b, None, 'none', [], '')


def prefers_products() -> bool:
    """Whether 1x1 convolutions that are trained, and very deep ones, shall be products of matrices.

    With AVX2 alone oneDNN splits the gradients badly over several threads: for the weight of 384 to 1536 channels
    at 1568 positions, float32 on two cores, it takes 45 ms where they are a piece of one image, 17 for eight
    images, and the product 13. On one thread they are equal. With AVX-512 oneDNN is the faster one.
    """
    return torch.backends.cpu.get_cpu_capability() == 'AVX2'


def is_emulated(device_type: str, dtype: torch.dtype) -> bool:
    """Whether a dtype is a half precision that oneDNN does not compute in on this CPU.

    torch has loops of its own for it then, which take ten times as long as float32, some seventy times. A
    program that is exported is for another machine: there nothing is.
    """
    half = dtype in (torch.bfloat16, torch.float16)
    return half and device_type == 'cpu' and not is_exported() and not onednn_computes(dtype)


def lifted(compute: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Run `compute(*tensors)`, in float32 where the dtype of the tensors is emulated.

    Sums are in float32 either way, and the result is rounded to that dtype.
    """
    dtype = tensors[0].dtype
    one_dtype = all(tensor is None or tensor.dtype == dtype for tensor in tensors)
    if not (one_dtype and is_emulated(tensors[0].device.type, dtype)):
        return compute(*tensors)
    return _in_float32(compute, tensors).to(dtype)


def computed(compute: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Run `compute(*tensors)` by the autocast rule, and as `lifted`.

    In a region whose dtype is emulated, what is in float32 is taken as it is: no weight is copied.
    """
    device_type = tensors[0].device.type
    dtype = autocast_dtype(device_type)
    wide = any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors)
    if not wide and dtype is not None and is_emulated(device_type, dtype):
        return _in_float32(compute, tensors).to(dtype)
    return lifted(compute, *autocast_together(device_type, *tensors))


def _in_float32(compute: Callable[..., Tensor], tensors: tuple[Tensor | None, ...]) -> Tensor:
    with autocast_off('cpu'):
        return compute(*(None if tensor is None else tensor.float() for tensor in tensors))
