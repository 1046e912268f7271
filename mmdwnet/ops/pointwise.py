"""A Linear over the channels of every position of a map, and an MLP of two, the fast way on each device.

On a CPU they run as 1x1 convolutions, which torch gives to oneDNN. `F.linear` in float32 goes to MKL's `sgemm`,
which reaches less than half of that on CPUs of other makers (118 against 264 thousand million multiply-adds a
second, measured on two cores of an AMD EPYC with AVX-512). With AVX2 alone the two are equal, but for backward
passes and very deep sums, in which MKL is faster (`cpu.py`).

Gradients of weights are the slowest part of such a convolution's backward pass, and are products of matrices where
that is faster: in an MLP in float32 oneDNN's, of wide layers in bfloat16, and with AVX2 alone always.

The hidden map of an MLP is four times its input. On a CPU it is made a piece at a time, so that it stays in the
cache, and in inference oneDNN applies the GELU while it writes it; GELU alone took a fifth of the time of DWNet-T
in bfloat16. In training the map is kept once, before the GELU, and the GELU is computed again in the backward
pass, which goes through both layers a piece at a time too: a fifth less memory for the activations of a network.
`torch.compile` does both by itself and is given the plain operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

from .autocast import autocast_off
from .cpu import (
    CONVOLUTION,
    computed,
    onednn_computes,
    onednn_multiplies,
    onednn_product,
    prefers_products,
)
from .flat_maps import added
from .tracing import is_compiling, is_recorded, is_transformed, looks_into_modules

# Bytes of the hidden map that are made at once: they stay in the last cache of two cores.
HIDDEN_BYTES = 5_000_000
# Weights of a layer beyond which products of matrices train it in bfloat16, and not convolutions, for oneDNN's
# gradient of so many is slow: two cores of an AMD EPYC with AVX-512 take 4.5 and 2.2 ms for that of 768 to 3072
# channels at 8 x 7 x 7, 3.2 and 2.7 for all gradients of 768 to 768, and as long for 384 to 384 at 14 x 14.
WIDE = 500_000
# Channels beyond which a CPU with AVX2 alone shall not convolve: on two cores oneDNN takes 51 ms for a piece of
# 392 positions from 3072 to 768, and MKL 14.
DEEP = 2048


def pointwise_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` over the channels of every position.

    Args:
        x: features, (B, C_in, H, W); channels_last memory, or the map is copied.
        weight: (C_out, C_in).
        bias: (C_out,) or None.

    Returns:
        Tensor (B, C_out, H, W), in channels_last memory if x is.
    """
    if x.device.type != 'cpu':
        return _product(x, weight, bias)
    return computed(_linear_on_cpu, x, weight, bias)


def _linear_on_cpu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if is_recorded():  # the compiler chooses by itself
        return _convolution(x, weight, bias)
    trains = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    multiplies = trains and _is_wide(x, weight)
    if prefers_products():
        multiplies = trains or weight.shape[1] > DEEP
    return (_product if multiplies else _convolution)(x, weight, bias)


def _is_wide(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and weight.numel() > WIDE


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight[:, :, None, None], bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
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
    return computed(_few_rows, x, weight, bias)


def _few_rows(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
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
    if is_recorded() or is_transformed():
        return pointwise_linear(F.gelu(pointwise_linear(x, weight1, bias1)), weight2, bias2)
    return computed(_mlp, x, weight1, bias1, weight2, bias2)


def _mlp(*arguments: Tensor) -> Tensor:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments):
        return _Mlp.apply(*arguments)
    return _both_layers_of_map(*arguments, keeps=False)[0]


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer may be computed from its weights without being called.

    Not one that something has been put in the place of, an adapter or a parametrization, nor one with a `forward`
    of its own, as offloading gives it, nor one with hooks, as pruning, feature extraction and counting have, its
    own or those of all modules.
    """
    if (looks_into_modules or not is_compiling()) and 'forward' in vars(module):
        return False
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    of_all = (
        all_modules._global_forward_hooks,
        all_modules._global_forward_pre_hooks,
        all_modules._global_backward_hooks,
        all_modules._global_backward_pre_hooks,
    )
    return type(module) is kind and not any(len(hooks) for hooks in (*own, *of_all))


class _Mlp(torch.autograd.Function):
    """The MLP, keeping its input and the hidden map before the GELU; on a CPU a piece at a time."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2):
        out, hidden = _both_layers_of_map(x, weight1, bias1, weight2, bias2, keeps=True)
        ctx.save_for_backward(x, weight1, bias1, weight2, *hidden)
        return out

    @staticmethod
    def backward(ctx, grad):
        with autocast_off(grad.device.type):  # where the forward pass was outside such a region and this is inside
            return _Mlp._backward(ctx, grad)

    @staticmethod
    def _backward(ctx, grad):
        x, weight1, bias1, weight2, *hidden = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives: the hidden map is a function of the arguments
            hidden = [pointwise_linear(x, weight1, bias1)]
        elif _is_cut(x):
            return _gradients_in_pieces(grad, x, weight1, hidden, weight2, ctx.needs_input_grad)
        return _gradients(grad, x, weight1, *hidden, weight2, ctx.needs_input_grad)


def _both_layers_of_map(x: Tensor, *layers: Tensor, keeps: bool) -> tuple[Tensor, list[Tensor]]:
    """The MLP of a map, in pieces or not; and its hidden map before the GELU, in as many, if that is kept."""
    return (_mlp_in_pieces if _is_cut(x) else _both_layers)(x, *layers, keeps)


def _is_cut(x: Tensor) -> bool:
    """Whether the MLP takes a map in pieces: no other device has to, and an empty map has none."""
    return x.device.type == 'cpu' and x.numel() > 0


def _mlp_in_pieces(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keeps: bool
) -> tuple[Tensor, list[Tensor]]:
    """The MLP of a map that is not empty; and its hidden map before the GELU, in pieces, if that is kept."""
    layers, pieces = (weight1, bias1, weight2, bias2), _number_of_pieces(x, weight1)
    if pieces == 1:
        out, hidden = _both_layers(*_pieces(x, 1), *layers, keeps)
        return _as_map(out, x), hidden
    out, hidden = x.new_empty(x.shape[0], *x.shape[2:], len(weight2)).permute(0, 3, 1, 2), []
    for part, into in zip(_pieces(x, pieces), _pieces(out, pieces), strict=True):
        out_part, kept = _both_layers(part, *layers, keeps)
        into.copy_(out_part)
        hidden += kept
    return out, hidden


def _both_layers(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keeps: bool
) -> tuple[Tensor, list[Tensor]]:
    """The MLP of a map or of a piece; and its hidden map before the GELU, if that is kept."""
    if not keeps and _onednn_activates(x, weight1, bias1):
        kernel = weight1[:, :, None, None]
        activated = CONVOLUTION(x, kernel, bias1, [0, 0], [1, 1], [1, 1], 1, 'gelu', [], 'none')
        return pointwise_linear(activated, weight2, bias2), []
    hidden = pointwise_linear(x, weight1, bias1)
    return pointwise_linear(_gelu(hidden), weight2, bias2), [hidden] * keeps


def _gradients_in_pieces(
    grad: Tensor, x: Tensor, weight1: Tensor, hidden: Sequence[Tensor], weight2: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """As `_gradients`, the hidden map in pieces; those of weights and biases are summed up in float32.

    These are contiguous, as weights are: a gradient in another order is copied by whoever keeps it.
    """
    if len(hidden) == 1:
        of_x, *of_layers = _gradients(*_pieces(grad, 1), *_pieces(x, 1), weight1, *hidden, weight2, wanted)
        of_layers = (None if gradient is None else gradient.contiguous() for gradient in of_layers)
        return (None if of_x is None else _as_map(of_x, x)), *of_layers
    grad_x = torch.empty_like(x, memory_format=torch.channels_last) if wanted[0] else None
    sums: list[Tensor | None] = [None] * 4
    # where nothing is wanted of the input, its own pieces stand in and are not written
    maps = grad, x, x if grad_x is None else grad_x
    parts = (_pieces(tensor, len(hidden)) for tensor in maps)
    for above, part, into, hidden_part in zip(*parts, hidden, strict=True):
        of_part, *of_layers = _gradients(above, part, weight1, hidden_part, weight2, wanted)
        if of_part is not None:
            into.copy_(of_part)
        sums = [added(total, gradient) for total, gradient in zip(sums, of_layers, strict=True)]
    return grad_x, *(None if total is None else total.to(x.dtype).contiguous() for total in sums)


def _gradients(
    grad: Tensor, x: Tensor, weight1: Tensor, hidden: Tensor, weight2: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight1, bias1, weight2 and bias2 of the MLP, None for what is not wanted."""
    first, second = wanted[:3], wanted[3:]
    activated = _gelu(hidden) if second[0] else hidden  # of which only the weight's gradient is made
    grad_activated, *of_second = _linear_gradients(grad, activated, weight2, (any(first), *second))
    if not any(first):
        return None, None, None, *of_second
    rows, hidden_rows = (tensor.permute(0, 2, 3, 1) for tensor in (grad_activated, hidden))  # see `_gelu`
    if torch.is_grad_enabled() or rows.device.type != 'cpu':
        rows = torch.ops.aten.gelu_backward(rows, hidden_rows)
    else:  # in place: it is in the cache, and nothing else needs it. Elsewhere vmap would have no rule for that.
        torch.ops.aten.gelu_backward.grad_input(rows, hidden_rows, grad_input=rows)
    grad_hidden = rows.permute(0, 3, 1, 2)
    return *_linear_gradients(grad_hidden, x, weight1, first), *of_second


def _gelu(x: Tensor) -> Tensor:
    """GELU of a channels_last map: on a CPU oneDNN's, twice as fast, where torch calls the memory contiguous."""
    return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _linear_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias of `pointwise_linear`, None for what is not wanted.

    On a CPU with AVX-512 they are a convolution's, or that of the weight a product, in float32 oneDNN's; with AVX2
    alone, and on other devices, they are products.
    """
    of_x, of_weight, of_bias = wanted
    convolves = x.device.type == 'cpu' and not prefers_products()
    kernel, sizes = weight[:, :, None, None], ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    # oneDNN's product takes nothing that is empty, and cannot be differentiated
    suits_onednn = x.numel() > 0 and not torch.is_grad_enabled()
    by_onednn = convolves and suits_onednn and onednn_multiplies(x.device.type, x.dtype)
    if convolves and not by_onednn and not _is_wide(x, weight):
        grad_x, grad_kernel, grad_bias = torch.ops.aten.convolution_backward(
            grad, x, kernel, [len(weight)], *sizes, list(wanted)
        )
        return grad_x, grad_kernel.flatten(1) if of_weight else None, grad_bias
    grad_x = None
    if of_x and convolves:
        alone = [True, False, False]  # with the bias torch makes the gradient of the weight too, and drops it
        grad_x = torch.ops.aten.convolution_backward(grad, x, kernel, None, *sizes, alone)[0]
    grad_rows, x_rows = (tensor.permute(0, 2, 3, 1).flatten(0, 2) for tensor in (grad, x))  # (B*H*W, C)
    if of_x and not convolves:
        grad_x = _as_map(grad_rows @ weight, x)
    grad_weight = None
    if of_weight:
        grad_weight = _product_by_onednn(grad_rows, x_rows) if by_onednn else grad_rows.t() @ x_rows
    return grad_x, grad_weight, grad_rows.sum(0) if of_bias else None


def _product_by_onednn(grad: Tensor, x: Tensor) -> Tensor:
    """`grad.t() @ x`, (P, C_out) and (P, C_in), of any memory -> (C_out, C_in).

    A result of more rows than columns is made transposed, and stays so in memory.

    On two cores of an AMD EPYC with AVX-512 that of 768 to 3072 channels at 8 x 7 x 7 takes 10.5 ms so, 12.2 with
    its own rows, and 19 as a part of a convolution's backward pass; of 192 to 768 at 1568 positions 2.9, 4.4, 3.4.
    """
    grad, x = grad.contiguous(), x.contiguous()  # what is dense already is not copied
    if grad.shape[1] > x.shape[1]:
        return onednn_product(x.t(), grad.t()).t()
    return onednn_product(grad.t(), x.t())


def _number_of_pieces(x: Tensor, weight: Tensor) -> int:
    """Into how many pieces the hidden map of an input x is cut, so that one stays in the cache.

    Args:
        x: the input of the MLP.
        weight: of its first layer.
    """
    at_once = max(1, HIDDEN_BYTES // max(len(weight) * x.element_size(), 1))
    return -(-x.shape[0] * x.shape[2] * x.shape[3] // at_once)


def _pieces(tensor: Tensor, pieces: int) -> tuple[Tensor, ...]:
    """A map (B, C, H, W) cut into so many pieces of equal length, (1, C, P, 1) in channels_last memory.

    They are views, if the map is in such memory.
    """
    # the positions of all images as the rows of one image: (1, C, B*H*W, 1)
    rows = tensor.permute(0, 2, 3, 1).reshape(1, -1, 1, tensor.shape[1]).permute(0, 3, 1, 2)
    return rows.split(-(-rows.shape[2] // pieces), 2)


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """The channels_last map (B, C', H, W) of the size of `like` of its rows, (B*H*W, C') or (1, C', B*H*W, 1)."""
    if rows.dim() == 4:
        rows = rows.permute(0, 2, 3, 1)
    return rows.contiguous().view(like.shape[0], *like.shape[2:], rows.shape[-1]).permute(0, 3, 1, 2)


def _onednn_activates(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether oneDNN shall apply the GELU of a 1x1 convolution itself; in float16 that was not measured."""
    one_dtype = x.dtype == weight.dtype == bias.dtype != torch.float16
    return CONVOLUTION is not None and _is_cut(x) and one_dtype and onednn_computes(x.dtype)
