"""Attention to fewer keys and values than there are positions: an attention map of low rank.

Sources: Wang et al., "Linformer: Self-Attention with Linear Complexity" (2020), equation 7; Wang et al., "Pyramid
Vision Transformer" (ICCV 2021), section 3.3, equations 1 to 3, "spatial-reduction attention". Han et al. place
both beside attention in their relation graph (ICLR 2022, figure 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .attention import QkvAttention, attend
from .base import TokenMixer, as_map, as_sequence, groups_of, over_channels
from .learned_weights import check_count, learned_weights, resize_summed
from .norm import LayerNorm2d
from .windows import pad_to_multiple


@MODELS.register_module()
class LinformerAttention(QkvAttention):
    """Multi-head attention to learned sums, over all positions, of the keys and of the values.

    One matrix for the keys and one for the values, shared by the heads (the paper's "headwise sharing"). The
    Linear layers before and behind are those of attention.

    values: the last C outputs of `qkv`; source: the queries and keys before them.

    Args:
        channels: C.
        head_channels: d, of a head.
        projected: the paper's k, how many sums there are.
        map_size: (H, W) that the matrices are learned for; for other maps they are resized.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels, or `projected` is no positive integer.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 64,
        projected: int = 64,
        map_size: tuple[int, int] = (14, 14),
        init_cfg: dict | None = None,
    ):
        super().__init__(channels, head_channels, 'softmax', init_cfg)
        check_count(projected, 'projected', type(self).__name__)
        self.map_size = tuple(map_size)
        positions = self.map_size[0] * self.map_size[1]
        self.of_keys = learned_weights(projected, positions)  # E
        self.of_values = learned_weights(projected, positions)  # F

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        size = tuple(values.shape[2:])
        q, k = as_sequence(source).chunk(2, -1)  # (B, N, C)
        k, v = self._sums(self.of_keys, k, size), self._sums(self.of_values, as_sequence(values), size)
        mixed = attend(self._split(q), self._split(k), self._split(v), self.activation)
        return as_map(mixed.transpose(1, 2).flatten(2), size)

    def _sums(self, weights: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, projected, C)."""
        weights = resize_summed(weights, self.map_size, size)
        return torch.einsum('kn,bnc->bkc', weights, x)


@MODELS.register_module()
class PyramidAttention(TokenMixer):
    """Multi-head attention to the keys and values of a map that is smaller by R x R, as in PVT.

    Queries are made at every position; keys and values from patches of R x R positions, through a convolution
    without overlap, a LayerNorm and a Linear. A map is padded with zeros at the right and the bottom to whole
    patches, where PVT leaves the rest out.

    values: of a position, those of its patch, which `mix` takes the mean of again. Between the input and the
    values of PVT lies a LayerNorm, so that no sum of the input is what they are, and they are made before they are
    mixed. source: the queries, and the keys in the same way.

    Args:
        channels: C.
        head_channels: d, of a head.
        reduction: R; PVT has 8, 4, 2 and 1 in its stages. 1 is attention to every position, and has neither
            convolution nor LayerNorm.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels, or `reduction` is no positive integer.
    """

    def __init__(self, channels: int, head_channels: int = 64, reduction: int = 2, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        check_count(reduction, 'reduction', type(self).__name__)
        self.heads = groups_of(channels, head_channels, 'head_channels', type(self).__name__)
        self.reduction = reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.reduce = nn.Identity()
        if reduction > 1:
            conv = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.reduce = nn.Sequential(conv, LayerNorm2d(channels))
        self.proj = nn.Linear(channels, channels)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self.reduce(pad_to_multiple(x, self.reduction))  # (B, C, ceil(H / R), ceil(W / R))
        keys, values = self._spread(over_channels(self.kv, reduced), tuple(x.shape[2:])).chunk(2, 1)
        return values, torch.cat((over_channels(self.q, x), keys), 1)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        size, side = tuple(values.shape[2:]), self.reduction
        q, k = source.chunk(2, 1)
        k = k[:, :, ::side, ::side]
        # means of patches, at the edges of what there is of them; not the value at one place of the patch, so that
        # a derivative by the values is the same all over it
        v = F.avg_pool2d(values, side, ceil_mode=True)
        parts = (as_sequence(part).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return as_map(attend(*parts, 'softmax').transpose(1, 2).flatten(2), size)

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)

    def _spread(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Give every position what its patch has, (B, C, ceil(H / R), ceil(W / R)) -> (B, C, H, W)."""
        if self.reduction == 1:
            return x
        x = x.permute(0, 2, 3, 1)[:, :, None, :, None]  # (B, rows, 1, columns, 1, C)
        x = x.expand(-1, -1, self.reduction, -1, self.reduction, -1).flatten(3, 4).flatten(1, 2)
        return x[:, : size[0], : size[1]].permute(0, 3, 1, 2)
