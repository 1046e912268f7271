"""Attention, global and in windows, with the activations that stand between its two dynamic convolutions.

Sources: Vaswani et al. (2017), section 3.2; Touvron et al., DeiT (ICML 2021), for global attention with a class
token; Liu et al., Swin Transformer (ICCV 2021), for windows; "Interpret Vision Transformers as ConvNets with
Dynamic Convolutions", section 4.2 and equation 4, for the activations and what relative position is without a
softmax: added to the activated map, so that it weighs the values directly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .base import SequenceMixer, TokenMixer, groups_of, over_channels
from .relative_position import RelativePosition
from .windows import Windows, on_padded

# name: (scale of the products as a function of the channels of a head, LayerNorm over the keys, ReLU)
ACTIVATIONS = {
    'softmax': (lambda width: width**-0.5, False, False),
    'identity': (lambda width: 1.0, False, False),
    'scaling': (lambda width: 1 / width, False, False),
    'scaling-relu': (lambda width: 1 / width, False, True),
    'layernorm': (lambda width: 1.0, True, False),
    'layernorm-relu': (lambda width: 1.0, True, True),
}
LINEAR = ('identity', 'scaling')


def attend(
    q: Tensor, k: Tensor, v: Tensor, activation: str, bias: Tensor | None = None, allowed: Tensor | None = None
) -> Tensor:
    """Weigh the values by the activated products of queries and keys.

    Args:
        q, k, v: (B, heads, N, d), (B, heads, M, d), (B, heads, M, d).
        activation: a key of `ACTIVATIONS`.
        bias: (heads, N, M), added before a softmax, and behind any other activation.
        allowed: bool, (heads, N, M) or a shape that broadcasts to it; elsewhere a weight is 0.

    Returns:
        Tensor (B, heads, N, d).
    """
    bias = None if bias is None else bias.to(q.dtype)
    scale, normalise, rectify = ACTIVATIONS[activation]
    scale = scale(q.shape[-1])
    if activation == 'softmax':
        if allowed is not None:
            bias = torch.zeros((), dtype=q.dtype, device=q.device) if bias is None else bias
            bias = bias.masked_fill(~allowed, float('-inf'))
        return F.scaled_dot_product_attention(q, k, v, bias)  # divides by the root of d by itself
    if activation in LINEAR and bias is None and allowed is None and q.shape[-1] < k.shape[-2]:
        # with nothing between the two products they may be taken in the other order, where that is less work
        return (q * scale) @ (k.transpose(-2, -1) @ v)
    weights = (q * scale) @ k.transpose(-2, -1)  # (B, heads, N, M)
    if normalise:
        weights = _layer_norm(weights, allowed)
    if rectify:
        weights = F.relu(weights)
    if bias is not None:
        weights = weights + bias
    if allowed is not None:
        weights = weights.masked_fill(~allowed, 0)
    return weights @ v


def weigh(weights: Tensor, v: Tensor) -> Tensor:
    """(heads, N, M) and (B, heads, M, d) -> (B, heads, N, d), without a copy of the weights for each image."""
    return torch.einsum('hnm,bhmd->bhnd', weights.to(v.dtype), v)


def _layer_norm(weights: Tensor, allowed: Tensor | None, eps: float = 1e-5) -> Tensor:
    """LayerNorm over the allowed keys of a query; no weight and bias, for they would fix the number of keys."""
    if allowed is None:
        return F.layer_norm(weights, weights.shape[-1:], eps=eps)
    weights = weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights
    count = allowed.sum(-1, keepdim=True)
    centred = weights - (weights * allowed).sum(-1, keepdim=True) / count
    variance = (centred.square() * allowed).sum(-1, keepdim=True) / count
    return (centred * torch.rsqrt(variance + eps)).to(weights.dtype)


def check_activation(activation: str) -> None:
    """Raise ValueError unless the activation is known."""
    if activation not in ACTIVATIONS:
        raise ValueError(f'unknown activation {activation!r} of an attention: expected one of {list(ACTIVATIONS)}')


class QkvAttention(TokenMixer):
    """What attention over a map and over windows share: values, queries and keys by one Linear, and one behind.

    values: the last C outputs of `qkv`; source: the queries and keys before them.
    """

    def __init__(self, channels: int, head_channels: int, activation: str, init_cfg: dict | None):
        super().__init__(init_cfg)
        check_activation(activation)
        self.heads = groups_of(channels, head_channels, 'head_channels', type(self).__name__)
        self.activation = activation
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        qkv = over_channels(self.qkv, x)  # (B, 3C, H, W)
        channels = x.shape[1]
        return qkv[:, 2 * channels :], qkv[:, : 2 * channels]

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)

    def _split(self, x: Tensor) -> Tensor:
        """(..., N, C) -> (..., heads, N, d): a head's channels lie together."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


@MODELS.register_module()
class GlobalAttention(QkvAttention, SequenceMixer):
    """Multi-head self-attention over all positions, and over tokens beside the map.

    Args:
        channels: C.
        head_channels: d, of a head.
        activation: 'softmax', 'identity', 'scaling' (divide by d), 'scaling-relu', 'layernorm' (over the keys of
            a query) or 'layernorm-relu'.
        relative_position: learn a number per head and offset between two positions of the map.
        map_size: (H, W) that these are learned for; for other maps they are resized.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels, or an unknown activation.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 64,
        activation: str = 'softmax',
        relative_position: bool = False,
        map_size: tuple[int, int] = (14, 14),
        init_cfg: dict | None = None,
    ):
        super().__init__(channels, head_channels, activation, init_cfg)
        self.position = RelativePosition(self.heads, map_size) if relative_position else None

    def mix_sequence(self, values: Tensor, source: Tensor, size: tuple[int, int]) -> Tensor:
        q, k = [self._split(part) for part in source.chunk(2, -1)]  # (B, heads, T + N, d)
        v = self._split(values)
        if self.position is None:
            mixed = attend(q, k, v, self.activation)
        else:
            position = self.position(size)  # (heads, H * W, H * W)
            tokens = values.shape[1] - size[0] * size[1]
            if self.activation in LINEAR:  # a product by itself, so that there need not be a matrix of all tokens
                mixed = attend(q, k, v, self.activation)
                of_map = mixed[:, :, tokens:] + weigh(position, v[:, :, tokens:])
                mixed = torch.cat((mixed[:, :, :tokens], of_map), 2)
            else:  # no position between a token and the map
                mixed = attend(q, k, v, self.activation, F.pad(position, (tokens, 0, tokens, 0)))
        return mixed.transpose(1, 2).flatten(2)


@MODELS.register_module()
class WindowAttention(QkvAttention):
    """Multi-head self-attention within square windows, with relative position: Swin's, shifted or not.

    A map is padded with zeros at the right and the bottom to multiples of the window, before the queries, keys and
    values are made, and what is padded takes part, as in Swin's code. A map that is no larger than a window in one
    direction is not shifted.

    Args:
        channels: C.
        head_channels: d, of a head: how many channels share their attention weights.
        window_size: K, the side of a window.
        shift: windows moved by K // 2, the cut parts kept apart.
        activation: as in GlobalAttention; a LayerNorm is over the keys that a query may see.
        relative_position: learn a number per head and offset within a window.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: `head_channels` does not divide the channels, or an unknown activation.
    """

    def __init__(
        self,
        channels: int,
        head_channels: int = 32,
        window_size: int = 7,
        shift: bool = False,
        activation: str = 'softmax',
        relative_position: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(channels, head_channels, activation, init_cfg)
        self.window_size, self.shift = window_size, shift
        sides = (window_size, window_size)
        self.position = RelativePosition(self.heads, sides) if relative_position else None

    def forward(self, x: Tensor) -> Tensor:
        return on_padded(super().forward, x, self.window_size)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        windows = Windows(tuple(values.shape[2:]), self.window_size, self.shift)
        q, k = [self._split(part) for part in windows.cut(source).chunk(2, -1)]  # (B, windows, heads, K * K, d)
        v = self._split(windows.cut(values))
        bias = None if self.position is None else self.position((self.window_size, self.window_size))
        allowed = windows.neighbours(values.device)
        if allowed is None:
            fold = 0  # windows are a part of the batch: views
        else:
            fold = 1  # windows are a part of the heads, for each has a mask of its own, the same for all images
            allowed = allowed.repeat_interleave(self.heads, 0)  # (windows * heads, K * K, K * K)
            bias = None if bias is None else bias.repeat(q.shape[1], 1, 1)
        q, k, v = [part.flatten(fold, fold + 1) for part in (q, k, v)]
        mixed = attend(q, k, v, self.activation, bias, allowed)
        mixed = mixed.unflatten(fold, (-1, self.heads) if fold else (values.shape[0], -1))
        return windows.join(mixed.transpose(2, 3).flatten(3))
