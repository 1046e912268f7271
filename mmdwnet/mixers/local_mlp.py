"""Local MLP: Swin's windows with weights that are learned, not computed from the image.

Source: Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution" (ICLR 2022),
figure 2 (a), "the static version of Swin transformer". What stays of Swin's attention is all that is not made for
the weights: the Linear that makes the values, the windows, and the Linear behind. The authors published no code of
it; that the weights have no bias beside them, as attention has none, is this project's choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .base import TokenMixer, groups_of, over_channels
from .learned_weights import learned_weights
from .windows import Windows, on_padded


@MODELS.register_module()
class LocalMlp(TokenMixer):
    """Within square windows, a learned weight for every pair of positions, shared by a group of channels.

    The weights are the same in every window. A map is padded as in WindowAttention, and not shifted where it is no
    larger than a window in one direction.

    values: a Linear of the input; source: not used.

    Args:
        channels: C.
        share_channels: how many channels share a K * K x K * K matrix, from 1 to C. 32 is what the heads of Swin
            share.
        window_size: K, the side of a window.
        shift: windows moved by K // 2, the cut parts kept apart: the weights between them count as 0.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `share_channels` does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        share_channels: int = 32,
        window_size: int = 7,
        shift: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.groups = groups_of(channels, share_channels, 'share_channels', type(self).__name__)
        self.window_size, self.shift = window_size, shift
        self.v = nn.Linear(channels, channels)
        self.weight = learned_weights(self.groups, window_size**2, window_size**2)  # output position first
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return on_padded(super().forward, x, self.window_size)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values = over_channels(self.v, x)
        return values, values

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        height, width = values.shape[2:]
        shift = Windows((height, width), self.window_size, self.shift).shift
        # A roll would put the two ends of the map into one window and need a mask per window, and so weights per
        # window. Zeros before the map keep the ends in windows of their own, at the same places in them.
        before = self.window_size - shift if shift else 0
        windows = Windows((height + before, width + before), self.window_size, shift=False)
        v = windows.cut(F.pad(values, (before, 0, before, 0))).unflatten(-1, (self.groups, -1))
        # (G, K*K, K*K) with (B, windows, K*K, G, C / G): one matrix product per group, nothing copied per image
        mixed = torch.einsum('gnm,bwmgc->bwngc', self.weight, v)
        return windows.join(mixed.flatten(3))[:, :, before:, before:]

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)
