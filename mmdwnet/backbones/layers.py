"""What the networks are made of beside their token mixers: patch embedding, patch merging, MLP, blocks.

Sources: Swin Transformer (Liu et al., ICCV 2021) for the pyramid and the pre-norm block; Atten4Vis/
DemystifyLocalViT at ce7c0b7, models/dwnet.py, for DWNet's block: no norm before the mixer, a BN before the MLP.
The paddings are those of its detection and segmentation backbones, which equal the classification one where
nothing needs padding. Overlapping patches: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023).

Maps are (B, C, H, W) in channels_last memory; a Linear or LayerNorm over the channels works on the
(B, H, W, C) view of that memory, and nothing is copied to change the layout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mixers import DynamicDepthwiseConv
from ..mixers.base import convolution
from ..mixers.norm import LayerNorm2d, build_norm
from ..mixers.windows import on_padded, pad_to_multiple
from ..ops import autocast_off, is_plain, pointwise_linear, pointwise_mlp
from ..ops.tracing import is_compiled


class PatchEmbed(nn.Module):
    """Split the image into 4 x 4 patches and embed each: strided convolution, then LayerNorm.

    An image whose sides are no multiples of 4 is padded with zeros at the right and the bottom.
    """

    patch_size = 4

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, self.patch_size, stride=self.patch_size)
        self.norm = LayerNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        return self.norm(convolution(self.proj, x))  # (B, C, ceil(H / 4), ceil(W / 4))


class PatchMerging(nn.Module):
    """Halve the map and double the channels: 2 x 2 neighbours side by side, LayerNorm, Linear.

    The four neighbours stand in Swin's order, (row, column) offsets (0,0), (1,0), (0,1), (1,1). A map with an odd
    side gets one more row or column of zeros at its end.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 2).permute(0, 2, 3, 1)  # (B, H, W, C)
        pairs = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H / 2, row, W / 2, column, C)
        x = self.norm(pairs.permute(0, 1, 3, 4, 2, 5).flatten(3))  # (B, H / 2, W / 2, 4C)
        # One image whose size is a variable of torch.compile: a convolution of this view, whose stride from image
        # to image is then 0, leaves another memory format than torch 2.11 expects with frozen weights: it raises.
        of_one_image = x.shape[0] == 1 and is_compiled()
        if of_one_image or not is_plain(self.reduction, nn.Linear):
            return self.reduction(x).permute(0, 3, 1, 2)
        return pointwise_linear(x.permute(0, 3, 1, 2), self.reduction.weight)  # (B, 2C, H / 2, W / 2)


class OverlappingPatchEmbed(nn.Module):
    """Embed patches that overlap: two 3 x 3 convolutions of stride 2, then LayerNorm; sides are rounded up."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(in_channels, channels // 2, 3, stride=2, padding=1),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
        )
        self.norm = LayerNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(
            self.proj(x.contiguous(memory_format=torch.channels_last))
        )  # (B, C, ceil(H/4), ceil(W/4))


class OverlappingPatchMerging(nn.Module):
    """Halve the map, its sides rounded up, and double the channels: a 3 x 3 convolution of stride 2, LayerNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduction = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = LayerNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(x))


# of a pyramid, by the name of its arch: patch embedding, patch merging
PATCHES = {
    'separate': (PatchEmbed, PatchMerging),
    'overlapping': (OverlappingPatchEmbed, OverlappingPatchMerging),
}


class Mlp(nn.Module):
    """Two Linear layers over the channels of every position, GELU between them."""

    def __init__(self, channels: int, ratio: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if not (is_plain(self.fc1, nn.Linear) and is_plain(self.fc2, nn.Linear)):
            return self.fc2(F.gelu(self.fc1(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return pointwise_mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)


class DropPathAdd(nn.Module):
    """Add a branch to its residual under drop path: in training it is left out for some samples of the batch.

    A sample keeps its branch with probability `1 - drop_prob`, as `x + branch / (1 - drop_prob)`, which is
    `x + branch` on average; otherwise it stays x. In eval mode, and where `drop_prob` is 0, it is `x + branch`.
    In one dtype the forward and the backward pass go over the map once each; the residual's gradient is the
    output's own.

    Args:
        drop_prob: probability to leave the branch out, in [0, 1).
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add; the result has the dtype and the memory format of `x + branch`.

        Args:
            x: the residual, (B, ...).
            branch: of the same shape; its dtype may be another.
        """
        if not (self.training and self.drop_prob):
            return x + branch
        keep = 1 - self.drop_prob
        # 0 or 1 per sample, for bfloat16 would round 1 / keep, as it does in the branch's gradient. Two dtypes add
        # up to float32 or wider, so the mask's decides nothing.
        dtype = x.dtype if x.dtype == branch.dtype else torch.float32
        kept = x.new_empty(x.shape[0], *[1] * (x.dim() - 1), dtype=dtype).bernoulli_(keep)
        # on GPUs autocast would write the narrower of two maps out in the wider dtype first, for nothing
        with autocast_off(x.device.type):
            return torch.addcmul(x, kept, branch, value=1 / keep)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob:.3g}'


class Block(nn.Module):
    """DWNet's block: `x + mixer(x)`, then `x + mlp(bn(x))`, each branch under drop path.

    Args:
        mixer: a token mixer, (B, C, H, W) -> (B, C, H, W).
        channels: C.
        norm_cfg: the norm before the MLP.
        drop_path_rate: probability to drop a branch for one sample of the batch.
        window_padding: pad the mixer's input with zeros at the right and the bottom to multiples of its kernel
            size and crop its output, as the official detection and segmentation code does for weights that were
            trained so. The padding is then seen by the mixer's BN statistics and by its pooling.
    """

    def __init__(
        self, mixer: nn.Module, channels: int, norm_cfg: dict, drop_path_rate: float, window_padding: bool
    ):
        super().__init__()
        self.mixer = mixer
        self.bn = build_norm(norm_cfg, channels)[1]
        self.mlp = Mlp(channels)
        self.drop_path = DropPathAdd(drop_path_rate)
        self.window_padding = window_padding

    def forward(self, x: Tensor, side_by_side: bool = False) -> Tensor:
        """Run the block.

        Args:
            x: a map, (B, C, H, W).
            side_by_side: x is what `side_by_side` makes of it, (H, C, W, B); see `runs_side_by_side`.
        """
        x = self.drop_path(x, self.mixer.forward_side_by_side(x) if side_by_side else self._mix(x))
        return self.drop_path(x, self.mlp(self.bn(x)))

    def runs_side_by_side(self) -> bool:
        """Whether images side by side give the same, on a CPU faster: a deployed block as it was built.

        Not where something stands in the place of a layer, or wants to see maps: a hook, a forward of its own.
        """
        if not (isinstance(self.mixer, DynamicDepthwiseConv) and self.mixer.runs_side_by_side()):
            return False
        if self.window_padding or type(self.bn) is not nn.Identity or type(self.mlp) is not Mlp:
            return False
        if type(self.drop_path) is not DropPathAdd or self.drop_path.training:
            return False
        linears = type(self.mlp.fc1) is type(self.mlp.fc2) is nn.Linear
        return linears and all(is_plain(part, type(part)) for part in self.modules())

    def _mix(self, x: Tensor) -> Tensor:
        return on_padded(self.mixer, x, self.mixer.kernel_size) if self.window_padding else self.mixer(x)


class PreNormBlock(nn.Module):
    """The block of transformers: `x + mixer(norm1(x))`, then `x + mlp(norm2(x))`, each branch under drop path.

    Args:
        mixer: a token mixer, (B, C, H, W) -> (B, C, H, W).
        channels: C.
        mlp_ratio: hidden channels of the MLP per channel.
        drop_path_rate: probability to drop a branch for one sample of the batch.
        layer_scale: where a learned scale per channel of each branch begins; None for no scale.
        eps: of the LayerNorms.
    """

    def __init__(
        self,
        mixer: nn.Module,
        channels: int,
        mlp_ratio: int,
        drop_path_rate: float,
        layer_scale: float | None = None,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.norm1 = LayerNorm2d(channels, eps)
        self.mixer = mixer
        self.norm2 = LayerNorm2d(channels, eps)
        self.mlp = Mlp(channels, mlp_ratio)
        self.drop_path = DropPathAdd(drop_path_rate)
        for name in ('scale1', 'scale2'):
            scale = None if layer_scale is None else nn.Parameter(torch.full((channels,), float(layer_scale)))
            self.register_parameter(name, scale)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Run the block.

        Args:
            x: a map, (B, C, H, W), or with `size` a sequence of tokens and a map, (B, C, 1, T + H * W).
            size: (H, W) of that map; the mixer has to be a `SequenceMixer`.
        """
        normed = self.norm1(x)
        mixed = self.mixer(normed) if size is None else self.mixer.forward_sequence(normed, size)
        x = self.drop_path(x, _scaled(mixed, self.scale1))
        return self.drop_path(x, _scaled(self.mlp(self.norm2(x)), self.scale2))


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale.view(-1, 1, 1)
