"""Images side by side in memory: a batch of maps as one image, whose channels are those of all of them.

A convolution with a kernel per image and channel is a static one of that image, and a CPU runs it as one call
instead of one an image. The memory is (H, W, B, C), position by position, the images of a position side by side.
What a network does at every position by itself it does on the same memory as a map of H * W * B positions: a batch
is brought into this order once a stage, and nothing else is copied.
"""

from __future__ import annotations

from torch import Tensor


def side_by_side(x: Tensor) -> Tensor:
    """A batch of maps (B, C, H, W) as the map of all their positions, (1, C, H * W * B, 1); a copy."""
    return _as_map(x.permute(2, 3, 0, 1).reshape(-1, x.shape[1]))


def one_by_one(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The batch again, (1, C, H * W * B, 1) -> (B, C, H, W); a view, for `size` (H, W)."""
    return _rows(x).reshape(*size, -1, x.shape[1]).permute(2, 3, 0, 1)


def as_one_image(x: Tensor, size: tuple[int, int]) -> Tensor:
    """All images as one, (1, C, H * W * B, 1) -> (1, B*C, H, W) in channels_last memory; a view."""
    return _rows(x).reshape(1, *size, -1).permute(0, 3, 1, 2)


def as_positions(image: Tensor, channels: int) -> Tensor:
    """One image as the map of all positions again, (1, B*C, H, W) -> (1, C, H * W * B, 1); a view."""
    return _as_map(image.permute(0, 2, 3, 1).reshape(-1, channels))


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)  # (H * W * B, C)


def _as_map(rows: Tensor) -> Tensor:
    return rows[None, :, None].permute(0, 3, 1, 2)
