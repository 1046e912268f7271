"""Neighbourhood attention as a token mixer.

Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), section 3.1, and its code,
SHI-Labs/Neighborhood-Attention-Transformer@3cf9a29, for the name of the bias and for maps smaller than the kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import neighbourhood_attention
from ..registry import MODELS
from .base import TokenMixer, groups_of, over_channels


@MODELS.register_module()
class NeighbourhoodAttention(TokenMixer):
    """Multi-head self-attention of every position with the K x K positions nearest to it, with relative position.

    values: the last C outputs of `qkv`; source: the queries and keys before them. A side of a map that is shorter
    than K is padded with zeros at its end before queries, keys and values are made, and what is padded takes part.

    Args:
        channels: C.
        head_channels: d, of a head.
        kernel_size: K, odd.
        relative_position: learn a bias per head and offset, `rpb`, (heads, 2K - 1, 2K - 1).
        impl: of `mmdwnet.ops.neighbourhood_attention`.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels, or an even kernel.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 32,
        kernel_size: int = 7,
        relative_position: bool = True,
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'NeighbourhoodAttention: kernel_size must be odd, got {kernel_size}')
        self.heads = groups_of(channels, head_channels, 'head_channels', type(self).__name__)
        self.kernel_size = kernel_size
        self.impl = impl
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        offsets = 2 * kernel_size - 1
        # under this name the weight decay rules of the NAT recipes know it
        self.rpb = nn.Parameter(torch.empty(self.heads, offsets, offsets)) if relative_position else None
        if relative_position:
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self._at_least_a_kernel(x))[:, :, : x.shape[2], : x.shape[3]]

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        qkv = over_channels(self.qkv, x)  # (B, 3C, H, W)
        channels = x.shape[1]
        return qkv[:, 2 * channels :], qkv[:, : 2 * channels]

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        height, width = values.shape[2:]
        q, k = self._at_least_a_kernel(source).chunk(2, 1)
        q, k, v = [self._by_head(part) for part in (q, k, self._at_least_a_kernel(values))]
        mixed = neighbourhood_attention(q, k, v, self.kernel_size, self.rpb, self.impl)
        mixed = mixed.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)  # (B, C, H, W), channels_last
        return mixed[:, :, :height, :width]

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, heads, H, W, d): a head's channels lie together; a view."""
        return x.unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 2)

    def _at_least_a_kernel(self, x: Tensor) -> Tensor:
        bottom, right = [max(self.kernel_size - side, 0) for side in x.shape[2:]]
        return F.pad(x, (0, right, 0, bottom)) if bottom or right else x
