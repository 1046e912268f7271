"""Maps cut into square windows, plain or shifted, and put together again.

Source: Liu et al., "Swin Transformer" (ICCV 2021), section 3.2, "Efficient batch computation for shifted
configuration": the map is rolled by half a window, and a mask keeps apart what is no neighbour in the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class Windows:
    """The windows of maps of one size.

    Args:
        size: (H, W) of the maps.
        side: K, of a window. Maps are padded with zeros at the right and the bottom to multiples of it.
        shift: roll the maps by K // 2 first. A map that is no larger than a window in one direction is not rolled,
            as in Swin's classifiers.
    """

    def __init__(self, size: tuple[int, int], side: int, shift: bool):
        self.height, self.width = size
        self.side = side
        self.rows, self.columns = -(-self.height // side), -(-self.width // side)
        self.shift = side // 2 if shift and min(size) > side else 0

    def cut(self, x: Tensor) -> Tensor:
        """Cut (B, C, H, W) into (B, windows, K * K, C)."""
        bottom, right = self.rows * self.side - self.height, self.columns * self.side - self.width
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (self.columns, self.side)).unflatten(1, (self.rows, self.side))
        x = x.transpose(2, 3)  # (B, rows, columns, K, K, C)
        return x.flatten(3, 4).flatten(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """Put (B, windows, K * K, C) together again: (B, C, H, W), channels_last."""
        x = x.unflatten(2, (self.side, self.side)).unflatten(1, (self.rows, self.columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, rows * K, columns * K, C)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, : self.height, : self.width].permute(0, 3, 1, 2)

    def neighbours(self, device: torch.device) -> Tensor | None:
        """Which pairs of a window are neighbours in the image too, (windows, K*K, K*K); None for all of them."""
        if not self.shift:
            return None
        # after rolling, the last row (column) of windows holds two parts that lay apart
        parts = [
            torch.arange(windows * self.side, device=device) >= windows * self.side - self.shift
            for windows in (self.rows, self.columns)
        ]
        part = 2 * parts[0].int().unsqueeze(1) + parts[1].int()  # (rows * K, columns * K)
        part = part.unflatten(1, (self.columns, self.side)).unflatten(0, (self.rows, self.side))
        part = part.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (windows, K * K)
        return part.unsqueeze(2) == part.unsqueeze(1)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad a (B, C, H, W) map with zeros at the right and the bottom to multiples of `multiple`."""
    # not `-side % multiple`: with free sizes, torch.compile (2.11) has no such modulo of negative numbers
    bottom, right = [(side + multiple - 1) // multiple * multiple - side for side in x.shape[2:]]
    return F.pad(x, (0, right, 0, bottom)) if right or bottom else x


def on_padded(mix: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """Apply a function of maps to a map padded with zeros to multiples, and crop what it returns."""
    height, width = x.shape[2:]
    return mix(pad_to_multiple(x, multiple))[:, :, :height, :width]
