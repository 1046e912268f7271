"""Triton kernels that generate the kernels of the inhomogeneous convolution and apply them at once.

The generator is a 1x1 convolution of a reduced feature. Each program makes the kernels of its tile, a row of
taps at a time, with a matrix product and applies them to the input; what would be G * K * K values per position
is never written to memory. The gradients make the kernels, or their gradients, again. Sums over positions are
written per program and added up by torch, so that the same input gives the same bits.

Plain functions of tensors on one device: no autograd, no checks of shapes (those are in `contracts.py`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_blocks import apply_taps, place, spread, store_strip, threads_of, unstack
from .triton_generated_gradients import feature_gradient, generator_gradient
from .triton_matrices import block_of, feature_block, generator_block, precision, product
from .triton_support import as_channels_last, choose_tile, empty_map

_BLOCK = {2: 64, 4: 32}  # feature channels that a product takes at most, by the bytes of a value


@triton.jit
def _make_taps(
    feature,
    row_stride,
    weight,
    bias,
    y0,
    g0,
    x0,
    i,
    H,
    W,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
):
    """Row i of the kernels at padded_columns columns from x0 on: a tuple of padded_columns * taps tensors."""
    K: tl.constexpr = TILE.kernel_size
    STRIPS: tl.constexpr = TILE.strips
    COLUMNS: tl.constexpr = TILE.padded_columns
    GROUPS: tl.constexpr = TILE.groups
    TAPS: tl.constexpr = TILE.taps
    n = tl.arange(0, GROUPS * TAPS)
    group = g0 + n // TAPS
    live = (group < TILE.all_groups) & (n % TAPS < K)
    start = tl.load(bias + group * (K * K) + i * K + n % TAPS, mask=live, other=0.0).to(tl.float32)
    made = tl.broadcast_to(start[None, :], [STRIPS * COLUMNS, GROUPS * TAPS])
    if R <= BLOCK or feature.dtype.element_ty.primitive_bitwidth == 16:
        for r0 in tl.static_range(0, R, BLOCK):  # unrolled: the feature is then loaded once for all rows of taps
            f = feature_block(feature, row_stride, y0, x0, r0, H, W, R, BLOCK, TILE)
            made = product(f, tl.trans(generator_block(weight, g0, i, r0, R, BLOCK, TILE)), made, PRECISION)
    else:  # float32 would take more shared memory than a program may have on smaller GPUs, and spill
        for r0 in range(0, R, BLOCK):
            f = feature_block(feature, row_stride, y0, x0, r0, H, W, R, BLOCK, TILE)
            made = product(f, tl.trans(generator_block(weight, g0, i, r0, R, BLOCK, TILE)), made, PRECISION)
    made = tl.reshape(made.to(feature.dtype.element_ty), [STRIPS, COLUMNS, GROUPS, TAPS])
    made = tl.reshape(tl.permute(made, [0, 2, 1, 3]), [STRIPS * GROUPS, COLUMNS * TAPS])
    return unstack(spread(made, TILE.lanes), COLUMNS * TAPS)


@triton.jit(do_not_specialize=['H', 'W'])
def _apply_kernel(
    x,
    feature,
    weight,
    bias,
    out,
    x_image,
    x_row,
    feature_image,
    feature_row,
    H,
    W,
    BACK: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
):
    """out = the convolution of x, or (BACK) the gradient of its input, x being the gradient of its output."""
    C: tl.constexpr = TILE.channels
    K: tl.constexpr = TILE.kernel_size
    T: tl.constexpr = TILE.threads
    COLUMNS: tl.constexpr = TILE.padded_columns
    SEEN: tl.constexpr = TILE.columns + K - 1
    part, image, y0, x0 = place(H, W, TILE)
    y, group, channel = threads_of(part, y0, TILE)
    g0 = part // TILE.parts_of_group * TILE.groups
    live = (y < H) & (group < TILE.all_groups) & (channel < TILE.in_group)
    first = group * TILE.in_group + channel
    corner = x + image * x_image + (tl.cast(x0, tl.int64) - K // 2) * C + first
    feature += image * feature_image
    sums = (tl.zeros([T], tl.float32),) * (TILE.columns * TILE.per_thread)
    for step in range(K):
        i = tl.minimum(step, H + K)  # the same value, see triton_inhomogeneous.py
        dy = K // 2 - i if BACK else i - K // 2
        inside = live & (y + dy >= 0) & (y + dy < H)
        source = corner + (y + dy).to(tl.int64) * x_row
        if BACK:
            for u in tl.static_range(0, SEEN, COLUMNS):
                taps = _make_taps(
                    feature,
                    feature_row,
                    weight,
                    bias,
                    y0 + dy,
                    g0,
                    x0 - K // 2 + u,
                    i,
                    H,
                    W,
                    R,
                    BLOCK,
                    PRECISION,
                    TILE,
                )
                sums = apply_taps(sums, taps, source, inside, x0, W, channel, u, BACK, TILE)
        else:
            taps = _make_taps(feature, feature_row, weight, bias, y0, g0, x0, i, H, W, R, BLOCK, PRECISION, TILE)
            sums = apply_taps(sums, taps, source, inside, x0, W, channel, 0, BACK, TILE)
    store_strip(out + ((image * H + y) * W + x0) * C + first, sums, live, x0, W, channel, TILE)


def forward(x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int) -> Tensor:
    """The op `mmdwnet.ops.generated_depthwise_conv2d`; accumulates in float32.

    The generated kernels are rounded to the dtype of the feature, as a convolution would leave them.
    torch.backends.cuda.matmul.allow_tf32 governs the products of float32.

    Args:
        x: (B, C, H, W); read in place if channels_last, whatever the strides of rows and images, else copied.
        feature: (B, R, H, W), of x's dtype; likewise.
        weight: (G*K*K, R), of x's dtype; copied unless contiguous.
        bias: (G*K*K,).
        groups: G, a divisor of C.
        kernel_size: K, odd.

    Returns:
        Tensor (B, C, H, W), channels_last.

    Raises:
        NotImplementedError: float64.
    """
    return _apply(x, feature, weight, bias, groups, kernel_size, back=False)


def backward(
    grad: Tensor, x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `forward`.

    Args:
        grad: gradient of the output, (B, C, H, W); layouts as for `forward`, whose arguments the others are.

    Returns:
        Gradients of x and feature, channels_last, of weight and of bias, contiguous; in the dtypes of these.

    Raises:
        NotImplementedError: float64.
    """
    grad_x = _apply(grad, feature, weight, bias, groups, kernel_size, back=True)
    if x.numel() == 0:
        return grad_x, empty_map(feature), torch.zeros_like(weight), torch.zeros_like(bias)
    grad, x, feature = as_channels_last(grad), as_channels_last(x), as_channels_last(feature)
    grad_feature = feature_gradient(grad, x, feature, weight.contiguous(), groups, kernel_size)
    grad_weight, grad_bias = generator_gradient(grad, x, feature, groups, kernel_size)
    return grad_x, grad_feature, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)


def _apply(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int, back: bool
) -> Tensor:
    if x.dtype == torch.float64:
        raise NotImplementedError(
            'the Triton kernels of generated_depthwise_conv2d have no float64: use another impl'
        )
    batch, _, height, width = x.shape
    x, feature, out = as_channels_last(x), as_channels_last(feature), empty_map(x)
    if out.numel() == 0:
        return out
    tile = choose_tile(x, groups, kernel_size, for_dots=True)
    channels = feature.shape[1]
    with torch.cuda.device_of(x):
        _apply_kernel[(tile.positions(batch, height, width) * tile.parts,)](
            x,
            feature,
            weight.contiguous(),
            bias.contiguous(),
            out,
            x.stride(0),
            x.stride(2),
            feature.stride(0),
            feature.stride(2),
            height,
            width,
            back,
            channels,
            block_of(channels, _BLOCK[x.element_size()]),
            precision(),
            tile,
            num_warps=tile.warps,
            # of half precision unrolled, two take so much shared memory that a program fills a multiprocessor
            num_stages=1 if back and x.element_size() == 2 else 2,
        )
    return out
