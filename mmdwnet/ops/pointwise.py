"""A Linear over the channels of every position of a map, and an MLP of two, the fast way on each device.

On a CPU they run as 1x1 convolutions, which torch gives to oneDNN. `F.linear` in float32 goes to MKL's `sgemm`,
which reaches less than half of that on CPUs of other makers (118 against 264 thousand million multiply-adds a
second, measured on two cores of an AMD EPYC with AVX-512).

The hidden map of an MLP is four times its input. In inference on a CPU it is made a piece at a time, so that it
stays in the cache, and oneDNN applies the GELU while it writes it; GELU alone took a fifth of the time of DWNet-T
in bfloat16. In training it is kept once, before the GELU, and the GELU is computed again in the backward pass: a
fifth less memory for the activations of a network. `torch.compile` does both by itself and is given the plain
operations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .library import autocast_together
from .tracing import is_recorded

FUSED = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)  # torch's own, made for its compiler


# Elements of the hidden map that are made at once, 10 MB in float32: stays in the last cache of two cores.
HIDDEN_ELEMENTS = 2_500_000


def pointwise_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` over the channels of every position.

    Args:
        x: features, (B, C_in, H, W); channels_last memory, or the map is copied.
        weight: (C_out, C_in).
        bias: (C_out,) or None.

    Returns:
        Tensor (B, C_out, H, W), in channels_last memory.
    """
    if x.device.type == 'cpu':
        return F.conv2d(x, weight[:, :, None, None], bias)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)  # (B, C_out, H, W)


def linear_of_few_rows(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`linear` for a handful of rows and a weight of millions: as many products as there are weights to read.

    In float32 on a CPU the large matrix stands on the left: MKL's `sgemm` reads it twice as fast so (3.1 against
    1.3 ms for 8 rows, 192 to 37,632, two cores of an AMD EPYC), and the small result is transposed.

    Args:
        x: (rows, C_in).
        weight: (C_out, C_in).
        bias: (C_out,).

    Returns:
        Tensor (rows, C_out).
    """
    x, weight, bias = autocast_together(x.device.type, x, weight, bias)
    if x.device.type == 'cpu' and x.dtype == torch.float32:
        return torch.mm(weight, x.t()).t().contiguous() + bias
    return F.linear(x, weight, bias)


def pointwise_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Two Linear layers over the channels of every position, the exact GELU (with erf) between them.

    Args:
        x: features, (B, C, H, W); channels_last memory, or the map is copied.
        weight1, bias1: (C_hidden, C), (C_hidden,).
        weight2, bias2: (C_out, C_hidden), (C_out,).

    Returns:
        Tensor (B, C_out, H, W), in channels_last memory.
    """
    layers = weight1, bias1, weight2, bias2
    if is_recorded():
        return pointwise_linear(F.gelu(pointwise_linear(x, weight1, bias1)), weight2, bias2)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *layers)):
        hidden = pointwise_linear(x, weight1, bias1)
        return _GeluLinear.apply(*autocast_together(x.device.type, hidden, weight2, bias2))
    if x.device.type == 'cpu' and x.numel():
        return _mlp_in_pieces(*autocast_together('cpu', x, *layers))
    return pointwise_linear(F.gelu(pointwise_linear(x, weight1, bias1)), weight2, bias2)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer may be computed from its weights without being called.

    Not one that something has been put in the place of, an adapter or a parametrization, nor one with hooks, as
    pruning, feature extraction and counting have.
    """
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return type(module) is kind and not any(len(hook) for hook in hooks)


class _GeluLinear(torch.autograd.Function):
    """`pointwise_linear(gelu(x), weight, bias)` that keeps x and not gelu(x)."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return pointwise_linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_activated, grad_weight, grad_bias = _linear_gradients(grad, F.gelu(x), weight)
        return torch.ops.aten.gelu_backward(grad_activated, x), grad_weight, grad_bias


def _linear_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias of `pointwise_linear`."""
    if x.device.type == 'cpu':
        kernel, sizes = weight[:, :, None, None], ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        gradients = torch.ops.aten.convolution_backward(grad, x, kernel, [len(weight)], *sizes, [True] * 3)
        return gradients[0], gradients[1].flatten(1), gradients[2]
    grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)  # (B, H, W, C)
    rows = grad.flatten(0, 2)  # (B*H*W, C_out)
    return (grad @ weight).permute(0, 3, 1, 2), rows.t() @ x.flatten(0, 2), rows.sum(0)


def _mlp_in_pieces(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    fused = _onednn_takes(x, weight1, bias1)
    batch, channels, height, width = x.shape
    positions = batch * height * width
    out = x.new_empty(batch, height, width, len(weight2))
    # the positions of all images as the rows of one image: (1, C, B*H*W, 1) in channels_last memory
    rows = x.permute(0, 2, 3, 1).reshape(1, positions, 1, channels).permute(0, 3, 1, 2)
    at_once = max(1, HIDDEN_ELEMENTS // max(len(weight1), 1))
    pieces = -(-positions // at_once)
    at_once = -(-positions // pieces)  # of equal length
    for part, into in zip(rows.split(at_once, 2), out.view(positions, -1).split(at_once), strict=True):
        if fused:
            kernel = weight1[:, :, None, None]
            hidden = FUSED(part, kernel, bias1, [0, 0], [1, 1], [1, 1], 1, 'gelu', [], 'none')
        else:
            hidden = F.gelu(pointwise_linear(part, weight1, bias1))
        result = pointwise_linear(hidden, weight2, bias2)  # (1, C_out, positions, 1)
        into.copy_(result[0, :, :, 0].t())
    return out.permute(0, 3, 1, 2)


def _onednn_takes(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    if FUSED is None or not torch._C._get_mkldnn_enabled() or {weight.dtype, bias.dtype} != {x.dtype}:
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
