"""The model of a config with the weights of a checkpoint, to run it or to turn it into something else."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from ..backbones import DWNet
from ..checkpoints.fit import check_fit
from ..checkpoints.loading import load_as_ours
from ..checkpoints.reading import meta_of, weights_of
from ..errors import UserError
from .config import datasets_of, load_config, task_of
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


def load_whole_model(
    config: str,
    checkpoint: str | None = None,
    device: str = 'cpu',
    overrides: dict[str, Any] | None = None,
    task: str | None = None,
    trust: bool = False,
) -> tuple[Config, nn.Module]:
    """Build the model of a config for inference, with what the inferencers of OpenMMLab look for in it.

    Args:
        config: file, of a classifier, detector or segmentor with any backbone.
        checkpoint: path or URL, in our layout or the official one; None leaves the model as initialised.
        device: where it is put.
        overrides: of the config, as `load_config` takes them.
        task: 'cls', 'det' or 'seg', what the config must be of; None for any.
        trust: unpickle a checkpoint that needs it, which executes code from it.

    Returns:
        The config, and the model in eval mode; its `dataset_meta` are the classes (and colours) of the checkpoint,
        or those that the config's test set has without its files.

    Raises:
        UserError: the config, the device or the checkpoint cannot be used, or they do not fit; one line.
    """
    place = checked_device(device)
    cfg = load_config(config, overrides)
    if task not in (None, task_of(cfg)):
        raise UserError(f'{config} is a config for {task_of(cfg)}, and {task} was asked for: choose one of them')
    weights, meta = (None, {}) if checkpoint is None else read_weights(checkpoint, trust)
    model = revert_sync_batchnorm(build_model(cfg, config))  # the same in eval mode, and there on every device
    if weights is None:
        _initialise(model)
    else:
        fill(model, weights, checkpoint)
    model.cfg = model._config = cfg
    model.dataset_meta = model._dataset_meta = _dataset_meta(cfg, meta)
    return cfg, model.eval().to(place)


def checked_device(device: str) -> torch.device:
    """Return a device that is there.

    Raises:
        UserError: it is not, or there is none of that name.
    """
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError) as error:  # an unknown name; torch without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise UserError(f'device {device} cannot be used: {reason}; expected such as cpu or cuda') from error


def build_model(cfg: Config, config: str) -> nn.Module:
    """Build the model of a config, without the pre-trained weights that it would start from.

    Args:
        cfg: the config.
        config: its file, for the messages.

    Raises:
        UserError: it has no model with a backbone, or it cannot be built.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if 'type' not in backbone:
        raise UserError(f'{config} has no model.backbone with a type: expected that of a whole model')
    check_backbone(backbone)
    model_cfg = copy.deepcopy(cfg.model)
    _drop_pretrained(model_cfg)
    if cfg.get('data_preprocessor') is not None:  # mmengine's Runner looks beside the model too
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    try:
        return MODELS.build(model_cfg)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise UserError(f'{config}: its model cannot be built: {" ".join(str(error).split())}') from error


def _drop_pretrained(node: Any) -> None:
    """Take the `init_cfg` entries that load a checkpoint out of a config: another one is loaded, or none."""
    if isinstance(node, dict):
        if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained':
            del node['init_cfg']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            _drop_pretrained(value)


def _initialise(model: nn.Module) -> None:
    """Initialise a model as its config says, without mmengine's log of every parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def _dataset_meta(cfg: Config, meta: dict[str, Any]) -> dict[str, Any]:
    """The classes and colours of a checkpoint, or else of the config's test set, whose files are not read."""
    found = meta.get('dataset_meta') or {key: meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)}
    if not found:
        datasets = datasets_of(cfg.get('test_dataloader'))
        found = DATASETS.build({**datasets[0], 'lazy_init': True, 'pipeline': []}).metainfo if datasets else {}
    return {key.lower(): value for key, value in found.items()}


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
