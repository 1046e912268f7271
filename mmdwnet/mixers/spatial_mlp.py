"""Spatial MLP: learned weights between all positions of a map, shared by all channels.

Sources: Touvron et al., "ResMLP" (2021), section 2, one linear map; Tolstikhin et al., "MLP-Mixer" (NeurIPS
2021), equation 1, two of them with a GELU between. Neither has a projection before or behind: what stands there, a
norm and in ResMLP a layer scale, is of the block around.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .base import BareMixer, as_map, as_sequence
from .learned_weights import check_count, learned_weights, resize_per_position, resize_summed


@MODELS.register_module()
class SpatialMlp(BareMixer):
    """ResMLP's linear map over all positions, or with `hidden` Mixer's MLP of two.

    values: the input. With `hidden` there is a GELU between the two maps, so that no sum of the input is what the
    mixer returns: then `prepare` takes the first map and the GELU, and the values are its results, (B, C, hidden,
    1), which have no place in the map. source: the input, of which only the size of the map is used.

    The weights are as many as the map has positions, squared: 9.8 million at 56 x 56.

    Args:
        channels: C; the weights are shared by all of them, and do not depend on their number.
        hidden: how many sums over all positions the first of two maps makes; None for a single map.
        map_size: (H, W) that the weights are learned for; for other maps they are resized.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `hidden` is no positive integer.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        map_size: tuple[int, int] = (14, 14),
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.map_size = tuple(map_size)
        self.hidden = hidden
        positions = self.map_size[0] * self.map_size[1]
        summed = positions
        if hidden is not None:
            check_count(hidden, 'hidden', type(self).__name__)
            summed = hidden
            self.weight_in = learned_weights(hidden, positions)
            self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight = learned_weights(positions, summed)  # output position first
        self.bias = nn.Parameter(torch.zeros(positions))

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.hidden is None:
            return super().prepare(x)
        weight = resize_summed(self.weight_in, self.map_size, tuple(x.shape[2:]))
        hidden = torch.einsum('kn,bnc->bkc', weight, as_sequence(x))  # (B, hidden, C)
        hidden = F.gelu(hidden + self.bias_in.to(hidden.dtype)[:, None])
        return as_map(hidden, (self.hidden, 1)), x

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        size = tuple(source.shape[2:])
        weight = resize_per_position(self.weight, self.map_size, size)  # (H * W, positions or hidden)
        if self.hidden is None:
            weight = resize_summed(weight, self.map_size, size)
        bias = resize_per_position(self.bias[:, None], self.map_size, size)  # (H * W, 1)
        mixed = torch.einsum('nm,bmc->bnc', weight, as_sequence(values))  # (B, H * W, C)
        return as_map(mixed + bias.to(mixed.dtype), size)
