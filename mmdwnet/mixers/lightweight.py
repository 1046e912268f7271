"""Lightweight convolution: depth-wise kernels that are softmax-normalised and shared by many channels.

Source: Wu et al., "Pay Less Attention with Lightweight and Dynamic Convolutions" (ICLR 2019), sections 3 and 4 and
figure 2: a Linear to twice the channels and a gated linear unit before, a Linear behind. The paper convolves
sequences; here a kernel is K x K and the softmax is over all of its entries. Its DropConnect of kernel entries is
left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops import check_impl, depthwise_conv2d, inhomogeneous_depthwise_conv2d
from ..registry import MODELS
from .base import TokenMixer, groups_of, over_channels
from .depthwise import check_kernel_size


class _Lightweight(TokenMixer):
    """What the two share: the gated values, which are the source too, and the Linear behind."""

    def __init__(self, channels: int, share_channels: int, kernel_size: int, init_cfg: dict | None):
        super().__init__(init_cfg)
        check_kernel_size(kernel_size)
        self.kernel_size = kernel_size
        self.groups = groups_of(channels, share_channels, 'share_channels', type(self).__name__)
        self.glu = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, gates = over_channels(self.glu, x).chunk(2, 1)
        values = values * gates.sigmoid()
        return values, values

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)


@MODELS.register_module()
class LightweightConvolution(_Lightweight):
    """Lightweight convolution: one learned kernel per group of channels, normalised by a softmax.

    Args:
        channels: C.
        share_channels: how many channels share a kernel. The paper has 64 (16 groups of 1024 channels); 32 is what
            the heads of Swin share.
        kernel_size: K, odd.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`, or `share_channels` that does not divide the channels.
    """

    def __init__(
        self, channels: int, share_channels: int = 32, kernel_size: int = 7, init_cfg: dict | None = None
    ):
        super().__init__(channels, share_channels, kernel_size, init_cfg)
        self.weight = nn.Parameter(torch.empty(self.groups, kernel_size**2))
        nn.init.xavier_uniform_(self.weight)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        kernels = self.weight.softmax(1).unflatten(1, (1, self.kernel_size, self.kernel_size))  # (G, 1, K, K)
        kernels = kernels.repeat_interleave(values.shape[1] // self.groups, 0)  # (C, 1, K, K)
        return depthwise_conv2d(values, kernels)


@MODELS.register_module()
class DynamicLightweightConvolution(_Lightweight):
    """Dynamic lightweight convolution: every position makes its kernels from its own value, by a Linear.

    Args:
        channels: C.
        share_channels: how many channels share a kernel; see LightweightConvolution.
        kernel_size: K, odd.
        impl: of the depth-wise part, a name of `mmdwnet.ops.available_impls()`, or 'auto'.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`, `share_channels` that does not divide the channels, or an unknown
            `impl`.
    """

    def __init__(
        self,
        channels: int,
        share_channels: int = 32,
        kernel_size: int = 7,
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        super().__init__(channels, share_channels, kernel_size, init_cfg)
        check_impl(impl)
        self.impl = impl
        self.kernels = nn.Linear(channels, self.groups * kernel_size**2, bias=False)  # the paper's has none

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        kernels = over_channels(self.kernels, source).unflatten(1, (self.groups, -1)).softmax(2)
        kernels = kernels.unflatten(2, (self.kernel_size, self.kernel_size))  # (B, G, K, K, H, W)
        return inhomogeneous_depthwise_conv2d(values, kernels, self.impl)
