"""Normalisation layers for (B, C, H, W) maps, built from the `norm_cfg` dicts of OpenMMLab."""

from __future__ import annotations

import logging

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module('LN2d')
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of every position of a (B, C, H, W) map.

    With a channels_last map, the layout of this package, both permutes are views and nothing is copied.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)


def build_norm(norm_cfg: dict, channels: int) -> tuple[str, nn.Module]:
    """Build a norm layer over the channels of (B, C, H, W) maps.

    Args:
        norm_cfg: `type` BN, SyncBN, GN (with `num_groups`), LN or any other norm that mmcv's registry
            knows, and its options. SyncBN has no CPU kernel: on a machine without an accelerator a BN, which
            has the same state dict, takes its place. Outside a distributed run torch's SyncBN computes what
            BN computes.
        channels: C.

    Returns:
        The short name of its kind ('bn' for BN and SyncBN, 'ln', 'gn'), and the layer.

    Raises:
        ValueError: no type, or GN whose groups are missing or do not divide the channels.
    """
    if not isinstance(norm_cfg, dict) or 'type' not in norm_cfg:
        raise ValueError(f"norm_cfg must be a dict with a type, like dict(type='BN'), got {norm_cfg!r}")
    norm_cfg = dict(norm_cfg)
    if norm_cfg['type'] == 'LN':
        norm_cfg['type'] = 'mmdwnet.LN2d'
    elif norm_cfg['type'] == 'SyncBN' and get_device() == 'cpu':
        print_log('SyncBN has no CPU kernel: BN takes its place', 'current', logging.DEBUG)
        norm_cfg['type'] = 'BN'
    elif norm_cfg['type'] == 'GN' and channels % norm_cfg.get('num_groups', channels + 1):
        raise ValueError(
            f'GN over {channels} channels needs num_groups that divides them, '
            f'got norm_cfg={norm_cfg}: choose one that divides the channels of every layer'
        )
    try:
        return build_norm_layer(norm_cfg, channels)
    except KeyError as error:
        raise ValueError(f'unknown norm {norm_cfg["type"]!r}: expected BN, SyncBN, GN or LN') from error
