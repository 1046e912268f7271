"""Convolutions as token mixers: plain, separable, from a bank of kernels, and involution.

Sources: Chollet, "Xception" (CVPR 2017), for separable convolution; Chen et al., "Dynamic Convolution: Attention
over Convolution Kernels" (CVPR 2020), section 3; Li et al., "Involution" (CVPR 2021), section 3. Their networks
put a norm and a ReLU behind each of them: here the network around has the norms, and a mixer is the operation by
itself, without projections before or behind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import depthwise_conv2d
from ..registry import MODELS
from .base import BareMixer, over_channels
from .depthwise import InhomogeneousAggregation, check_kernel_size
from .squeeze_excitation import PooledMlp


@MODELS.register_module()
class Convolution(BareMixer):
    """Plain convolution: one learned K x K kernel per pair of channels.

    Args:
        channels: C.
        kernel_size: K, odd.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`.
    """

    def __init__(self, channels: int, kernel_size: int = 3, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        check_kernel_size(kernel_size)
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        return self.conv(values)


@MODELS.register_module()
class SeparableConvolution(BareMixer):
    """Separable convolution: depth-wise K x K, then a Linear over the channels, as in Xception nothing between.

    Args:
        channels: C.
        kernel_size: K, odd.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`.
    """

    def __init__(self, channels: int, kernel_size: int = 7, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        check_kernel_size(kernel_size)
        self.kernel_size = kernel_size
        self.depthwise = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.proj = nn.Linear(channels, channels)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        return depthwise_conv2d(values, self.depthwise.weight, self.depthwise.bias)

    def project(self, mixed: Tensor) -> Tensor:
        return over_channels(self.proj, mixed)


@MODELS.register_module()
class KernelBankConvolution(BareMixer):
    """Dynamic convolution of Chen et al.: every image has its own average of a bank of learned kernels.

    What the average weighs by is a softmax of numbers made from the pooled map, as in squeeze-and-excitation. The
    kernels, and their biases, are averaged before they are applied, so that an image sees one convolution.

    Args:
        channels: C.
        kernel_size: K, odd.
        kernels: how many the bank has.
        reduction: the hidden width behind the pooled map is C // reduction.
        temperature: what the numbers are divided by before the softmax. The paper lowers it from 30 to 1 over the
            first ten epochs; here it is constant, and a network is tested with what it was trained with.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`, `kernels` below 1, a `temperature` that is not positive, or a
            `reduction` that does not lie between 1 and the channels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        check_kernel_size(kernel_size)
        if kernels < 1 or not temperature > 0:
            raise ValueError(
                'KernelBankConvolution: kernels must be 1 or more and temperature positive, got '
                f'kernels={kernels!r} and temperature={temperature!r}'
            )
        self.kernel_size, self.temperature = kernel_size, temperature
        self.attention = PooledMlp(channels, reduction, kernels)
        bound = (channels * kernel_size**2) ** -0.5  # as torch's Conv2d begins
        sides = (kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(kernels, channels, channels, *sides).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(kernels, channels).uniform_(-bound, bound))

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        batch, channels, height, width = values.shape
        shares = (self.attention(source) / self.temperature).softmax(1)  # (B, kernels)
        kernels = shares @ self.weight.flatten(1)  # (B, C*C*K*K)
        bias = shares @ self.bias  # (B, C)
        kernels = kernels.view(batch * channels, channels, self.kernel_size, self.kernel_size)
        # each image is a group of channels of one image: (1, B*C, H, W)
        values = values.reshape(1, batch * channels, height, width)
        mixed = F.conv2d(values, kernels, bias.flatten(), padding=self.kernel_size // 2, groups=batch)
        return mixed.view(batch, channels, height, width)


@MODELS.register_module()
class Involution(BareMixer):
    """Involution: every position makes a K x K kernel for each group of channels from its own feature.

    The kernels are made by 1x1 to C / r, BN, ReLU and 1x1 to G * K * K: what InhomogeneousDynamicDepthwiseConv
    applies between two 1x1 convolutions. The networks of the paper also have one before it and one behind, which
    are those of a ResNet's bottleneck and no part of it.

    Args:
        channels: C.
        kernel_size: K, odd.
        groups: G; None for one per 16 channels, which is what the networks of the paper have.
        reduction: r.
        norm_cfg: the norm where the kernels are made.
        impl: a name of `mmdwnet.ops.available_impls()`, or 'auto'.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an even `kernel_size`, `groups` that do not divide the channels, an unknown `impl`, or a
            `reduction` that does not lie between 1 and the channels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        groups: int | None = None,
        reduction: int = 4,
        norm_cfg: dict = dict(type='BN'),
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        check_kernel_size(kernel_size)
        groups = max(channels // 16, 1) if groups is None else groups
        if groups < 1 or channels % groups:
            raise ValueError(
                f'Involution: groups must divide the channels of every stage, got groups={groups} and {channels} '
                'channels'
            )
        self.kernel_size = kernel_size
        self.aggregate = InhomogeneousAggregation(channels, kernel_size, groups, reduction, norm_cfg, impl)

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        return self.aggregate(values, source)
