"""Triton kernels of depth-wise convolutions whose kernels are the same at every position: per image, or static.

A thread owns a strip of a row and two or four neighbouring channels, which it loads together. The kernels, small
beside the map, are laid out (B, K, K, C) first, so that they are read along the channels too. Static kernels are
those of one image, read for all.

Plain functions of tensors on one device: no autograd, no checks of shapes (those are in `contracts.py`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_blocks import add_to
from .triton_support import as_channels_last, ceil_div, columns_for, empty_map, round_up_to_power_of_2

_BLOCK = 32  # channels of a program
_STRIPS = 8  # rows of a program, at most
_WARPS = 4
_APPLY_WARPS = 2  # four channels a thread: a tenth faster than two on an H100
_PROGRAMS = 1024  # what the gradient of the kernels is split into, on small batches


@triton.jit(do_not_specialize=['H', 'W'])
def _apply_kernel(
    x,
    weight,
    bias,
    out,
    x_image,
    x_row,
    weight_image,
    H,
    W,
    BACK: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out = the convolution of x, or (BACK) the gradient of its input, x being the gradient of its output."""
    ACC: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    BLOCKS: tl.constexpr = (C + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    channel = (pid % BLOCKS * BLOCK + tl.arange(0, BLOCK))[None, :]
    pid = pid // BLOCKS
    across = tl.cdiv(W, COLUMNS)
    x0 = pid % across * COLUMNS
    pid = pid // across
    down = tl.cdiv(H, STRIPS)
    y = (pid % down * STRIPS + tl.arange(0, STRIPS))[:, None]
    image = (pid // down).to(tl.int64)
    live = (y < H) & (channel < C)
    corner = x + image * x_image + ((tl.cast(x0, tl.int64) - K // 2) * C + channel)
    kernels = weight + image * weight_image + channel + tl.zeros_like(y)  # [STRIPS, BLOCK]: x's own layout
    start = tl.zeros([STRIPS, BLOCK], ACC)
    if bias is not None:
        start += tl.load(bias + channel, mask=channel < C, other=0.0).to(ACC)
    sums = (start,) * COLUMNS
    for step in range(K):
        i = tl.minimum(step, H + K)  # the same value, see triton_inhomogeneous.py
        row = y + i - K // 2
        inside = live & (row >= 0) & (row < H)
        source = corner + row.to(tl.int64) * x_row
        taps = ()
        for j in tl.static_range(K):
            tap = K * K - 1 - (i * K + j) if BACK else i * K + j
            taps = taps + (tl.load(kernels + tap * C, mask=live, other=0.0).to(ACC),)
        for u in tl.static_range(COLUMNS + K - 1):
            ok = inside & (x0 + u >= K // 2) & (x0 + u < W + K // 2)
            value = tl.load(source + u * C, mask=ok, other=0.0).to(ACC)
            for p in tl.static_range(COLUMNS):
                if u - p >= 0 and u - p < K:
                    sums = add_to(sums, p, taps[u - p] * value)
    target = out + (((image * H + y) * W + x0) * C + channel)
    for p in tl.static_range(COLUMNS):
        tl.store(target + p * C, sums[p].to(out.dtype.element_ty), mask=live & (x0 + p < W))


@triton.jit(do_not_specialize=['H', 'W', 'splits'])
def _weight_gradient_kernel(
    grad,
    x,
    out,
    grad_image,
    grad_row,
    x_image,
    x_row,
    H,
    W,
    splits,
    C: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A split (B, splits, K, K, C) of the gradient of the kernels: row i of the taps, every splits-th position."""
    ACC: tl.constexpr = out.dtype.element_ty
    BLOCKS: tl.constexpr = (C + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    channel = (pid % BLOCKS * BLOCK + tl.arange(0, BLOCK))[None, :]
    i = pid // BLOCKS % K
    split = pid // (BLOCKS * K)
    image = (split // splits).to(tl.int64)
    across = tl.cdiv(W, COLUMNS)
    sums = (tl.zeros([STRIPS, BLOCK], ACC),) * K
    for position in range(split % splits, across * tl.cdiv(H, STRIPS), splits):
        y = (position // across * STRIPS + tl.arange(0, STRIPS))[:, None]
        x0 = position % across * COLUMNS
        live = (y < H) & (channel < C)
        row = y + i - K // 2
        inside = live & (row >= 0) & (row < H)
        column = tl.cast(x0, tl.int64)
        above = grad + image * grad_image + y.to(tl.int64) * grad_row + (column * C + channel)
        under = x + image * x_image + row.to(tl.int64) * x_row + ((column - K // 2) * C + channel)
        slopes = ()
        for p in tl.static_range(COLUMNS):
            slopes = slopes + (tl.load(above + p * C, mask=live & (x0 + p < W), other=0.0).to(ACC),)
        for u in tl.static_range(COLUMNS + K - 1):
            ok = inside & (x0 + u >= K // 2) & (x0 + u < W + K // 2)
            value = tl.load(under + u * C, mask=ok, other=0.0).to(ACC)
            for p in tl.static_range(COLUMNS):
                if u - p >= 0 and u - p < K:
                    sums = add_to(sums, u - p, slopes[p] * value)
    target = out + (split.to(tl.int64) * K + i) * (K * C) + channel
    for j in tl.static_range(K):
        tl.store(target + j * C, tl.sum(sums[j], 0)[None, :], mask=channel < C)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The ops `dynamic_depthwise_conv2d` and `depthwise_conv2d` of `mmdwnet.ops`.

    Accumulates in float32, float64 in float64.

    Args:
        x: (B, C, H, W); read in place if channels_last, whatever the strides of rows and images, else copied.
        weight: (B, C, K, K), or (1, C, K, K) for all images; copied into (B, K, K, C) unless it is a view of such
            a tensor.
        bias: (C,), of any floating dtype.

    Returns:
        Tensor (B, C, H, W), channels_last.
    """
    return _apply(x, weight, bias, back=False)


def backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `forward`, but that of bias, which is the sum of grad.

    Args:
        grad: gradient of the output, (B, C, H, W); layouts as for `forward`.
        x: as in `forward`.
        weight: as in `forward`.

    Returns:
        Gradients of x, channels_last, and of weight, laid out as weight is.
    """
    grad_x = _apply(grad, weight, None, back=True)
    if x.numel() == 0:
        return grad_x, torch.zeros_like(weight)
    parts = _weight_gradient(grad, x, weight.shape[2])
    summed = parts.sum(1) if len(weight) == len(x) else parts.sum((0, 1)).unsqueeze(0)  # as weight, (., K, K, C)
    return grad_x, torch.empty_like(weight).copy_(summed.permute(0, 3, 1, 2))


def _weight_gradient(grad: Tensor, x: Tensor, kernel_size: int) -> Tensor:
    """The gradient of the kernels of every image in parts, (B, splits, K, K, C), which are to be added up."""
    batch, channels, height, width = x.shape
    grad, x = as_channels_last(grad), as_channels_last(x)
    strips, columns = _strips(height), columns_for(width, kernel_size)
    programs = batch * ceil_div(channels, _BLOCK) * kernel_size
    splits = min(max(1, _PROGRAMS // programs), ceil_div(height, strips) * ceil_div(width, columns))
    dtype = torch.promote_types(x.dtype, torch.float32)
    out = x.new_empty(batch, splits, kernel_size, kernel_size, channels, dtype=dtype)
    with torch.cuda.device_of(x):
        _weight_gradient_kernel[(programs * splits,)](
            grad,
            x,
            out,
            grad.stride(0),
            grad.stride(2),
            x.stride(0),
            x.stride(2),
            height,
            width,
            splits,
            channels,
            kernel_size,
            _BLOCK,
            strips,
            columns,
            num_warps=_WARPS,
        )
    return out


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None, back: bool) -> Tensor:
    (batch, channels, height, width), kernel_size = x.shape, weight.shape[2]
    x, out = as_channels_last(x), empty_map(x)
    if out.numel() == 0:
        return out
    weight = weight.permute(0, 2, 3, 1).contiguous()  # (B or 1, K, K, C)
    strips, columns = _strips(height), columns_for(width, kernel_size)
    programs = batch * ceil_div(channels, _BLOCK) * ceil_div(height, strips) * ceil_div(width, columns)
    with torch.cuda.device_of(x):
        _apply_kernel[(programs,)](
            x,
            weight,
            bias if bias is None else bias.contiguous(),
            out,
            x.stride(0),
            x.stride(2),
            0 if len(weight) == 1 else weight.stride(0),
            height,
            width,
            back,
            channels,
            kernel_size,
            _BLOCK,
            strips,
            columns,
            num_warps=_APPLY_WARPS,
        )
    return out


def _strips(height: int) -> int:
    return min(_STRIPS, round_up_to_power_of_2(height))
