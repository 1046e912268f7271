"""Triton kernels of the gradients of the fused "generate and apply": of the feature and of the generator.

Both make the gradient of the generated kernels, a row of taps of a tile at a time, and multiply it at once: with
the generator's weight for the gradient of the feature, with the feature for that of the generator. Nothing of
G * K * K values per position is written to memory. What is summed over positions is written per program and added
up by torch, so that the same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_blocks import place_of, stack, taps_gradient, threads_of
from .triton_matrices import block_of, feature_block, generator_block, precision, product
from .triton_support import ceil_div, choose_tile, empty_map

# feature channels that a product takes at most, by the bytes of a value: what fits in the shared memory of a
# program, 99 KiB on the GPUs that have least of it
_FEATURE_BLOCK, _GENERATOR_BLOCK = {2: 128, 4: 32}, {2: 64, 4: 32}
_PROGRAMS = 1024  # what the generator's gradient is split into: some for each of 132 multiprocessors


@triton.jit
def _made_gradient(
    grad, x, grad_image, grad_row, x_image, x_row, image, y0, x0, part, i, H, W, TILE: tl.constexpr
):
    """[strips * padded_columns, groups * taps]: the gradient of what the generator made, for row i of the taps."""
    C: tl.constexpr = TILE.channels
    K: tl.constexpr = TILE.kernel_size
    STRIPS: tl.constexpr = TILE.strips
    COLUMNS: tl.constexpr = TILE.padded_columns
    GROUPS: tl.constexpr = TILE.groups
    TAPS: tl.constexpr = TILE.taps
    y, group, _ = threads_of(part, y0, TILE)
    live = (y < H) & (group < TILE.all_groups)
    row = y + i - K // 2
    inside = live & (row >= 0) & (row < H)
    column = tl.cast(x0, tl.int64)
    above = grad + image * grad_image + y.to(tl.int64) * grad_row + (column * C + group * TILE.in_group)
    under = x + image * x_image + row.to(tl.int64) * x_row + ((column - K // 2) * C + group * TILE.in_group)
    sums = stack(taps_gradient(above, under, live, inside, x0, W, tl.float32, TILE), COLUMNS * TAPS)
    sums = tl.permute(tl.reshape(sums, [STRIPS, GROUPS, COLUMNS, TAPS]), [0, 2, 1, 3])
    return tl.reshape(sums, [STRIPS * COLUMNS, GROUPS * TAPS])


@triton.jit(do_not_specialize=['H', 'W'])
def _feature_gradient_kernel(
    grad,
    x,
    weight,
    out,
    grad_image,
    grad_row,
    x_image,
    x_row,
    H,
    W,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
):
    """out = the gradient of the feature: a block of positions, BLOCK channels, summed over all taps."""
    K: tl.constexpr = TILE.kernel_size
    COLUMNS: tl.constexpr = TILE.padded_columns
    BLOCKS: tl.constexpr = (R + BLOCK - 1) // BLOCK
    M: tl.constexpr = TILE.strips * COLUMNS
    r0 = tl.program_id(0) % BLOCKS * BLOCK
    image, y0, x0 = place_of(tl.program_id(0) // BLOCKS, H, W, TILE)
    sums = tl.zeros([M, BLOCK], tl.float32)
    for step in range(TILE.parts * K):
        part = step // K
        i = step % K
        made = _made_gradient(grad, x, grad_image, grad_row, x_image, x_row, image, y0, x0, part, i, H, W, TILE)
        w = generator_block(weight, part * TILE.groups, i, r0, R, BLOCK, TILE)
        sums = product(made.to(w.dtype), w, sums, PRECISION)
    m = tl.arange(0, M)
    r = r0 + tl.arange(0, BLOCK)
    y = y0 + m // COLUMNS
    column = m % COLUMNS
    live = (y < H) & (column < TILE.columns) & (x0 + column < W)
    start = out + ((image * H + y) * W + x0 + column) * R
    value = sums.to(out.dtype.element_ty)
    tl.store(start[:, None] + r[None, :], value, mask=live[:, None] & (r < R)[None, :])


@triton.jit(do_not_specialize=['H', 'W', 'positions', 'splits'])
def _generator_gradient_kernel(
    grad,
    x,
    feature,
    out,
    out_bias,
    grad_image,
    grad_row,
    x_image,
    x_row,
    feature_image,
    feature_row,
    H,
    W,
    positions,
    splits,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
):
    """A split of the gradient of the generator's weight (splits, G*K*K, R) and bias (splits, G*K*K).

    A program has one row of the taps of a block of groups, BLOCK feature channels, and every splits-th block of
    positions.
    """
    K: tl.constexpr = TILE.kernel_size
    BLOCKS: tl.constexpr = (R + BLOCK - 1) // BLOCK
    N: tl.constexpr = TILE.groups * TILE.taps
    pid = tl.program_id(0)
    r0 = pid % BLOCKS * BLOCK
    i = pid // BLOCKS % K
    part = pid // (BLOCKS * K) % TILE.parts
    split = pid // (BLOCKS * K * TILE.parts)
    sums = tl.zeros([N, BLOCK], tl.float32)
    sums_bias = tl.zeros([N], tl.float32)
    for position in range(split, positions, splits):
        image, y0, x0 = place_of(position, H, W, TILE)
        made = _made_gradient(grad, x, grad_image, grad_row, x_image, x_row, image, y0, x0, part, i, H, W, TILE)
        f = feature_block(feature + image * feature_image, feature_row, y0, x0, r0, H, W, R, BLOCK, TILE)
        sums = product(tl.trans(made.to(f.dtype)), f, sums, PRECISION)
        sums_bias += tl.sum(made, 0)
    n = tl.arange(0, N)
    group = part * TILE.groups + n // TILE.taps
    j = n % TILE.taps
    r = r0 + tl.arange(0, BLOCK)
    live = (group < TILE.all_groups) & (j < K)
    row = split.to(tl.int64) * (TILE.all_groups * K * K) + group * (K * K) + i * K + j
    tl.store(out + row[:, None] * R + r[None, :], sums, mask=live[:, None] & (r < R)[None, :])
    tl.store(out_bias + row, sums_bias, mask=live & (r0 == 0))


def feature_gradient(
    grad: Tensor, x: Tensor, feature: Tensor, weight: Tensor, groups: int, kernel_size: int
) -> Tensor:
    (batch, channels, height, width), out = feature.shape, empty_map(feature)
    tile = choose_tile(x, groups, kernel_size, one_lane=True, for_dots=True)
    block = block_of(channels, _FEATURE_BLOCK[x.element_size()])
    programs = tile.positions(batch, height, width) * ceil_div(channels, block)
    with torch.cuda.device_of(x):
        _feature_gradient_kernel[(programs,)](
            grad,
            x,
            weight,
            out,
            grad.stride(0),
            grad.stride(2),
            x.stride(0),
            x.stride(2),
            height,
            width,
            channels,
            block,
            precision(),
            tile,
            num_warps=tile.warps,
            num_stages=2,
        )
    return out


def generator_gradient(
    grad: Tensor, x: Tensor, feature: Tensor, groups: int, kernel_size: int
) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias, float32."""
    batch, channels, height, width = feature.shape
    tile = choose_tile(x, groups, kernel_size, one_lane=True, for_dots=True)
    block = block_of(channels, _GENERATOR_BLOCK[x.element_size()])
    positions = tile.positions(batch, height, width)
    programs = tile.parts * kernel_size * ceil_div(channels, block)
    splits = min(positions, max(1, _PROGRAMS // programs))
    rows = groups * kernel_size**2
    out = x.new_empty(splits, rows, channels, dtype=torch.float32)
    out_bias = x.new_empty(splits, rows, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _generator_gradient_kernel[(programs * splits,)](
            grad,
            x,
            feature,
            out,
            out_bias,
            grad.stride(0),
            grad.stride(2),
            x.stride(0),
            x.stride(2),
            feature.stride(0),
            feature.stride(2),
            height,
            width,
            positions,
            splits,
            channels,
            block,
            precision(),
            tile,
            num_warps=tile.warps,
            num_stages=2,
        )
    return out.sum(0), out_bias.sum(0)
