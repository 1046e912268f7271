"""Images side by side in memory: a batch of maps as one image, whose channels are those of all of them.

A convolution with a kernel per image and channel is a static one of that image, and a CPU runs it as one call
instead of one an image. The memory is (H, W, B, C), position by position, the images of a position side by side.
What a network does at every position by itself it does on the same memory in the form (H, C, W, B), a map in
channels_last memory like any other but for the order of its positions: a batch is brought into it once a stage,
and nothing else is copied. The form has no side of 1, whose stride torch.compile would leave open where the size
of the batch is a variable: torch would then take the memory to be in another layout.
"""

from __future__ import annotations

import torch
from torch import Tensor


def side_by_side(x: Tensor) -> Tensor:
    """A batch of maps (B, C, H, W) as (H, C, W, B) in channels_last memory; a copy."""
    return x.permute(2, 1, 3, 0).contiguous(memory_format=torch.channels_last)


def as_batch(x: Tensor) -> Tensor:
    """The batch again, (H, C, W, B) -> (B, C, H, W); a view."""
    return x.permute(3, 1, 0, 2)


def as_one_image(x: Tensor) -> Tensor:
    """All images as one, (H, C, W, B) -> (1, B*C, H, W) in channels_last memory; a view."""
    return x.permute(0, 2, 3, 1).flatten(2)[None].permute(0, 3, 1, 2)


def as_side_by_side(image: Tensor, channels: int) -> Tensor:
    """One image as images side by side again, (1, B*C, H, W) -> (H, C, W, B); a view."""
    return image[0].permute(1, 2, 0).unflatten(2, (-1, channels)).permute(0, 3, 1, 2)
