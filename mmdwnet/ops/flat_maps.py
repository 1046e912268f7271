"""Feature maps as flat memory, and the tiles in which kernels per position are applied to them.

A map lies in rows of W + K // 2, so that the zeros between two rows are the right margin of the one and the left
margin of the next, with K // 2 rows of zeros above and below. A shift of the whole map by (i, j) is then an
offset, and one long loop over the memory does all rows. What such a loop computes between the rows is not read.

A tile is some images, or a strip of rows of one, so small that its kernels stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from .cpu import is_emulated, onednn_multiplies, onednn_product

# Elements of the kernels that a tile holds, 12 MB in float32: the last cache of two cores of a server.
TILE_ELEMENTS = 3_000_000


def sum_dtype(x: Tensor) -> torch.dtype:
    """What sums over x are computed in: float32, or float64 for float64."""
    # not torch.promote_types, which torch.compile of 2.1 does not know
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def added(total: Tensor | None, term: Tensor | None) -> Tensor | None:
    """A sum and one term more, in `sum_dtype`; None is nothing. The sum, or the first term, may be written to."""
    if term is None:
        return total
    return term.to(sum_dtype(term)) if total is None else total.add_(term)


def generator_dtype(x: Tensor) -> torch.dtype:
    """What kernels are generated in: bfloat16 where its products are fast; float16 often has none."""
    has_product = x.dtype == torch.bfloat16 and not is_emulated(x.device.type, x.dtype)
    return x.dtype if has_product else sum_dtype(x)


def tile_size(height: int, elements_of_row: int, at_most: int) -> tuple[int, int]:
    """Of maps of a height, the rows and the images that a tile holds: strips of equal height, or whole images.

    Args:
        height: H.
        elements_of_row: how many elements one row of one image takes.
        at_most: how many a tile shall have; it has one row at least.
    """
    rows = max(1, at_most // max(elements_of_row, 1))
    strips = max(1, -(-height // rows))
    return -(-height // strips), max(1, rows // max(height, 1))


class Tile:
    """Images [first, last) and rows [top, bottom) of the maps, whose rows lie `row` elements apart."""

    def __init__(self, first: int, last: int, top: int, bottom: int, row: int, width: int):
        self.first, self.last, self.top, self.bottom = first, last, top, bottom
        self.row, self.width = row, width

    def __len__(self) -> int:
        return (self.bottom - self.top) * self.row

    def of(self, tensor: Tensor) -> Tensor:
        """The tile's part of a (B, ..., H, W) tensor."""
        return tensor[self.first : self.last, ..., self.top : self.bottom, :]

    def store(self, tensor: Tensor, values: Tensor) -> None:
        """Write (n, C, T) into the tile's part of a (B, C, H, W) tensor."""
        rows = values.unflatten(-1, (self.bottom - self.top, self.row))  # (n, C, rows, W + K // 2)
        self.of(tensor).copy_(rows[..., : self.width])


class FlatMaps:
    """The tiles of a batch of maps, and what is done on each; buffers live from one tile to the next.

    n images and T = rows * (W + K // 2) positions a tile, G groups of c channels.

    Args:
        x: a map, (B, C, H, W).
        groups: G.
        kernel_size: K.
    """

    def __init__(self, x: Tensor, groups: int, kernel_size: int):
        self.batch, self.channels, self.height, self.width = x.shape
        self.groups, self.kernel_size, self.margin = groups, kernel_size, kernel_size // 2
        self.row = self.width + self.margin
        self.dtype, self.device = sum_dtype(x), x.device
        kernels_of_row = groups * kernel_size**2 * self.row
        self.rows, self.images_at_once = tile_size(self.height, kernels_of_row, TILE_ELEMENTS)
        # In float32 oneDNN multiplies twice as fast as MKL with AVX-512 on CPUs of other makers, and as fast with
        # AVX2. In bfloat16 `matmul` is oneDNN's, and writes into a buffer.
        self._by_rows = onednn_multiplies(x.device.type, generator_dtype(x))
        self._buffers: dict[str, Tensor] = {}

    def images(self) -> Iterator[range]:
        if self.channels and self.height and self.width:
            for first in range(0, self.batch, self.images_at_once):
                yield range(first, min(first + self.images_at_once, self.batch))

    def strips(self, images: range) -> Iterator[Tile]:
        for top in range(0, self.height, self.rows):
            bottom = min(top + self.rows, self.height)
            yield Tile(images.start, images.stop, top, bottom, self.row, self.width)

    def tiles(self) -> Iterator[Tile]:
        for images in self.images():
            yield from self.strips(images)

    def _buffer(self, name: str, *shape: int, dtype: torch.dtype | None = None, zeroed: bool = False) -> Tensor:
        """A tensor of this shape in memory that stays for all tiles; zeroed when it is new, if asked for."""
        size = prod(shape)
        if name not in self._buffers or self._buffers[name].numel() < size:
            make = torch.zeros if zeroed else torch.empty
            self._buffers[name] = make(size, dtype=dtype or self.dtype, device=self.device)
        return self._buffers[name][:size].view(shape)

    def _inner(self, flat: Tensor) -> Tensor:
        """The (n, C, H, W) view of the maps inside their margins."""
        length = flat.shape[-1]
        strides = (self.channels * length, length, self.row, 1)
        start = self.margin * self.row + self.margin
        return flat.as_strided((flat.shape[0], self.channels, self.height, self.width), strides, start)

    def flat(self, x: Tensor, tile: Tile) -> Tensor:
        """The tile's images with their margins, (n, G, c, L); made once for all strips of an image."""
        length = (self.height + 2 * self.margin) * self.row + 2 * self.margin
        images = tile.last - tile.first
        flat = self._buffer('x', images, self.groups, self.channels // self.groups, length, zeroed=True)
        if tile.top == 0:
            self._inner(flat).copy_(x[tile.first : tile.last])  # the margins are zero since the buffer was made
        return flat

    def store_map(self, tensor: Tensor, flat: Tensor, images: range) -> None:
        """Write what lies inside the margins into the images' part of a (B, C, H, W) tensor."""
        tensor[images.start : images.stop].copy_(self._inner(flat))

    def flat_rows(self, tensor: Tensor, tile: Tile) -> Tensor:
        """The tile's part of (B, C, H, W) as (n, G, c, T), zero between the rows."""
        part = tile.of(tensor)
        rows = self._buffer('rows', part.shape[0], self.channels, tile.bottom - tile.top, self.row)
        rows[..., self.width :] = 0
        rows[..., : self.width].copy_(part)
        return rows.view(part.shape[0], self.groups, -1, len(tile))

    def flat_kernels(self, weight: Tensor, tile: Tile) -> Tensor:
        """The tile's part of (B, G, K, K, H, W) as (n, G, K*K, T)."""
        part = tile.of(weight).flatten(2, 3)  # (n, G, K*K, rows, W), a view: K, K lie as one axis
        kernels = self._buffer('kernels', *part.shape[:4], self.row, zeroed=True)  # finite between the rows
        kernels[..., : self.width].copy_(part)
        return kernels.flatten(3)

    def store_kernels(self, tensor: Tensor, kernels: Tensor, tile: Tile) -> None:
        """Write (n, G, K*K, T) into the tile's part of (B, G, K, K, H, W)."""
        rows = kernels.unflatten(3, (tile.bottom - tile.top, self.row))[..., : self.width]
        tile.of(tensor).copy_(rows.unflatten(2, (self.kernel_size, self.kernel_size)))

    def features(self, feature: Tensor, tile: Tile) -> Tensor:
        """The tile's part of (B, R, H, W) as (n, T, R + 1), zero between the rows; the last feature is 1."""
        part = tile.of(feature).permute(0, 2, 3, 1)  # (n, rows, W, R)
        images, height, _, channels = part.shape
        dtype = generator_dtype(feature)
        rows = self._buffer('features', images, height, self.row, channels + 1, dtype=dtype)
        rows[:, :, self.width :, :-1] = 0
        rows[:, :, : self.width, :-1].copy_(part)
        rows[..., -1] = 1
        return rows.flatten(1, 2)

    def generate(self, generator: Tensor, features: Tensor, tile: Tile) -> Tensor:
        """The kernels of the tile, (n, G, K*K, T), from (G*K*K, R + 1) and (n, T, R + 1)."""
        shape = features.shape[0], generator.shape[0], len(tile)
        if self._by_rows and len(features) == 1:
            kernels = onednn_product(generator, features[0]).unsqueeze(0)
        else:
            into = self._buffer('generated', *shape, dtype=generator.dtype)
            kernels = torch.matmul(generator, features.transpose(1, 2), out=into)
        if kernels.dtype != self.dtype:
            kernels = self._buffer('kernels', *shape).copy_(kernels)
        return kernels.unflatten(1, (self.groups, self.kernel_size**2))

    def _shifts(self, tile: Tile) -> Iterator[tuple[int, slice]]:
        """For every element of the kernel: its number, and where its neighbours of the tile lie in a flat map."""
        for i in range(self.kernel_size):
            for j in range(self.kernel_size):
                start = (tile.top + i) * self.row + j
                yield i * self.kernel_size + j, slice(start, start + len(tile))

    def apply(self, kernels: Tensor, flat: Tensor, tile: Tile) -> Tensor:
        """Weigh and sum the neighbours: (n, G, K*K, T) and (n, G, c, L) -> (n, C, T)."""
        out = self._buffer('out', *flat.shape[:3], len(tile))
        for k, shift in self._shifts(tile):
            kernel = kernels[:, :, k].unsqueeze(2)  # (n, G, 1, T)
            if k == 0:
                torch.mul(kernel, flat[..., shift], out=out)
            else:
                out.addcmul_(kernel, flat[..., shift])
        return out.flatten(1, 2)

    def pull_back(self, kernels: Tensor, grad: Tensor, flat: Tensor, grad_flat: Tensor, tile: Tile) -> Tensor:
        """Gradient of the kernels, (n, G, K*K, T); that of the map is added to `grad_flat` (n, G, c, L)."""
        grad_kernels = self._buffer('grad_kernels', *kernels.shape)
        product = self._buffer('product', *grad.shape)
        for k, shift in self._shifts(tile):
            torch.mul(grad, flat[..., shift], out=product)
            torch.sum(product, 2, out=grad_kernels[:, :, k])
            grad_flat[..., shift].addcmul_(kernels[:, :, k].unsqueeze(2), grad)
        return grad_kernels
