"""Checks of the checkpoints that a run is going to load: readable, safe, and fit for the model, all of it.

mmengine would load what fits and warn about the rest, after the work directory is made.
"""

from __future__ import annotations

import copy
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import Tensor

from ..backbones import DWNet
from ..checkpoints.fit import check_fit
from ..checkpoints.reading import is_url, meta_of
from ..errors import UserError


@dataclass(frozen=True)
class Loaded:
    """Weights that a run is going to load.

    Args:
        setting: where the config names them.
        source: path or URL.
        keys: what they fill of the model's state dict; None if they were not looked into, which are those of the
            schemes that are left to mmengine.
        fresh: what they leave as it is, for it has other classes; in words.
    """

    setting: str
    source: str
    keys: frozenset[str] | None
    fresh: tuple[str, ...] = ()


def check_checkpoints(cfg: Config, backbone: DWNet | None, phase: str) -> list[Loaded]:
    """Check `load_from`, the checkpoint to resume from, and the backbone's pre-trained weights.

    Args:
        cfg: the config.
        backbone: the config's backbone, built; it is loaded into. None if it is no DWNet.
        phase: 'train' or 'test'.

    Returns:
        What is going to be loaded, in that order.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    loaded = []
    resume = phase == 'train' and bool(cfg.get('resume'))
    source = cfg.get('load_from')
    if resume and not source:
        source = find_latest_checkpoint(cfg.work_dir)
    init_cfg = cfg.model.backbone.get('init_cfg')
    for entry in init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]:
        # mmengine loads it first, even if the whole model is then loaded over it
        if phase == 'train' and entry and entry.get('type') == 'Pretrained':
            loaded.append(_check_backbone(entry, backbone))
    if source:
        loaded.append(_check_whole_model(cfg, source, resume, transfer=phase == 'train' and not resume))
    return loaded


def _is_checked(source: str) -> bool:
    """Whether it is a path or an http URL; other schemes are left to mmengine."""
    return '://' not in source or is_url(source)


def _read(source: str, where: str) -> tuple[Any, dict[str, Tensor]]:
    """Return a checkpoint, as mmengine is going to see it, and its weights."""
    if not is_url(source) and not Path(source).expanduser().exists():
        raise UserError(
            f'{where}={source}: no such file; expected a checkpoint (to start from random weights instead: '
            f'--cfg-options {where.removesuffix(".checkpoint")}=None)'
        )
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu', logger='silent')
    # mmengine knows one container only
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f'{where}={source} holds no weights: expected a state dict, by itself or as `state_dict`')
    return checkpoint, {re.sub(r'^module\.', '', key): value for key, value in weights.items()}


def _check_whole_model(cfg: Config, source: str, resume: bool, transfer: bool) -> Loaded:
    if not _is_checked(source):
        return Loaded('load_from', source, None)
    checkpoint, weights = _read(source, 'load_from')
    if resume and not ('message_hub' in checkpoint and {'epoch', 'iter'} <= meta_of(checkpoint).keys()):
        raise UserError(
            f'--resume {source}: it holds weights, but not where its training stood; to start from these weights: '
            f'--cfg-options load_from={source}'
        )
    model = MODELS.build(copy.deepcopy(cfg.model))
    try:
        fresh = check_fit(model, weights, transfer)
    except ValueError as error:
        raise UserError(f'{source}: {error}') from error
    if fresh:
        print_log(
            f'load_from={source}: other classes; these layers start afresh: {", ".join(fresh)}',
            'current',
            logging.WARNING,
        )
    keys = (key for key in model.state_dict() if not any(text.startswith(f'{key} ') for text in fresh))
    return Loaded('load_from', source, frozenset(keys), tuple(fresh))


def _check_backbone(init_cfg: dict, backbone: DWNet | None) -> Loaded:
    setting = 'model.backbone.init_cfg.checkpoint'
    source, prefix = init_cfg['checkpoint'], init_cfg.get('prefix', '')
    if not _is_checked(source):
        return Loaded(setting, source, None)
    _, weights = _read(source, setting)
    prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    weights = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    if not weights:
        raise UserError(f'{source} has no entry under model.backbone.init_cfg.prefix={prefix}')
    if backbone is not None:
        try:
            backbone.load_state_dict(weights, strict=False)
        except ValueError as error:
            raise UserError(f'{source}: {error}') from error
    return Loaded(setting, source, frozenset(f'backbone.{key}' for key in weights))
