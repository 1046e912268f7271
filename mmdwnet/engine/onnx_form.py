"""Put a DWNet into a form that torch.onnx exports for every batch and every image size.

What stands in its way is replaced, in place, by a module that computes the same: convolutions whose kernels are
data by shifts, weights and sums (`mmdwnet/ops/export.py`), and padding to a multiple, which looks at the size, by
padding that is written as a formula of the size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import DWNet
from ..backbones.layers import PatchEmbed, PatchMerging
from ..mixers import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv
from ..ops.export import shifted_dynamic_depthwise_conv2d, shifted_inhomogeneous_depthwise_conv2d


def to_onnx_form(backbone: DWNet) -> DWNet:
    """Deploy a DWNet and replace what cannot be exported, in place; return it. Other mixers stay as they are."""
    backbone.switch_to_deploy()
    backbone.patch_embed = _PatchEmbed(backbone.patch_embed)
    for stage in backbone.stages:
        if isinstance(stage.downsample, PatchMerging):
            stage.downsample = _PatchMerging(stage.downsample)
        for block in stage.blocks:
            if type(block.mixer) in AGGREGATIONS:
                block.mixer.aggregate = AGGREGATIONS[type(block.mixer)](block.mixer.aggregate)
            if block.window_padding:
                block.mixer, block.window_padding = _PaddedMixer(block.mixer), False
    return backbone


class _PatchEmbed(nn.Module):
    """`PatchEmbed`. Three more rows and columns never fill a patch of their own, so they may always be there."""

    def __init__(self, embed: PatchEmbed):
        super().__init__()
        self.proj, self.norm, self.padding = embed.proj, embed.norm, embed.patch_size - 1

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(F.pad(x, (0, self.padding, 0, self.padding))))


class _PatchMerging(nn.Module):
    """`PatchMerging`: of the four neighbours, those beyond the map are zeros."""

    def __init__(self, merging: PatchMerging):
        super().__init__()
        self.norm, self.reduction = merging.norm, merging.reduction

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, 1, 0, 1)).permute(0, 2, 3, 1)  # (B, H + 1, W + 1, C)
        parts = [x[:, i : i + height : 2, j : j + width : 2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1))).permute(0, 3, 1, 2)  # (B, 2C, ceil(H/2), ceil(W/2))


class _PaddedMixer(nn.Module):
    """A mixer whose input is padded to multiples of its kernel size, as `Block` does with `window_padding`."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        side = self.mixer.kernel_size
        return self.mixer(F.pad(x, (0, -width % side, 0, -height % side)))[:, :, :height, :width]


class _StaticAggregation(nn.Module):
    """The aggregation of `DepthwiseConv`."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(x, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)


class _DynamicAggregation(nn.Module):
    """The aggregation of `DynamicDepthwiseConv`, after deployment."""

    def __init__(self, aggregate: nn.Module):
        super().__init__()
        self.aggregate = aggregate

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        generator = self.aggregate
        side = generator.kernel_size
        kernels = generator.expand(F.relu(generator.bn(generator.reduce(source.mean((2, 3), keepdim=True)))))
        kernels = kernels.reshape(-1, x.shape[1], side, side)  # (B, C*K*K, 1, 1) -> (B, C, K, K)
        return shifted_dynamic_depthwise_conv2d(x, kernels, generator.bias)


class _InhomogeneousAggregation(nn.Module):
    """The aggregation of `InhomogeneousDynamicDepthwiseConv`, after deployment."""

    def __init__(self, aggregate: nn.Module):
        super().__init__()
        self.aggregate = aggregate

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        generator = self.aggregate
        side = generator.kernel_size
        kernels = generator.expand(F.relu(generator.bn(generator.reduce(source))))  # (B, G*K*K, H, W)
        return shifted_inhomogeneous_depthwise_conv2d(x, kernels.unflatten(1, (generator.groups, side, side)))


AGGREGATIONS = {
    DepthwiseConv: _StaticAggregation,
    DynamicDepthwiseConv: _DynamicAggregation,
    InhomogeneousDynamicDepthwiseConv: _InhomogeneousAggregation,
}
