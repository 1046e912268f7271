"""Kernels per position in a loop that torch.compile writes and a C++ compiler builds.

`auto` takes it on a CPU when the network itself is compiled; by name it runs in eager mode too. Forward passes
only: gradients are those of `tiled.py`. The first call of a process takes some ten seconds, and so does the first
of every other dtype and number of channels at once; of sizes it matters only which are 1 or equal. Beyond torch's
limit of such variants in a process (8 by default) it runs the same loop uncompiled, and torch says so.

Memory is in the order of the positions, and the kernels of a position in the order (K, K, G): the generator is a
product that writes them so, from the rows of a channels_last map as they are; the loop then takes the same tap of
neighbouring groups at once, and every value of a kernel that it loads serves several channels. A map whose groups
run fastest in memory is read and written as it lies; channels in another order are permuted on the way in and out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor

from . import tiled
from .cpu import onednn_multiplies, onednn_product
from .flat_maps import generator_dtype, sum_dtype, tile_size

depthwise_forward, depthwise_backward = tiled.depthwise_forward, tiled.depthwise_backward
dynamic_forward, dynamic_backward = tiled.dynamic_forward, tiled.dynamic_backward
inhomogeneous_backward, generated_backward = tiled.inhomogeneous_backward, tiled.generated_backward

# Elements of the kernels that a tile holds, 5 MB in bfloat16: calling the loop costs as much as 500 positions.
TILE_ELEMENTS = 2_500_000
# Fewer groups than this leave most of a vector of 16 empty; a loop over torch's operations does not.
FEW_GROUPS = 8


def inhomogeneous_forward(x: Tensor, weight: Tensor) -> Tensor:
    """As in `tiled.py`."""
    groups, kernel_size = weight.shape[1:3]
    if groups < FEW_GROUPS:
        return tiled.inhomogeneous_forward(x, weight)
    positions = weight.permute(0, 4, 5, 2, 3, 1)  # (B, H, W, K, K, G)
    maps = _MapsByPosition(x, groups, kernel_size)
    zero = torch.zeros(kernel_size, kernel_size, groups, dtype=maps.dtype, device=x.device)
    for images, rows in maps.tiles():
        part = positions[images, rows]
        kernels = maps.buffer('kernels', part.shape, weight.dtype).copy_(part)
        maps.weigh(kernels, zero, images, rows)
    return maps.out


def generated_forward(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> Tensor:
    """As in `tiled.py`; x may be (B, G, C / G, H, W) too, of any strides, where `takes_axis_of_groups` says so."""
    if groups < FEW_GROUPS:
        return tiled.generated_forward(x, feature, weight, bias, groups, kernel_size)
    taps = (kernel_size, kernel_size, groups)
    maps = _MapsByPosition(x, groups, kernel_size)
    dtype = generator_dtype(x)
    generator = weight.unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1).to(dtype)  # (K*K*G, R)
    bias = bias.unflatten(0, (groups, -1)).t().contiguous().view(taps).to(maps.dtype)
    features = feature.permute(0, 2, 3, 1).to(dtype)  # (B, H, W, R)
    for images, rows in maps.tiles():
        part = features[images, rows]
        kernels = maps.product(part.flatten(0, 2), generator)  # (positions, K*K*G)
        maps.weigh(kernels.view(*part.shape[:3], *taps), bias, images, rows)
    return maps.out


def takes_axis_of_groups(groups: int) -> bool:
    """Whether `generated_forward` takes a map with an axis of so many groups; no gradient does."""
    return groups >= FEW_GROUPS and not torch.is_grad_enabled()


class _MapsByPosition:
    """A batch of maps and its result, a tile at a time: some images, or a strip of rows of one.

    G groups of c channels; m of them are summed at once.

    Args:
        x: a map, (B, C, H, W) or (B, G, c, H, W).
        groups: G.
        kernel_size: K.
    """

    def __init__(self, x: Tensor, groups: int, kernel_size: int):
        self.kernel_size = kernel_size
        self.dtype = sum_dtype(x)
        self.out = torch.empty_like(x)
        self.batch, *channels, self.height, self.width = x.shape
        each = prod(channels) // groups
        shape = self.batch, groups, each, self.height, self.width  # (B, G, c, H, W)
        self._x, self._out = x.view(shape), self.out.view(shape)
        at_once = next(m for m in (3, 4, 2, 1) if each % m == 0)
        self._channels = (each // at_once, at_once)
        kernels_of_row = groups * kernel_size**2 * self.width
        self._rows, self._images = tile_size(self.height, kernels_of_row, TILE_ELEMENTS)
        self._padded: Tensor | None = None
        self._buffers: dict[str, Tensor] = {}

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """The images and rows of every tile."""
        if self._x.numel() == 0:
            return
        for first in range(0, self.batch, self._images):
            images = slice(first, min(first + self._images, self.batch))
            self._pad(images)
            for top in range(0, self.height, self._rows):
                yield images, slice(top, min(top + self._rows, self.height))

    def _pad(self, images: slice) -> None:
        """Take the images in with their margins: (n, H + K - 1, W + K - 1, c / m, m, G)."""
        part = self._by_channel(self._x[images])
        margin = self.kernel_size // 2
        shape = len(part), self.height + 2 * margin, self.width + 2 * margin, *part.shape[3:]
        if self._padded is None:  # the first part is the largest
            self._padded = torch.zeros(shape, dtype=self.dtype, device=self._x.device)
        self._padded = self._padded[: len(part)]
        self._padded[:, margin : margin + self.height, margin : margin + self.width].copy_(part)

    def _by_channel(self, maps: Tensor) -> Tensor:
        """A view of (n, G, c, H, W), (n, H, W, c / m, m, G)."""
        return maps.unflatten(2, self._channels).permute(0, 4, 5, 2, 3, 1)

    def product(self, features: Tensor, generator: Tensor) -> Tensor:
        """`features @ generator.t()`, (T, R) and (N, R) -> (T, N)."""
        if onednn_multiplies(generator.device.type, generator.dtype):
            return onednn_product(features, generator)
        into = self.buffer('kernels', (len(features), len(generator)), generator.dtype)
        return torch.mm(features, generator.t(), out=into)

    def weigh(self, kernels: Tensor, bias: Tensor, images: slice, rows: slice) -> None:
        """Write the sums of a tile, from its kernels, (n, rows, W, K, K, G), and what is added to all of them."""
        padded, size = self._padded, self.kernel_size
        image, row, column, *channels = padded.stride()
        shape = *kernels.shape[:3], size, size, *padded.shape[3:]
        strides = image, row, column, row, column, *channels
        neighbours = padded.as_strided(shape, strides, rows.start * row)  # (n, rows, W, K, K, c / m, m, G)
        out = self._by_channel(self._out[images])[:, rows]
        in_place = out.is_contiguous()
        # as a view of its own shape a strip of one image is no other case for torch.compile than a whole image
        sums = out.view(out.shape) if in_place else self.buffer('sums', out.shape, out.dtype)
        _weigh()(kernels, bias, neighbours, sums)
        if not in_place:
            out.copy_(sums)

    def buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor in memory that stays for all tiles; the first one is the largest."""
        size = prod(shape)
        if name not in self._buffers:
            self._buffers[name] = torch.empty(size, dtype=dtype, device=self._x.device)
        return self._buffers[name][:size].view(shape)


def obstacle(device: str | torch.device) -> str | None:
    """Why it cannot run on a device, in a few words, or None."""
    if torch.device(device).type != 'cpu':
        return 'it is for CPUs'
    return _missing_compiler()


@functools.cache
def _missing_compiler() -> str | None:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except ImportError as error:
        return f'this torch has no CPU code generator that is known here ({error})'
    except Exception as error:  # its own exception types changed their place between releases of torch
        return f'torch.compile found no C++ compiler: install g++ ({type(error).__name__})'
    return None


@functools.cache
def _weigh() -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
    return torch.compile(weigh, dynamic=True)


def weigh(kernels: Tensor, bias: Tensor, neighbours: Tensor, out: Tensor) -> None:
    """Weigh and sum K * K neighbours.

    Args:
        kernels: (n, rows, W, K, K, G), in half precision if they were generated so.
        bias: (K, K, G), added to all of them.
        neighbours: (n, rows, W, K, K, c / m, m, G), in the dtype of the sums.
        out: (n, rows, W, c / m, m, G), written.
    """
    kernels = (kernels.to(bias.dtype) + bias).unsqueeze(5)
    for i in range(out.shape[4]):  # in one loop, which loads a kernel once
        out[:, :, :, :, i].copy_((kernels * neighbours[:, :, :, :, :, :, i]).sum((3, 4)))
