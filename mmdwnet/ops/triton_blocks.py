"""Device functions that the Triton kernels share. Imports Triton: import it only where that is installed.

The kernels are written as CUDA code would be: a tensor has one element per thread of the program, and what a
thread keeps in registers is a tuple of such tensors, indexed at compile time. A thread owns a strip of a row, so
that a loaded column of the input meets every kernel of the strip that covers it: columns + K - 1 loads for a row
of taps instead of columns * K.

"Taps" are the values of a kernel. Those of one row of taps, for some columns, are a tuple of tensors, index
`column * TILE.taps + tap`. TILE, a `triton_support.Tile`, is the only compile-time argument of most functions.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.runtime.jit import JITFunction


@triton.jit
def place(H, W, TILE: tl.constexpr):
    """What this program owns: part of the channels, image (int64), first row, first column."""
    PARTS: tl.constexpr = TILE.parts
    pid = tl.program_id(0)
    position = pid // PARTS  # the parts of a position are neighbours in memory, and here
    return (pid % PARTS,) + place_of(position, H, W, TILE)


@triton.jit
def place_of(position, H, W, TILE: tl.constexpr):
    """Image (int64, so that offsets are), first row and first column of a block of positions."""
    across = tl.cdiv(W, TILE.columns)
    down = tl.cdiv(H, TILE.strips)
    image = (position // across // down).to(tl.int64)
    return image, position // across % down * TILE.strips, position % across * TILE.columns


@triton.jit
def threads_of(part, y0, TILE: tl.constexpr):
    """Row, group and first channel within the group of every thread of a program."""
    thread = tl.arange(0, TILE.threads)
    y = y0 + thread // (TILE.groups * TILE.lanes)
    group = part // TILE.parts_of_group * TILE.groups + thread // TILE.lanes % TILE.groups
    channel = (part % TILE.parts_of_group * TILE.lanes + thread % TILE.lanes) * TILE.per_thread
    return y, group, channel


@triton.jit
def store_strip(out, sums, live, x0, W, channel, TILE: tl.constexpr):
    """Write columns * per_thread tensors to the pointers `out`, each thread's first channel and column."""
    COLUMNS: tl.constexpr = TILE.columns
    PER_THREAD: tl.constexpr = TILE.per_thread
    for p in tl.static_range(COLUMNS):
        for c in tl.static_range(PER_THREAD):
            mask = live & (x0 + p < W) & (channel + c < TILE.in_group)
            value = sums[p * PER_THREAD + c].to(out.dtype.element_ty)
            tl.store(out + (p * TILE.channels + c), value, mask=mask)


@triton.jit
def add_to(sums, N: tl.constexpr, value):
    """The tuple with `value` added to its tensor N."""
    return sums[:N] + (sums[N] + value,) + sums[N + 1 :]


@triton.jit
def unstack(x, N: tl.constexpr):
    """[T, N] -> a tuple of N tensors [T]. Costs one change of layout: then a thread has its N values."""
    T: tl.constexpr = x.shape[0]
    if N == 1:
        return (tl.reshape(x, [T]),)
    else:
        first, second = tl.split(tl.permute(tl.reshape(x, [T, 2, N // 2]), [0, 2, 1]))
        return unstack(first, N // 2) + unstack(second, N // 2)


@triton.jit
def stack(values, N: tl.constexpr):
    """A tuple of N tensors [T] -> [T, N]."""
    T: tl.constexpr = values[0].shape[0]
    if N == 1:
        return tl.reshape(values[0], [T, 1])
    else:
        both = tl.join(stack(values[: N // 2], N // 2), stack(values[N // 2 :], N // 2))  # [T, N/2, 2]
        return tl.reshape(tl.permute(both, [0, 2, 1]), [T, N])


@triton.jit
def spread(x, LANES: tl.constexpr):
    """[T / LANES, N] -> [T, N]: the threads that share a group all get its values."""
    if LANES == 1:
        return x
    else:
        T: tl.constexpr = x.shape[0] * LANES
        N: tl.constexpr = x.shape[1]
        return tl.reshape(tl.broadcast_to(tl.expand_dims(x, 1), [x.shape[0], LANES, N]), [T, N])


@triton.jit
def apply_taps(
    sums, taps, source, inside, x0, W, channel, FIRST: tl.constexpr, BACK: tl.constexpr, TILE: tl.constexpr
):
    """Add one row of taps to a strip, from its input columns FIRST on (there are columns + K - 1 in all).

    Forward, output column p gets tap u - p of its own kernel from input column u. Backward (BACK), it gets tap
    p - u + K - 1 of the kernel of input column u, and `taps` holds kernels of up to padded_columns columns.

    Args:
        sums: columns * per_thread tensors; the result is the same with the row added.
        taps: the kernels' row.
        source: pointers to each thread's first channel in input column 0, K // 2 left of the strip.
        inside: which threads have a row of the map there.
        x0: first column of the strip; W: columns of the map.
        channel: each thread's first channel within its group.
    """
    K: tl.constexpr = TILE.kernel_size
    COLUMNS: tl.constexpr = TILE.columns
    PER_THREAD: tl.constexpr = TILE.per_thread
    AT_ONCE: tl.constexpr = TILE.at_once
    LAST: tl.constexpr = min(FIRST + TILE.padded_columns, COLUMNS + K - 1) if BACK else COLUMNS + K - 1
    for u in tl.static_range(FIRST, LAST):
        ok = inside & (x0 + u >= K // 2) & (x0 + u < W + K // 2)
        for c in tl.static_range(0, PER_THREAD, AT_ONCE):
            mask = ok if TILE.exact else ok & (channel + c < TILE.in_group)
            values = load_channels(source + (u * TILE.channels + c), mask, AT_ONCE)
            for n in tl.static_range(AT_ONCE):
                value = values[n].to(sums[0].dtype)
                for p in tl.static_range(COLUMNS):
                    if u - p >= 0 and u - p < K:
                        tap = (
                            taps[(u - FIRST) * TILE.taps + K - 1 - (u - p)]
                            if BACK
                            else taps[p * TILE.taps + u - p]
                        )
                        sums = add_to(sums, p * PER_THREAD + c + n, tap.to(value.dtype) * value)
    return sums


@triton.jit
def load_channels(source, mask, AT_ONCE: tl.constexpr):
    """The next 1 or 2 channels from each thread's pointer, a tuple of tensors; two are one access of memory."""
    if AT_ONCE == 1:
        return (tl.load(source, mask=mask, other=0.0),)
    else:
        both = tl.load(source[:, None] + tl.arange(0, 2)[None, :], mask=mask[:, None], other=0.0)
        first, second = tl.split(both)
        return (first, second)


@triton.jit
def taps_gradient(grad, source, live, inside, x0, W, ACC: tl.constexpr, TILE: tl.constexpr):
    """The gradient of one row of taps: padded_columns * taps tensors, zero in the padding.

    Each sums, over the channels of its group, the output's gradient in a column times the input under the tap.

    Args:
        grad: pointers to each thread's group in the strip's first column of the output's gradient.
        source: pointers to it in input column 0, K // 2 left of the strip, in the row under the taps.
        live: which threads have a strip.
        inside: which of them have a row of the map under the taps.
        x0: first column of the strip; W: columns of the map.
        ACC: dtype of the sums.
    """
    K: tl.constexpr = TILE.kernel_size
    COLUMNS: tl.constexpr = TILE.columns
    AT_ONCE: tl.constexpr = TILE.at_once
    sums = (tl.zeros([live.shape[0]], ACC),) * (TILE.padded_columns * TILE.taps)
    for step in range(TILE.in_group // AT_ONCE):
        c = step * AT_ONCE
        above = ()
        for p in tl.static_range(COLUMNS):
            above = above + load_channels(grad + (p * TILE.channels + c), live & (x0 + p < W), AT_ONCE)
        for u in tl.static_range(COLUMNS + K - 1):
            ok = inside & (x0 + u >= K // 2) & (x0 + u < W + K // 2)
            values = load_channels(source + (u * TILE.channels + c), ok, AT_ONCE)
            for n in tl.static_range(AT_ONCE):
                value = values[n].to(ACC)
                for p in tl.static_range(COLUMNS):
                    if u - p >= 0 and u - p < K:
                        sums = add_to(sums, p * TILE.taps + u - p, above[p * AT_ONCE + n].to(ACC) * value)
    return sums


INTERPRETED = not isinstance(unstack, JITFunction)  # decided by Triton when the functions above were decorated
