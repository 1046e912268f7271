"""DWNet the way that the official code computes it, restated in plain torch: the baseline of the benchmark.

Facts of Atten4Vis/DemystifyLocalViT, models/dwnet.py and models/idynamic.py, at ce3ada0, which has all three
mixers:

- the state between blocks is tokens, (B, H*W, C);
- the mixer permutes them to (B, C, H, W) and copies them into NCHW memory, and copies its result back;
- every BN runs by itself; the one before the MLP runs on a permuted view of the tokens;
- dynamic: one convolution with B*C groups. Inhomogeneous: the code has a CUDA kernel for float32 alone, so its
  plain torch equivalent stands here: unfold, multiply and sum;
- one drop path module serves both branches of a block.

The first commit (4aa8326), which the released static and dynamic weights come from, lacks the two copies, so that
its convolutions see channels_last memory: `copies=False`.

The state dict has the keys of `mmdwnet.DWNet`, and `head`'s; with the same weights the outputs are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from ...backbones.archs import pyramid_arch

KERNEL_SIZE, GROUPS, REDUCTION = 7, 32, 4


class AsPublished(nn.Module):
    """A DWNet classifier, (B, 3, H, W) images to (B, num_classes) logits; H and W multiples of 32.

    Args:
        arch: as `mmdwnet.DWNet` takes it.
        mixer: 'DepthwiseConv', 'DynamicDepthwiseConv' or 'InhomogeneousDynamicDepthwiseConv'.
        num_classes: classes of the head.
        drop_path_rate: of the last block, rising linearly from 0.
        copies: whether the mixer copies its input and output, as the code does since ce3ada0.
    """

    def __init__(
        self,
        arch: str | dict,
        mixer: str,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        copies: bool = True,
    ):
        super().__init__()
        sizes = pyramid_arch(arch)
        channels, depths = sizes.embed_dims, sizes.depths
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, channels, 4, stride=4)
        self.patch_embed.norm = nn.LayerNorm(channels)
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            stage = nn.Module()
            stage.downsample = _Merging(channels // 2) if i else None
            stage.blocks = nn.ModuleList(_Block(mixer, channels, rates.pop(0), copies) for _ in range(depth))
            self.stages.append(stage)
            channels *= 2
        self._norm = f'norm_ln{len(depths) - 1}'  # the name in DWNet
        self.add_module(self._norm, nn.LayerNorm(channels // 2))
        self.head = nn.Linear(channels // 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed.proj(images)
        height, width = x.shape[2:]
        x = self.patch_embed.norm(x.flatten(2).transpose(1, 2))  # (B, H*W, C)
        for stage in self.stages:
            if stage.downsample is not None:
                x = stage.downsample(x, height, width)
                height, width = height // 2, width // 2
            for block in stage.blocks:
                x = block(x, height, width)
        x = self.get_submodule(self._norm)(x)
        return self.head(F.adaptive_avg_pool1d(x.transpose(1, 2), 1).flatten(1))


class _Merging(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        batch, _, channels = x.shape
        x = x.view(batch, height, width, channels)
        x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)
        return self.reduction(self.norm(x.view(batch, -1, 4 * channels)))  # (B, H/2 * W/2, 2C)


class _Block(nn.Module):
    def __init__(self, mixer: str, channels: int, drop_path_rate: float, copies: bool):
        super().__init__()
        self.mixer = _Mixer(AGGREGATIONS[mixer](channels), channels, copies)
        self.bn = nn.BatchNorm2d(channels)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(channels, 4 * channels)
        self.mlp.fc2 = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        batch, length, channels = x.shape
        sides = (batch, height, width, channels)
        x = x + self.drop_path(self.mixer(x.view(sides)).view(batch, length, channels))
        normed = self.bn(x.view(sides).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).view(batch, length, channels)
        return x + self.drop_path(self.mlp.fc2(F.gelu(self.mlp.fc1(normed))))


class _Mixer(nn.Module):
    """(B, H, W, C) to (B, H, W, C)."""

    def __init__(self, aggregate: nn.Module, channels: int, copies: bool):
        super().__init__()
        self.copies = copies
        self.proj_in = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_in = nn.BatchNorm2d(channels)
        self.aggregate = aggregate
        self.bn_mid = nn.BatchNorm2d(channels)
        self.proj_out = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_out = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), a view
        x = x.contiguous() if self.copies else x
        x = F.relu(self.bn_in(self.proj_in(x)), inplace=True)
        x = F.relu(self.bn_mid(self.aggregate(x)), inplace=True)
        x = self.bn_out(self.proj_out(x)).permute(0, 2, 3, 1)
        return x.contiguous() if self.copies else x


def _static(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=channels)


class _Dynamic(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels // REDUCTION)
        self.expand = nn.Conv2d(channels // REDUCTION, channels * KERNEL_SIZE**2, 1)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1)
        kernels = self.expand(F.relu(self.bn(self.reduce(pooled)), inplace=True))  # (B, C*K*K, 1, 1)
        return grouped_convolution(x, kernels.view(*x.shape[:2], KERNEL_SIZE, KERNEL_SIZE), self.bias)


class _Inhomogeneous(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.bn = nn.BatchNorm2d(channels // REDUCTION)
        self.expand = nn.Conv2d(channels // REDUCTION, GROUPS * KERNEL_SIZE**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.expand(F.relu(self.bn(self.reduce(x))))  # (B, G*K*K, H, W)
        return unfolded(x, kernels.view(-1, GROUPS, KERNEL_SIZE, KERNEL_SIZE, *x.shape[2:]))


AGGREGATIONS = {
    'DepthwiseConv': _static,
    'DynamicDepthwiseConv': _Dynamic,
    'InhomogeneousDynamicDepthwiseConv': _Inhomogeneous,
}


def grouped_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The published form of `mmdwnet.ops.dynamic_depthwise_conv2d`: one convolution with B*C groups."""
    batch, channels, height, width = x.shape
    side = weight.shape[-1]
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        weight.reshape(batch * channels, 1, side, side),
        bias.repeat(batch),
        padding=side // 2,
        groups=batch * channels,
    )
    return out.view(batch, channels, height, width)


def unfolded(x: Tensor, weight: Tensor) -> Tensor:
    """The plain form of `mmdwnet.ops.inhomogeneous_depthwise_conv2d`: every pixel's K*K neighbours in memory."""
    batch, groups, side, _, height, width = weight.shape
    patches = F.unfold(x, side, padding=side // 2)  # (B, C*K*K, H*W)
    patches = patches.view(batch, groups, -1, side**2, height, width)  # (B, G, C/G, K*K, H, W)
    kernels = weight.reshape(batch, groups, 1, side**2, height, width)
    return (patches * kernels).sum(3).view(batch, -1, height, width)
