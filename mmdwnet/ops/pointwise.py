"""A Linear over the channels of every position of a map, and the GELU behind it, the fast way on each device.

On a CPU both halves of an MLP run as 1x1 convolutions, which torch gives to oneDNN. `F.linear` in float32 goes to
MKL's `sgemm`, which reaches less than half of that on CPUs of other makers (118 against 264 thousand million
multiply-adds a second, measured on two cores of an AMD EPYC with AVX-512). Where no gradient is asked for, oneDNN
applies the GELU while the result is still in the cache; alone it took a fifth of the time of DWNet-T in bfloat16.
`torch.compile` fuses by itself and is given the two operations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .library import autocast_together

_FUSED = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)  # torch's own, made for its compiler


def pointwise_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """`linear` over the channels of every position, and the exact GELU (with erf) if asked for.

    Args:
        x: features, (B, C_in, H, W); channels_last memory, or the map is copied.
        weight: (C_out, C_in).
        bias: (C_out,) or None.
        gelu: whether a GELU follows.

    Returns:
        Tensor (B, C_out, H, W), in channels_last memory.
    """
    if x.device.type != 'cpu':
        x = F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)  # (B, C_out, H, W)
        return F.gelu(x) if gelu else x
    weight = weight[:, :, None, None]  # (C_out, C_in, 1, 1)
    if gelu and _asks_no_gradient(x, weight, bias) and not _is_traced() and x.numel():
        cast = autocast_together('cpu', x, weight, bias)
        if _FUSED is not None and _onednn_takes(*cast):
            return _FUSED(*cast, [0, 0], [1, 1], [1, 1], 1, 'gelu', [], 'none')
    x = F.conv2d(x, weight, bias)
    return F.gelu(x) if gelu else x


def _asks_no_gradient(*tensors: Tensor | None) -> bool:
    return not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors))


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _onednn_takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not torch.backends.mkldnn.is_available() or {t.dtype for t in (weight, bias) if t is not None} != {x.dtype}:
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
