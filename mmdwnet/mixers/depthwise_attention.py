"""Depth-wise self-attention: the keys that a query selects are averaged into one kernel, which multiplies it.

Source: "Interpret Vision Transformers as ConvNets with Dynamic Convolutions", section 4.3 and equation 5. There is
no value projection and no activation. Relative position, with a softmax a bias and without one a weight of the
values, is applied to the keys:

    out_i = q_i * mean_j(k_j) + sum_j b_ij k_j

The paper shows neither the form of the sum nor what its tables index: per head is what its Swin-B has, per channel
what its Swin-T has, by their published parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .attention import weigh
from .base import SequenceMixer, TokenMixer, groups_of, over_channels
from .relative_position import RelativePosition
from .windows import Windows, on_padded


class _DepthwiseAttention(TokenMixer):
    """values: the queries, which a kernel multiplies; source: the keys, which it is made from."""

    def __init__(self, channels: int, head_channels: int, size: tuple[int, int] | None, init_cfg: dict | None):
        super().__init__(init_cfg)
        self.heads = groups_of(channels, head_channels, 'head_channels', type(self).__name__)
        self.qk = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.position = None if size is None else RelativePosition(self.heads, size)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = over_channels(self.qk, x).chunk(2, 1)
        return queries, keys

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)


@MODELS.register_module()
class DepthwiseGlobalAttention(_DepthwiseAttention, SequenceMixer):
    """Depth-wise self-attention over all positions, and over tokens beside the map.

    Args:
        channels: C.
        head_channels: how many channels share their relative position.
        relative_position: learn a number per head and offset between two positions of the map.
        map_size: (H, W) that these are learned for; for other maps they are resized.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 64,
        relative_position: bool = True,
        map_size: tuple[int, int] = (14, 14),
        init_cfg: dict | None = None,
    ):
        super().__init__(channels, head_channels, map_size if relative_position else None, init_cfg)

    def mix_sequence(self, values: Tensor, source: Tensor, size: tuple[int, int]) -> Tensor:
        mixed = values * source.mean(1, keepdim=True)
        if self.position is None:
            return mixed
        tokens = source.shape[1] - size[0] * size[1]
        by_head = source[:, tokens:].unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, H * W, d)
        placed = weigh(self.position(size), by_head).transpose(1, 2).flatten(2)
        return torch.cat((mixed[:, :tokens], mixed[:, tokens:] + placed), 1)


@MODELS.register_module()
class DepthwiseWindowAttention(_DepthwiseAttention):
    """Depth-wise self-attention within square windows, shifted or not; padding and shifts as in WindowAttention.

    Args:
        channels: C.
        head_channels: how many channels share their relative position.
        window_size: K, the side of a window.
        shift: windows moved by K // 2, the cut parts kept apart.
        relative_position: learn a number per head and offset within a window.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 32,
        window_size: int = 7,
        shift: bool = False,
        relative_position: bool = True,
        init_cfg: dict | None = None,
    ):
        sides = (window_size, window_size)
        super().__init__(channels, head_channels, sides if relative_position else None, init_cfg)
        self.window_size, self.shift = window_size, shift

    def forward(self, x: Tensor) -> Tensor:
        return on_padded(super().forward, x, self.window_size)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        windows = Windows(tuple(values.shape[2:]), self.window_size, self.shift)
        queries, keys = windows.cut(values), windows.cut(source)  # (B, windows, K * K, C)
        allowed = windows.neighbours(values.device)
        if allowed is None:
            mixed = queries * keys.mean(2, keepdim=True)
        else:
            allowed = allowed.to(keys.dtype)
            mixed = queries * ((allowed / allowed.sum(-1, keepdim=True)) @ keys)
        if self.position is not None:
            mixed = mixed + self._placed(keys, allowed)
        return windows.join(mixed)

    def _placed(self, keys: Tensor, allowed: Tensor | None) -> Tensor:
        """The keys weighed by relative position, those apart left out, (B, windows, K * K, C)."""
        weights = self.position((self.window_size, self.window_size)).to(keys.dtype)  # (heads, K * K, K * K)
        by_head = keys.unflatten(-1, (self.heads, -1))  # (B, windows, K * K, heads, d)
        if allowed is None:
            placed = torch.einsum('hnm,bwmhd->bwnhd', weights, by_head)
        else:
            placed = torch.einsum('whnm,bwmhd->bwnhd', weights * allowed.unsqueeze(1), by_head)
        return placed.flatten(3)
