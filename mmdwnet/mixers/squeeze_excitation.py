"""Squeeze-and-excitation: the channels of an image weighed by numbers made from its pooled map.

Source: Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018), section 3, equations 2 to 4. No position meets
another one but through the weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import autocast_off
from ..registry import MODELS
from .base import BareMixer
from .depthwise import hidden_width


@MODELS.register_module()
class SqueezeExcitation(BareMixer):
    """One weight per image and channel, between 0 and 1: pooled map -> C / r -> ReLU -> C -> sigmoid.

    The paper has no projection around it.

    values: the input; source: the input.

    Args:
        channels: C.
        reduction: r; the paper's networks have 16, for widths of 256 and more.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `reduction` does not lie between 1 and the channels.
    """

    def __init__(self, channels: int, reduction: int = 4, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.excite = PooledMlp(channels, reduction, channels)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        weights = self.excite(source).sigmoid()  # (B, C)
        return values * weights[:, :, None, None].to(values.dtype)


class PooledMlp(nn.Module):
    """The mean over the map, and two Linear layers with a ReLU between, (B, C, H, W) -> (B, out)."""

    def __init__(self, channels: int, reduction: int, out: int):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        # An error here is one in every position of the image, and float32 costs nothing on one position an image.
        with autocast_off(x.device.type):
            pooled = x.mean((2, 3), dtype=self.fc1.weight.dtype)  # (B, C)
            return self.fc2(F.relu(self.fc1(pooled)))
