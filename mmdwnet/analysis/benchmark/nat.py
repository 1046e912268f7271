"""NAT, the Neighborhood Attention Transformer, on the `natten` package: a peer of the benchmark.

Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023): its sizes, overlapping tokenizer and
overlapping downsampler. `natten` has no relative position bias since 0.20, so there is none here. Maps are
(B, H, W, C), as `natten` takes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

NAT_ARCHS = {
    # channels and heads of the first stage, doubled by each stage after it; depths; MLP ratio; layer scale
    'tiny': dict(channels=64, heads=2, depths=(3, 4, 18, 5), ratio=3, scale=None),
    'base': dict(channels=128, heads=4, depths=(3, 4, 18, 5), ratio=2, scale=1e-5),
}
KERNEL_SIZE = 7


class Nat(nn.Module):
    """A NAT classifier, (B, 3, H, W) images to (B, num_classes) logits.

    Args:
        arch: 'tiny' or 'base'.
        drop_path_rate: of the last block, rising linearly from 0.
        num_classes: classes of the head.

    Raises:
        ImportError: `natten` is not installed.
    """

    def __init__(self, arch: str, drop_path_rate: float, num_classes: int = 1000):
        super().__init__()
        size = NAT_ARCHS[arch]
        channels, heads, depths = size['channels'], size['heads'], size['depths']
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels // 2, 3, stride=2, padding=1),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
        )
        self.stem_norm = nn.LayerNorm(channels)
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            stage = nn.Module()
            stage.downsample = _Downsample(channels // 2) if i else nn.Identity()
            stage.blocks = nn.Sequential(
                *(_Block(channels, heads, size['ratio'], size['scale'], rates.pop(0)) for _ in range(depth))
            )
            self.stages.append(stage)
            channels, heads = 2 * channels, 2 * heads
        self.norm = nn.LayerNorm(channels // 2)
        self.head = nn.Linear(channels // 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(images).permute(0, 2, 3, 1))  # (B, H, W, C)
        for stage in self.stages:
            x = stage.blocks(stage.downsample(x))
        return self.head(self.norm(x).mean((1, 2)))


class _Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int, ratio: int, scale: float | None, drop_path_rate: float):
        super().__init__()
        from natten import NeighborhoodAttention2D  # optional, and slow to import

        self.norm1 = nn.LayerNorm(channels)
        self.attention = NeighborhoodAttention2D(channels, num_heads=heads, kernel_size=KERNEL_SIZE)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)
        self.scales = nn.ParameterList(
            nn.Parameter(scale * torch.ones(channels)) for _ in range(2 if scale else 0)
        )
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._scaled(self.attention(self.norm1(x)), 0))
        return x + self.drop_path(self._scaled(self.fc2(F.gelu(self.fc1(self.norm2(x)))), 1))

    def _scaled(self, x: Tensor, branch: int) -> Tensor:
        return x * self.scales[branch] if len(self.scales) else x
