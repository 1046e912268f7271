"""Relative position: one learned number per head and offset between two positions of a map or window.

Source: Liu et al., "Swin Transformer" (ICCV 2021), equation 4; for a whole map with the same table, table 3 of
"Interpret Vision Transformers as ConvNets with Dynamic Convolutions" (27 x 27 entries a head at 14 x 14).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelativePosition(nn.Module):
    """A matrix over the positions of a window per head, looked up in a table of offsets.

    Args:
        heads: how many matrices.
        size: (H, W) that the table is learned for; (2H - 1)(2W - 1) entries a head.
    """

    def __init__(self, heads: int, size: tuple[int, int]):
        super().__init__()
        self.size = size
        # under this name the weight decay rules of the Swin recipes know it
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * size[0] - 1) * (2 * size[1] - 1), heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Return the matrices for (H, W), (heads, H * W, H * W), query first; another size resizes the table."""
        table = self.relative_position_bias_table
        if size != self.size:
            table = _resized(table, self.size, size)
        return table[offset_index(size, table.device)].permute(2, 0, 1)


def _resized(table: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    grid = table.t().unflatten(1, (2 * size[0] - 1, 2 * size[1] - 1)).unsqueeze(0)  # (1, heads, 2H - 1, 2W - 1)
    shape = 2 * wanted[0] - 1, 2 * wanted[1] - 1
    return F.interpolate(grid, shape, mode='bicubic', align_corners=False)[0].flatten(1).t()


def offset_index(size: tuple[int, int], device: torch.device) -> Tensor:
    """The row of the table for every pair of positions, (H * W, H * W), query first."""
    rows, columns = [
        torch.arange(side, device=device).unsqueeze(1) - torch.arange(side, device=device) + side - 1
        for side in size
    ]  # (H, H) and (W, W), from 0
    index = rows[:, None, :, None] * (2 * size[1] - 1) + columns[None, :, None, :]  # (H, W, H, W)
    return index.flatten(2).flatten(0, 1)
