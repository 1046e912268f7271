"""Neighbourhood attention in strips of the map, in plain torch: what `neighbourhood.py` runs on any device.

The neighbourhoods of a strip are copied together, so that both products are matrix products, and forgotten again.
Queries at a border have the same neighbourhood as the first one that does not touch it: they share one copy, and
make one matrix. Nothing is computed that is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .autocast import autocast_off
from .flat_maps import sum_dtype
from .tracing import is_recorded

# Elements of keys that are copied together at once. On a CPU they should stay in its cache, 2 MB in float32.
# Elsewhere, and in a traced net, which would hold every strip as operations of its own, few large ones are better.
CPU_STRIP_ELEMENTS = 2**19
STRIP_ELEMENTS = 2**24


def attention(q: Tensor, k: Tensor, v: Tensor, kernel_size: int, bias: Tensor | None) -> Tensor:
    """Arguments and result as those of `neighbourhood_attention`; one derivative."""
    tensors = q, k, v, None if bias is None else _by_place(bias, kernel_size)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Attention.apply(*tensors, kernel_size)
    return _forward(*tensors, kernel_size)


def _by_place(bias: Tensor, kernel_size: int) -> Tensor:
    """(heads, 2K - 1, 2K - 1) -> (heads, K, K, K, K), by the query's place in its neighbourhood and the key's.

    A query at place p has the entries from K - 1 - p on.
    """
    return bias.unfold(1, kernel_size, 1).unfold(2, kernel_size, 1).flip(1, 2)


class _Attention(torch.autograd.Function):
    """`_forward`, keeping its arguments alone; the weights are made again in the backward pass."""

    @staticmethod
    def forward(q, k, v, entries, kernel_size):
        return _forward(q, k, v, entries, kernel_size)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:4])
        ctx.kernel_size = inputs[4]

    @staticmethod
    def backward(ctx, grad):
        return *_Gradient.apply(grad, *ctx.saved_tensors, ctx.kernel_size), None


class _Gradient(torch.autograd.Function):
    """`_backward`, which raises when it is differentiated again."""

    @staticmethod
    def forward(grad, q, k, v, entries, kernel_size):
        with autocast_off(grad.device.type):  # where the forward pass was outside such a region and this is inside
            return _backward(grad, q, k, v, entries, kernel_size)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "the gradient of neighbourhood_attention has none itself: for second derivatives use impl='reference'"
        )


def _forward(q: Tensor, k: Tensor, v: Tensor, entries: Tensor | None, kernel_size: int) -> Tensor:
    """The forward pass, (B, heads, H, W, d); entries are those of `_by_place`."""
    k, v = k.contiguous(), v.contiguous()  # the K * d numbers of a row of keys are then copied in one piece
    bands = []
    for strips in _bands(q, kernel_size):
        band = []
        for strip in strips:
            weights = _weights(strip.queries(q), strip.neighbourhoods(k), strip.entries(entries))
            band.append(strip.as_map(weights.to(v.dtype) @ strip.neighbourhoods(v)))
        bands.append(torch.cat(band, 2))
    return torch.cat(bands, 3)


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, entries: Tensor | None, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of q, k, v and entries; those that are sums over strips are summed in float32 or float64."""
    k, v = k.contiguous(), v.contiguous()
    scale, dtype = q.shape[-1] ** -0.5, sum_dtype(q)
    grad_k, grad_v = (grad.new_zeros(k.shape, dtype=dtype) for _ in range(2))
    grad_entries = None if entries is None else grad.new_zeros(entries.shape, dtype=dtype)
    bands = []
    for strips in _bands(q, kernel_size):
        band = []
        for strip in strips:
            queries, keys, values = strip.queries(q), strip.neighbourhoods(k), strip.neighbourhoods(v)
            grads = strip.queries(grad)  # (B, heads, r, c, n, d)
            weights = _weights(queries, keys, strip.entries(entries))
            strip.add(grad_v, weights.to(v.dtype).transpose(-1, -2) @ grads)
            grad_weights = grads @ values.transpose(-1, -2)  # (B, heads, r, c, n, K*K)
            grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
            if entries is not None:
                strip.add_entries(grad_entries, grad_scores)
            grad_scores = (grad_scores * scale).to(q.dtype)
            strip.add(grad_k, grad_scores.transpose(-1, -2) @ queries)
            band.append(strip.as_map(grad_scores @ keys))
        bands.append(torch.cat(band, 2))
    grad_entries = None if entries is None else grad_entries.to(entries.dtype)
    return torch.cat(bands, 3), grad_k.to(k.dtype), grad_v.to(v.dtype), grad_entries


def _weights(queries: Tensor, keys: Tensor, entries: Tensor | None) -> Tensor:
    """(B, heads, r, c, n, d), (B, heads, r, c, K*K, d) -> (B, heads, r, c, n, K*K), in float32 or float64."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    scores = scores if entries is None else scores + entries
    return scores.softmax(-1, dtype=sum_dtype(scores))


class _Run(NamedTuple):
    """Neighbourhoods that follow one another in one direction, and the queries that have them.

    Args:
        start: first position of the first neighbourhood; each next one starts one position further.
        count: of neighbourhoods; where there are several, each has one query.
        place: of the first query in its neighbourhood, from 0 to K - 1.
        queries: of each neighbourhood.
    """

    start: int
    count: int
    place: int
    queries: int


def _runs(side: int, kernel_size: int, at_once: int) -> list[_Run]:
    """All of one direction: the neighbourhood of the first queries, those of one query each, that of the last."""
    last, margin = side - kernel_size, kernel_size // 2
    if last == 0:
        return [_Run(0, 1, 0, kernel_size)]
    inner = [_Run(start, min(at_once, last - start), margin, 1) for start in range(1, last, at_once)]
    return [_Run(0, 1, 0, margin + 1), *inner, _Run(last, 1, margin, margin + 1)]


def _bands(q: Tensor, kernel_size: int) -> Iterator[list[_Strip]]:
    """The map in bands of columns, left to right, and each of them in strips of rows, top to bottom."""
    batch, heads, height, width, channels = q.shape
    elements = CPU_STRIP_ELEMENTS if q.device.type == 'cpu' and not is_recorded() else STRIP_ELEMENTS
    at_once = max(1, elements // max(1, batch * heads * kernel_size**2 * channels))
    for columns in _runs(width, kernel_size, at_once):
        rows = _runs(height, kernel_size, max(1, at_once // columns.count))
        yield [_Strip(run, columns, kernel_size) for run in rows]


class _Strip:
    """r x c neighbourhoods and the n queries that each of them has."""

    def __init__(self, rows: _Run, columns: _Run, kernel_size: int):
        self.rows, self.columns, self.kernel_size = rows, columns, kernel_size

    def queries(self, x: Tensor) -> Tensor:
        """Of a map (B, heads, H, W, d) its part, (B, heads, r, c, n, d); a view, or a copy of that part."""
        for dim, run in ((2, self.rows), (3, self.columns)):
            x = x.narrow(dim, run.start + run.place, run.count * run.queries)
        x = x.unflatten(3, (self.columns.count, self.columns.queries))
        x = x.unflatten(2, (self.rows.count, self.rows.queries))  # (B, heads, r, n_r, c, n_c, d)
        return x.transpose(3, 4).flatten(4, 5)

    def as_map(self, x: Tensor) -> Tensor:
        """The way back, (B, heads, r, c, n, d) -> (B, heads, r * n_r, c * n_c, d)."""
        x = x.unflatten(4, (self.rows.queries, self.columns.queries)).transpose(3, 4)
        return x.flatten(4, 5).flatten(2, 3)

    def neighbourhoods(self, x: Tensor) -> Tensor:
        """Of a map (B, heads, H, W, d), K*K positions each: (B, heads, r, c, K*K, d), a copy."""
        side = self.kernel_size
        x = x.unfold(2, side, 1).unfold(3, side, 1)  # (B, heads, H - K + 1, W - K + 1, d, K, K)
        for dim, run in ((2, self.rows), (3, self.columns)):
            x = x.narrow(dim, run.start, run.count)
        return x.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5)

    def add(self, total: Tensor, x: Tensor) -> None:
        """Add (B, heads, r, c, K*K, d) to where `neighbourhoods` takes it from in (B, heads, H, W, d)."""
        side, (rows, columns) = self.kernel_size, (self.rows, self.columns)
        x = x.unflatten(4, (side, side))
        # along the columns first: (B, heads, r, c + K - 1, K, d)
        wide = total.new_zeros((*x.shape[:3], columns.count + side - 1, side, x.shape[-1]))
        for place in range(side):
            wide.narrow(3, place, columns.count).add_(x[:, :, :, :, :, place])
        total = total.narrow(3, columns.start, wide.shape[3])
        for place in range(side):
            total.narrow(2, rows.start + place, rows.count).add_(wide[:, :, :, :, place])

    def entries(self, entries: Tensor | None) -> Tensor | None:
        """Of the biases of `_by_place` its part, (heads, 1, 1, n, K*K)."""
        return None if entries is None else self._places(entries).flatten(3, 4).flatten(1, 2)[:, None, None]

    def add_entries(self, total: Tensor, x: Tensor) -> None:
        """Add (B, heads, r, c, n, K*K), summed over images and positions, to where `entries` takes it from."""
        x = x.sum((0, 2, 3)).unflatten(2, (self.kernel_size, self.kernel_size))
        self._places(total).add_(x.unflatten(1, (self.rows.queries, self.columns.queries)))

    def _places(self, entries: Tensor) -> Tensor:
        for dim, run in ((1, self.rows), (2, self.columns)):
            entries = entries.narrow(dim, run.place, run.queries)
        return entries  # (heads, n_r, n_c, K, K)
