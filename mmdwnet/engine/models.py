"""The model of a config with the weights of a checkpoint, for the tools that turn it into something else."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..backbones import DWNet
from ..checkpoints.fit import check_fit
from ..checkpoints.loading import load_as_ours
from ..checkpoints.reading import meta_of, weights_of
from ..errors import UserError
from .config import load_config
from .preflight import check_backbone


def load_dwnet_model(
    config: str, checkpoint: str, overrides: dict[str, Any] | None = None, trust: bool = False
) -> tuple[Config, nn.Module, dict[str, Any]]:
    """Build the model of a config, whose backbone is a DWNet, and load a checkpoint into it, all of it.

    Args:
        config: file.
        checkpoint: path or URL, in our layout or the official one.
        overrides: of the config, as `load_config` takes them.
        trust: unpickle a checkpoint that needs it, which executes code from it.

    Returns:
        The config, the model on the CPU in eval mode, and the checkpoint's meta.

    Raises:
        UserError: the config has another backbone or none, or the checkpoint cannot be read or does not fit.
    """
    cfg = load_config(config, overrides)
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if 'type' not in backbone or not isinstance(check_backbone(backbone), DWNet):
        raise UserError(f'{config} has the backbone {backbone.get("type")}: expected mmdwnet.DWNet')
    weights, meta = read_weights(checkpoint, trust)
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    fill(model, weights, checkpoint)
    return cfg, model, meta


def read_weights(checkpoint: str, trust: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights and the meta of a checkpoint, in our layout.

    Args:
        checkpoint: path or URL, in our layout or the official one.
        trust: unpickle a checkpoint that needs it, which executes code from it.

    Raises:
        UserError: it cannot be read, or holds no weights.
    """
    content = load_as_ours(checkpoint, trust=trust)
    weights = weights_of(content)
    if weights is None:
        raise UserError(f'{checkpoint} holds no weights: expected a checkpoint that this config has trained')
    return weights, meta_of(content)


def fill(model: nn.Module, weights: dict[str, Tensor], checkpoint: str) -> None:
    """Load weights into a model, all of it.

    Raises:
        UserError: they do not fit; the line names the checkpoint.
    """
    try:
        check_fit(model, {re.sub(r'^module\.', '', key): value for key, value in weights.items()})
    except ValueError as error:
        raise UserError(f'{checkpoint}: {error}') from error


def random_images(channels: int, batch: int, height: int, width: int) -> Tensor:
    """The same random images at every call, (B, C, H, W), with the mean 0 and deviation 1 of preprocessed ones."""
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def largest_difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference in any output, as a part of that output's largest value; nan if there is a nan.

    Raises:
        ValueError: another number of outputs, or other shapes.
    """
    if [tuple(a.shape) for a in expected] != [tuple(b.shape) for b in found]:
        raise ValueError(
            f'outputs of other shapes: {[tuple(b.shape) for b in found]} instead of '
            f'{[tuple(a.shape) for a in expected]}'
        )
    scales = [a.abs().amax().clamp_min(torch.finfo(a.dtype).tiny) for a in expected]
    parts = [(a - b).abs().amax() / scale for a, b, scale in zip(expected, found, scales, strict=True)]
    return torch.stack(parts).amax().item()  # amax hands nan on
