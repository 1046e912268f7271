"""Triton kernels of the inhomogeneous dynamic depth-wise convolution, forward and backward.

They read the kernels where the 1x1 convolution that makes them puts them: in its channels_last output
(B, G*K*K, H, W), in either order of its channels. Group fastest, (K, K, G), is the better one: a thread's loads
are coalesced as they are. Tap fastest, (G, K, K), the order of the published checkpoints, is loaded along the
taps and turned around in shared memory.

Plain functions of tensors on one device: no autograd, no checks of shapes (those are in `contracts.py`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_blocks import apply_taps, place, spread, stack, store_strip, taps_gradient, threads_of, unstack
from .triton_support import as_channels_last, choose_tile, empty_map


@triton.jit
def _load_taps(
    weight,
    row_stride,
    y0,
    g0,
    x0,
    i,
    H,
    W,
    FIRST: tl.constexpr,
    BACK: tl.constexpr,
    GROUP_FASTEST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Row i of the kernels at padded_columns columns from x0 + FIRST on: a tuple of padded_columns * taps tensors.

    Those of the rows y0 .. y0 + strips - 1 and groups g0 .. g0 + groups - 1. BACK: x0 is K // 2 left of a strip,
    of whose columns only what is read is loaded.
    """
    G: tl.constexpr = TILE.all_groups
    K: tl.constexpr = TILE.kernel_size
    TAPS: tl.constexpr = TILE.taps
    COLUMNS: tl.constexpr = TILE.padded_columns
    LANES: tl.constexpr = TILE.lanes if GROUP_FASTEST else 1
    thread = tl.arange(0, TILE.strips * TILE.groups * LANES) // LANES
    strip = thread // TILE.groups
    group = g0 + thread % TILE.groups
    live = (y0 + strip >= 0) & (y0 + strip < H) & (group < G)
    weight += tl.cast(y0, tl.int64) * row_stride + tl.cast(x0 + FIRST, tl.int64) * (G * K * K)
    if GROUP_FASTEST:
        start = weight + i * (K * G) + (strip.to(tl.int64) * row_stride + group)
        taps = ()
        for n in tl.static_range(COLUMNS):
            ok = live & (x0 + FIRST + n >= 0) & (x0 + FIRST + n < W)
            for j in tl.static_range(TAPS):
                if j < K:
                    taps = taps + (tl.load(start + (n * (G * K * K) + j * G), mask=ok, other=0.0),)
                else:
                    taps = taps + (taps[0],)  # padding, never read
        return taps
    else:
        start = weight + i * K + (strip.to(tl.int64) * row_stride + group * (K * K))
        n = tl.arange(0, COLUMNS * TAPS)
        column = n // TAPS
        j = n % TAPS
        ok = (x0 + FIRST + column >= 0) & (x0 + FIRST + column < W) & (j < K)
        if BACK:
            ok = ok & (FIRST + column + j >= K - 1) & (FIRST + column + j < K - 1 + TILE.columns)
        offset = column * (G * K * K) + j
        row = tl.load(start[:, None] + offset[None, :], mask=live[:, None] & ok[None, :], other=0.0)
        return unstack(spread(row, TILE.lanes), COLUMNS * TAPS)


@triton.jit(do_not_specialize=['H', 'W'])
def _apply_kernel(
    x,
    weight,
    out,
    x_image,
    x_row,
    w_image,
    w_row,
    H,
    W,
    BACK: tl.constexpr,
    GROUP_FASTEST: tl.constexpr,
    TILE: tl.constexpr,
):
    """out = the convolution of x, or (BACK) the gradient of its input, x being the gradient of its output."""
    C: tl.constexpr = TILE.channels
    K: tl.constexpr = TILE.kernel_size
    T: tl.constexpr = TILE.threads
    COLUMNS: tl.constexpr = TILE.padded_columns
    SEEN: tl.constexpr = TILE.columns + K - 1
    ACC: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    part, image, y0, x0 = place(H, W, TILE)
    y, group, channel = threads_of(part, y0, TILE)
    g0 = part // TILE.parts_of_group * TILE.groups
    live = (y < H) & (group < TILE.all_groups) & (channel < TILE.in_group)
    first = group * TILE.in_group + channel
    corner = x + image * x_image + (tl.cast(x0, tl.int64) - K // 2) * C + first
    weight += image * w_image
    sums = (tl.zeros([T], ACC),) * (TILE.columns * TILE.per_thread)
    for step in range(K):
        # The same value; but LLVM, where it sees addresses affine in it, keeps one pointer per load in registers.
        i = tl.minimum(step, H + K)
        dy = K // 2 - i if BACK else i - K // 2
        inside = live & (y + dy >= 0) & (y + dy < H)
        source = corner + (y + dy).to(tl.int64) * x_row
        if BACK:
            for first_column in tl.static_range(0, SEEN, COLUMNS):
                taps = _load_taps(
                    weight, w_row, y0 + dy, g0, x0 - K // 2, i, H, W, first_column, BACK, GROUP_FASTEST, TILE
                )
                sums = apply_taps(sums, taps, source, inside, x0, W, channel, first_column, BACK, TILE)
        else:
            taps = _load_taps(weight, w_row, y0, g0, x0, i, H, W, 0, BACK, GROUP_FASTEST, TILE)
            sums = apply_taps(sums, taps, source, inside, x0, W, channel, 0, BACK, TILE)
    target = out + ((image * H + y) * W + x0) * C + first
    store_strip(target, sums, live, x0, W, channel, TILE)


@triton.jit(do_not_specialize=['H', 'W'])
def _weight_gradient_kernel(
    grad, x, out, grad_image, grad_row, x_image, x_row, H, W, GROUP_FASTEST: tl.constexpr, TILE: tl.constexpr
):
    """out = the gradient of the kernels, in their layout."""
    C: tl.constexpr = TILE.channels
    G: tl.constexpr = TILE.all_groups
    K: tl.constexpr = TILE.kernel_size
    COLUMNS: tl.constexpr = TILE.columns
    ACC: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    part, image, y0, x0 = place(H, W, TILE)
    y, group, _ = threads_of(part, y0, TILE)
    live = (y < H) & (group < G)
    x0_64 = tl.cast(x0, tl.int64)
    above = grad + image * grad_image + y.to(tl.int64) * grad_row + x0_64 * C + group * TILE.in_group
    corner = x + image * x_image + (x0_64 - K // 2) * C + group * TILE.in_group
    target = out + ((image * H + y) * W + x0) * (G * K * K)
    for i in range(K):
        row = y + i - K // 2
        inside = live & (row >= 0) & (row < H)
        sums = taps_gradient(above, corner + row.to(tl.int64) * x_row, live, inside, x0, W, ACC, TILE)
        if GROUP_FASTEST:
            for p in tl.static_range(COLUMNS):
                for j in tl.static_range(K):
                    value = sums[p * TILE.taps + j].to(out.dtype.element_ty)
                    where = target + group + (p * (G * K * K) + (i * K + j) * G)
                    tl.store(where, value, mask=live & (x0 + p < W))
        else:
            n = tl.arange(0, TILE.padded_columns * TILE.taps)
            column = n // TILE.taps
            j = n % TILE.taps
            where = (target + group * (K * K) + i * K)[:, None] + (column * (G * K * K) + j)[None, :]
            ok = (column < TILE.columns) & (x0 + column < W) & (j < K)
            value = stack(sums, TILE.padded_columns * TILE.taps).to(out.dtype.element_ty)
            tl.store(where, value, mask=live[:, None] & ok[None, :])


def forward(x: Tensor, weight: Tensor) -> Tensor:
    """The op `mmdwnet.ops.inhomogeneous_depthwise_conv2d`; accumulates in float32, float64 in float64.

    Args:
        x: (B, C, H, W); read in place if channels_last, whatever the strides of rows and images, else copied.
        weight: (B, G, K, K, H, W); read in place if dense with G and K * K, in either order, as the fastest
            axes, as in a view of a channels_last (B, G*K*K, H, W), else copied into such a one.

    Returns:
        Tensor (B, C, H, W), channels_last.
    """
    weight, group_fastest = _as_generated(weight)
    return _apply(x, weight, group_fastest, back=False)


def backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `forward`.

    Args:
        grad: gradient of the output, (B, C, H, W); layouts as for `forward`.
        x: as in `forward`.
        weight: as in `forward`.

    Returns:
        Gradients of x, channels_last, and of weight, dense, in the layout that weight is read in.
    """
    batch, _, height, width = x.shape
    groups, kernel_size = weight.shape[1:3]
    weight, group_fastest = _as_generated(weight)
    grad_x = _apply(grad, weight, group_fastest, back=True)
    grad_weight = _empty_kernels(weight, group_fastest)
    if grad_weight.numel() == 0:
        return grad_x, grad_weight
    grad, x = as_channels_last(grad), as_channels_last(x)
    tile = choose_tile(x, groups, kernel_size, one_lane=True)
    with torch.cuda.device_of(x):
        _weight_gradient_kernel[(tile.positions(batch, height, width) * tile.parts,)](
            grad,
            x,
            grad_weight,
            grad.stride(0),
            grad.stride(2),
            x.stride(0),
            x.stride(2),
            height,
            width,
            group_fastest,
            tile,
            num_warps=tile.warps,
        )
    return grad_x, grad_weight


def _apply(x: Tensor, weight: Tensor, group_fastest: bool, back: bool) -> Tensor:
    batch, _, height, width = x.shape
    x, out = as_channels_last(x), empty_map(x)
    if out.numel() == 0:
        return out
    tile = choose_tile(x, weight.shape[1], weight.shape[2], tap_fastest=not (group_fastest or back))
    with torch.cuda.device_of(x):
        _apply_kernel[(tile.positions(batch, height, width) * tile.parts,)](
            x,
            weight,
            out,
            x.stride(0),
            x.stride(2),
            weight.stride(0),
            weight.stride(4),
            height,
            width,
            back,
            group_fastest,
            tile,
            num_warps=tile.warps,
        )
    return out


def _as_generated(weight: Tensor) -> tuple[Tensor, bool]:
    """weight itself if it is laid out like a generator's output, else a copy that is; is the group fastest?"""
    groups, kernel_size = weight.shape[1:3]
    sizes = (*weight.shape[1:4], weight.shape[5])  # G, K, K and columns; rows and images may have any stride
    strides = (*weight.stride()[1:4], weight.stride(5))
    for group_fastest, of_kernel in (
        (True, (1, kernel_size * groups, groups)),
        (False, (kernel_size**2, kernel_size, 1)),
    ):
        wanted = (*of_kernel, groups * kernel_size**2)
        if all(n == 1 or have == want for n, have, want in zip(sizes, strides, wanted, strict=True)):
            return weight, group_fastest
    return _empty_kernels(weight, False).copy_(weight), False


def _empty_kernels(weight: Tensor, group_fastest: bool) -> Tensor:
    batch, groups, kernel_size, _, height, width = weight.shape
    if group_fastest:
        flat = weight.new_empty(batch, height, width, kernel_size, kernel_size, groups)
        return flat.permute(0, 5, 3, 4, 1, 2)
    return weight.new_empty(batch, height, width, groups, kernel_size, kernel_size).permute(0, 3, 4, 5, 1, 2)
