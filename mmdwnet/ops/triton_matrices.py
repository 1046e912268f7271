"""Matrix products of the fused "generate and apply": device functions, and how their operands are cut.

A block of positions is the rows of one operand, a row of taps of a block of groups those of the other; they meet
over the channels of the feature.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .triton_blocks import INTERPRETED
from .triton_support import round_up_to_power_of_2


@triton.jit
def feature_block(feature, row_stride, y0, x0, r0, H, W, R: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr):
    """[strips * padded_columns, BLOCK] of the feature: the positions from (y0, x0) on, channels from r0 on."""
    m = tl.arange(0, TILE.strips * TILE.padded_columns)
    y = y0 + m // TILE.padded_columns
    x = x0 + m % TILE.padded_columns
    r = r0 + tl.arange(0, BLOCK)
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    start = feature + y.to(tl.int64) * row_stride + x.to(tl.int64) * R
    return tl.load(start[:, None] + r[None, :], mask=inside[:, None] & (r < R)[None, :], other=0.0)


@triton.jit
def generator_block(weight, g0, i, r0, R: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr):
    """[groups * taps, BLOCK] of the generator's weight: row i of the taps, feature channels from r0 on."""
    K: tl.constexpr = TILE.kernel_size
    n = tl.arange(0, TILE.groups * TILE.taps)
    group = g0 + n // TILE.taps
    j = n % TILE.taps
    r = r0 + tl.arange(0, BLOCK)
    live = (group < TILE.all_groups) & (j < K)
    start = weight + (group * (K * K) + i * K + j) * R
    return tl.load(start[:, None] + r[None, :], mask=live[:, None] & (r < R)[None, :], other=0.0)


@triton.jit
def product(a, b, sums, PRECISION: tl.constexpr):
    """sums + a @ b in float32; PRECISION, of float32 operands, is what `precision` gives."""
    if PRECISION == 'widened':
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sums)
    else:
        return tl.dot(a, b, sums, input_precision=PRECISION)


def block_of(channels: int, at_most: int) -> int:
    """How many feature channels a product takes at a time: a power of two, 16 at least."""
    return min(at_most, max(16, round_up_to_power_of_2(channels)))


def precision() -> str:
    """How float32 is multiplied: as tf32 where torch may do so in its matrix products, else as three of tf32.

    Those add up to float32's accuracy on the matrix units; without these, the kernels spill their registers.
    """
    if INTERPRETED:
        return 'widened'  # the interpreter of Triton 3.6 multiplies the bits of bfloat16 as integers
    return 'tf32' if torch.backends.cuda.matmul.allow_tf32 else 'tf32x3'
