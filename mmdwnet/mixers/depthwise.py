"""Depth-wise convolution as a token mixer: static, dynamic per image, dynamic per position.

Source: Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution" (ICLR
2022): the block that takes the place of Swin's window attention. Layer order, bias flags and sizes are those
of the authors' code, Atten4Vis/DemystifyLocalViT at ce7c0b7, models/dwnet.py and models/idynamic.py (at its
first commit 4aa8326 for the dynamic one, which a misplaced `else` turns into the static one at head).

    1x1 conv -> BN -> ReLU -> depth-wise KxK -> BN -> ReLU -> 1x1 conv -> BN

Norm layers are called `bn*` here, never `norm*`: the weight decay rules of the downstream recipes exempt
the substring `norm`, and the published weights were trained with decay on these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import (
    autocast_off,
    check_impl,
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
    is_plain,
    linear_of_few_rows,
)
from ..ops.depthwise import wants_groups_fastest
from ..ops.tracing import looks_into_modules
from ..registry import MODELS
from .base import TokenMixer, is_pointwise, pointwise
from .groups_fastest import (
    from_groups_fastest,
    is_scale_and_shift,
    norm_of_groups_fastest,
    to_groups_fastest,
    with_axis_of_groups,
    without_axis_of_groups,
)
from .norm import build_norm
from .side_by_side import as_batch, as_one_image, as_side_by_side


class _DepthwiseMixer(TokenMixer):
    """What the three mixers share: two 1x1 convolutions around `aggregate`, the depth-wise part."""

    def __init__(
        self, channels: int, aggregate: nn.Module, kernel_size: int, norm_cfg: dict, init_cfg: dict | None
    ):
        super().__init__(init_cfg)
        self.kernel_size = kernel_size
        self.proj_in = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_in = build_norm(norm_cfg, channels)[1]
        self.aggregate = aggregate
        self.bn_mid = build_norm(norm_cfg, channels)[1]
        self.proj_out = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_out = build_norm(norm_cfg, channels)[1]

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.bn_in(pointwise(self.proj_in, x)), inplace=True)
        return x, x

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        return self.aggregate(values, source)

    def project(self, mixed: Tensor) -> Tensor:
        return self.bn_out(pointwise(self.proj_out, F.relu(self.bn_mid(mixed), inplace=True)))


@MODELS.register_module()
class DepthwiseConv(_DepthwiseMixer):
    """Static depth-wise convolution: one learned K x K kernel per channel, the same everywhere.

    Args:
        channels: C, of input and output.
        kernel_size: K, odd.
        norm_cfg: the norm after every convolution.
        impl: of the depth-wise part, 'auto', 'reference', 'tiled' or 'triton'.
        init_cfg: mmengine initialisation; None keeps torch's defaults, which the recipes want.

    Raises:
        ValueError: an even `kernel_size`; in the forward pass, another `impl`.
        RuntimeError: in the forward pass, an `impl` that cannot run there.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        norm_cfg: dict = dict(type='BN'),
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        check_kernel_size(kernel_size)
        # The bias is redundant before a BN, but the published checkpoints have it.
        conv = _StaticAggregation(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        conv.impl = impl
        super().__init__(channels, conv, kernel_size, norm_cfg, init_cfg)


@MODELS.register_module()
class DynamicDepthwiseConv(_DepthwiseMixer):
    """Homogeneous dynamic depth-wise convolution: one set of kernels per image, made from its pooled map.

    Args:
        channels: C, of input and output.
        kernel_size: K, odd.
        reduction: the generator's hidden width is C // reduction.
        norm_cfg: the norm after every convolution and in the generator.
        impl: of the depth-wise part, a name of `mmdwnet.ops.available_impls()`, or 'auto'.
        init_cfg: mmengine initialisation; None keeps torch's defaults.

    Raises:
        ValueError: an even `kernel_size`, an unknown `impl`; in the forward pass, a training batch of one image
            with a BN in the generator that is not synchronised.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        reduction: int = 4,
        norm_cfg: dict = dict(type='BN'),
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        check_kernel_size(kernel_size)
        aggregate = _DynamicAggregation(channels, kernel_size, reduction, norm_cfg, impl)
        super().__init__(channels, aggregate, kernel_size, norm_cfg, init_cfg)

    def runs_side_by_side(self) -> bool:
        """Whether `forward_side_by_side` gives what `forward` does: no subclass, no impl by name, no norm."""
        own = type(self) is DynamicDepthwiseConv and type(self.aggregate) is _DynamicAggregation
        norms = (self.bn_in, self.bn_mid, self.bn_out)
        if not own or self.aggregate.impl != 'auto' or any(type(norm) is not nn.Identity for norm in norms):
            return False
        return is_pointwise(self.proj_in) and is_pointwise(self.proj_out)

    def forward_side_by_side(self, x: Tensor) -> Tensor:
        """Mix the map that `side_by_side` makes of a batch of maps.

        Args:
            x: (H, C, W, B).
        """
        values, _ = self.prepare(x)
        return self.project(self.aggregate.forward_side_by_side(values))


@MODELS.register_module()
class InhomogeneousDynamicDepthwiseConv(_DepthwiseMixer):
    """Inhomogeneous dynamic depth-wise convolution: every position makes its kernels from its own feature.

    Args:
        channels: C, of input and output.
        kernel_size: K, odd.
        groups: G, how many groups of channels own a kernel; the official code's `heads` is C / G.
        reduction: the generator's hidden width is C // reduction.
        norm_cfg: the norm after every convolution and in the generator.
        impl: of the depth-wise part, a name of `mmdwnet.ops.available_impls()`, or 'auto'.
        init_cfg: mmengine initialisation; None keeps torch's defaults.

    Raises:
        ValueError: an even `kernel_size`, `groups` that do not divide `channels`, or an unknown `impl`.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        groups: int = 32,
        reduction: int = 4,
        norm_cfg: dict = dict(type='BN'),
        impl: str = 'auto',
        init_cfg: dict | None = None,
    ):
        check_kernel_size(kernel_size)
        if groups < 1 or channels % groups:
            raise ValueError(
                'InhomogeneousDynamicDepthwiseConv: groups must divide the channels of every stage, got '
                f'groups={groups} and {channels} channels'
            )
        aggregate = InhomogeneousAggregation(channels, kernel_size, groups, reduction, norm_cfg, impl)
        super().__init__(channels, aggregate, kernel_size, norm_cfg, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_groups_fastest(x) if self._runs_groups_fastest(x) else super().forward(x)

    def _runs_groups_fastest(self, x: Tensor) -> bool:
        """Whether channels inside take the order of `groups_fastest.py`: it is faster, and nobody sees it."""
        aggregate = self.aggregate
        own = type(self) is InhomogeneousDynamicDepthwiseConv and is_plain(aggregate, InhomogeneousAggregation)
        if not (own and looks_into_modules and wants_groups_fastest(x, aggregate.groups, aggregate.impl)):
            return False
        convolutions = self.proj_in, aggregate.reduce, aggregate.expand, self.proj_out
        steps_are_own = not any(step in vars(self) for step in ('prepare', 'mix', 'project'))
        norms_follow = is_scale_and_shift(self.bn_in) and is_scale_and_shift(self.bn_mid)
        return steps_are_own and norms_follow and all(map(is_pointwise, convolutions))

    def _forward_groups_fastest(self, x: Tensor) -> Tensor:
        """As `forward`."""
        aggregate, groups = self.aggregate, self.aggregate.groups
        x = F.relu(norm_of_groups_fastest(self.bn_in, to_groups_fastest(self.proj_in, x, groups), groups))
        feature = F.relu(aggregate.bn(from_groups_fastest(aggregate.reduce, x, groups)))  # (B, C / r, H, W)
        mixed = aggregate.generate_and_apply(with_axis_of_groups(x, groups), feature)
        x = F.relu(norm_of_groups_fastest(self.bn_mid, without_axis_of_groups(mixed), groups))
        return self.bn_out(from_groups_fastest(self.proj_out, x, groups))


class _StaticAggregation(nn.Conv2d):
    """A depth-wise `nn.Conv2d` that computes as `mmdwnet.ops.depthwise_conv2d`."""

    impl = 'auto'

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, self.bias, self.impl)


class _DynamicAggregation(nn.Module):
    """Global average pool -> 1x1 to C / r -> BN -> ReLU -> 1x1 to C * K * K, applied to the whole image."""

    def __init__(self, channels: int, kernel_size: int, reduction: int, norm_cfg: dict, impl: str):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        check_impl(impl)
        self.impl = impl
        self.kernel_size = kernel_size
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = build_norm(norm_cfg, hidden)[1]
        self.expand = nn.Conv2d(hidden, channels * kernel_size**2, 1)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        kernels = self._kernels(source).to(x.dtype)
        return dynamic_depthwise_conv2d(x, kernels, self.bias.to(x.dtype), self.impl)

    def forward_side_by_side(self, x: Tensor) -> Tensor:
        """As `forward` on the map that `side_by_side` makes of x, which is the source too."""
        kernels = self._kernels(as_batch(x)).to(x.dtype)  # (B, C, K, K)
        image = as_one_image(x)  # (1, B*C, H, W)
        bias = self.bias.to(x.dtype).repeat(kernels.shape[0])
        # by name, for torch.compile would write torch's own convolution anew for every number of groups
        mixed = depthwise_conv2d(image, kernels.flatten(0, 1).unsqueeze(1), bias, impl='tiled')
        return as_side_by_side(mixed, x.shape[1])

    def _kernels(self, source: Tensor) -> Tensor:
        self._check_batch(source)
        # An error here is one in every position of the image, and float32 costs nothing on one position an image.
        with autocast_off(source.device.type):
            pooled = source.mean((2, 3), keepdim=True, dtype=self.reduce.weight.dtype)  # (B, C, 1, 1)
            hidden = F.relu(self.bn(pointwise(self.reduce, pooled)), inplace=True)  # (B, C / r, 1, 1)
        kernels = self._expand(hidden.flatten(1))  # (B, C*K*K)
        sides = (self.kernel_size, self.kernel_size)
        return kernels.unflatten(1, (source.shape[1], *sides))  # (B, C, K, K): channel-major, then row and column

    def _expand(self, hidden: Tensor) -> Tensor:
        if not is_plain(self.expand, nn.Conv2d):  # an adapter in its place, or a hook: it wants to be called
            return self.expand(hidden[:, :, None, None]).flatten(1)
        # as a product of matrices: a convolution of one position goes through these large weights slowly
        return linear_of_few_rows(hidden, self.expand.weight.flatten(1), self.expand.bias)

    def _check_batch(self, x: Tensor) -> None:
        if not (isinstance(self.bn, _BatchNorm) and self.bn.training and x.shape[0] == 1):
            return
        if isinstance(self.bn, nn.SyncBatchNorm) and get_world_size() > 1:
            return
        raise ValueError(
            'DynamicDepthwiseConv: a training batch of 1 per GPU, but the BN of its kernel generator needs '
            'more than one value per channel: use a batch of 2 or more per GPU, or '
            "norm_cfg=dict(type='SyncBN') on several GPUs"
        )


class InhomogeneousAggregation(nn.Module):
    """1x1 to C / r -> BN -> ReLU -> 1x1 to G * K * K at every position, applied around that position."""

    def __init__(self, channels: int, kernel_size: int, groups: int, reduction: int, norm_cfg: dict, impl: str):
        super().__init__()
        hidden = hidden_width(channels, reduction)
        check_impl(impl)
        self.impl = impl
        self.kernel_size = kernel_size
        self.groups = groups
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.bn = build_norm(norm_cfg, hidden)[1]
        self.expand = nn.Conv2d(hidden, groups * kernel_size**2, 1)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        feature = F.relu(self.bn(pointwise(self.reduce, source)), inplace=True)  # (B, C / r, H, W)
        if not is_plain(self.expand, nn.Conv2d):  # an adapter in its place, or a hook: it wants to be called
            kernels = self.expand(feature).unflatten(1, (self.groups, self.kernel_size, self.kernel_size))
            return inhomogeneous_depthwise_conv2d(x, kernels, self.impl)
        return self.generate_and_apply(x, feature)

    def generate_and_apply(self, x: Tensor, feature: Tensor) -> Tensor:
        """The convolution of x with the kernels that the feature, (B, C / r, H, W), makes."""
        weight = self.expand.weight.flatten(1)  # (G*K*K, C / r)
        return generated_depthwise_conv2d(
            x, feature, weight, self.expand.bias, self.groups, self.kernel_size, self.impl
        )


def check_kernel_size(kernel_size: int) -> None:
    """Raise ValueError unless `kernel_size` is an odd positive integer, which keeps the size of the map."""
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be an odd positive integer, such as 7, got {kernel_size!r}')


def hidden_width(channels: int, reduction: int) -> int:
    """The width C // r of a generator; ValueError unless `reduction` lies between 1 and the channels."""
    if reduction < 1 or channels // reduction < 1:
        raise ValueError(f'reduction must lie between 1 and the {channels} channels of its stage, got {reduction}')
    return channels // reduction
