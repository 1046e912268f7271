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

from .autocast import autocast_off
from .tracing import is_recorded

# oneDNN's, which torch has for its compiler: a convolution with an activation, and x @ weight.t() + bias
CONVOLUTION = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)
LINEAR = getattr(torch.ops.mkldnn, '_linear_pointwise', None)


def onednn_computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN is used and has this CPU's instructions for a dtype."""
    if not torch._C._get_mkldnn_enabled():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:  # torch 2.1 cannot say, and has no float16 on a CPU
        asked = getattr(torch.ops.mkldnn, '_is_mkldnn_fp16_supported', None)
        return asked is not None and asked()
    return dtype == torch.float32


def prefers_products() -> bool:
    """Whether gradients of a 1x1 convolution shall be products of matrices.

    With AVX2 alone oneDNN takes up to four times as long for them: 50 to 14 ms for the weight of 384 to 1536
    channels at 8 x 14 x 14 in float32. With AVX-512 it is the faster one.
    """
    return torch.backends.cpu.get_cpu_capability() == 'AVX2'


def is_emulated(x: Tensor) -> bool:
    """Whether a tensor is in a half precision that its CPU has no instructions for.

    torch computes then in loops of its own, 10 times as long as in float32, and 100 times in a backward pass.
    """
    half = x.dtype in (torch.bfloat16, torch.float16)
    return half and x.device.type == 'cpu' and not is_recorded() and not onednn_computes(x.dtype)


def lifted(compute: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Run `compute(*tensors)`, in float32 where the dtype of the first one is emulated.

    Sums are in float32 either way, and the result is rounded to that dtype.
    """
    if not is_emulated(tensors[0]):
        return compute(*tensors)
    with autocast_off('cpu'):
        result = compute(*(None if tensor is None else tensor.float() for tensor in tensors))
    return result.to(tensors[0].dtype)
