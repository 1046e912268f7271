"""Checks before the first step: a run that cannot end well stops here, with one line, and writes nothing.

Stock tools find such mistakes late (after the work directory is made, at the first validation) or never (classes
that do not match are dropped in silence). Names and counts are compared, and some label maps read.
"""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.runner import CheckpointLoader

from ..backbones import DWNet
from ..errors import UserError
from ..registry import MODELS
from .config import task_of
from .data_checks import check_dataloader


def check_config(cfg: Config, phase: str) -> None:
    """Check what a run of this config is going to need.

    Args:
        cfg: the config, with the overrides of the command line merged.
        phase: 'train' or 'test'.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    backbone = check_backbone(cfg.model.backbone)
    if backbone is not None:
        _check_channels(cfg.model, backbone)
    if phase == 'train':
        _check_amp(cfg)
        _check_batch(cfg)
    task = task_of(cfg)
    loaders = ('train_dataloader', 'val_dataloader') if phase == 'train' else ('test_dataloader',)
    for name in loaders:
        if cfg.get(name) is not None:
            check_dataloader(cfg, name, task)
    _check_checkpoints(cfg, backbone)


def check_backbone(cfg: dict) -> DWNet | None:
    """Build a config's backbone if it is a DWNet, without its pre-trained weights, and return it.

    Raises:
        UserError: an argument is unknown (the nearest name is suggested) or out of range.
    """
    if MODELS.get(cfg['type']) is not DWNet:
        return None
    arguments = {key: value for key, value in cfg.items() if key not in ('type', '_scope_')}
    _check_arguments(DWNet, arguments, 'model.backbone')
    mixer = arguments.get('mixer')
    if isinstance(mixer, dict) and MODELS.get(mixer.get('type', '')) is not None:
        options = {key: value for key, value in mixer.items() if key not in ('type', '_scope_')}
        _check_arguments(MODELS.get(mixer['type']), options, 'model.backbone.mixer')
    try:
        return DWNet(**{**arguments, 'init_cfg': None})
    except (ValueError, TypeError) as error:
        raise UserError(f'model.backbone: {error}') from error


def _check_arguments(target: type, arguments: dict, where: str) -> None:
    known = [name for name in inspect.signature(target).parameters]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f'expected one of {", ".join(known)}'
            raise UserError(f"{where}: {target.__name__} has no argument '{name}': {hint}")


def _check_channels(model: dict, backbone: DWNet) -> None:
    """The channels that the neck or head is told must be those that the backbone returns."""
    given = [backbone.channels[i] for i in backbone.out_indices]
    for part in ('neck', 'decode_head', 'auxiliary_head'):
        head = model.get(part)
        asked = head.get('in_channels') if isinstance(head, dict) else None
        if asked is None:
            continue
        index = head.get('in_index', list(range(len(given))))
        outside = [i for i in ([index] if isinstance(index, int) else index) if not -len(given) <= i < len(given)]
        if outside:
            raise UserError(f'model.{part}.in_index={index}: the backbone returns {len(given)} maps')
        gets = given[index] if isinstance(index, int) else [given[i] for i in index]
        if (asked if isinstance(asked, int) else list(asked)) != gets:
            raise UserError(
                f'model.{part}.in_channels={asked}, but the backbone gives it {gets}: set it to that, or choose '
                'another arch or out_indices'
            )
    head = model.get('head')
    if isinstance(head, dict) and 'in_channels' in head and head['in_channels'] != given[-1]:
        raise UserError(
            f'model.head.in_channels={head["in_channels"]}, but the backbone gives it {given[-1]}: set it to that'
        )


def _check_amp(cfg: Config) -> None:
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise UserError(
            'the config trains with automatic mixed precision, which needs a GPU, and none was found: add '
            '--cfg-options optim_wrapper.type=OptimWrapper to train in float32 on the CPU'
        )


def _check_batch(cfg: Config) -> None:
    """The kernel generator of the dynamic mixer pools each image to one value per channel before a BN."""
    backbone = cfg.model.backbone
    mixer = backbone.get('mixer', '')
    mixer = mixer if isinstance(mixer, str) else mixer.get('type', '')
    if mixer.split('.')[-1] != 'DynamicDepthwiseConv' or backbone.get('norm_eval'):
        return
    norm = backbone.get('norm_cfg', {}).get('type', 'BN')
    synced = norm == 'SyncBN' and get_world_size() > 1 and get_device() != 'cpu'
    if cfg.train_dataloader.get('batch_size') == 1 and norm in ('BN', 'SyncBN') and not synced:
        raise UserError(
            'train_dataloader.batch_size=1 with the mixer DynamicDepthwiseConv: the BN of its kernel generator '
            'sees one value per channel and image; use a batch of 2 or more per GPU, or '
            "norm_cfg=dict(type='SyncBN') on several GPUs"
        )


def _check_checkpoints(cfg: Config, backbone: DWNet | None) -> None:
    """Files that are going to be loaded exist, and fit the backbone. URLs are left to the loader."""
    named = {'load_from': cfg.get('load_from')}
    init_cfg = cfg.model.backbone.get('init_cfg')
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained' and not (cfg.load_from or cfg.resume):
        named['model.backbone.init_cfg.checkpoint'] = init_cfg['checkpoint']
    for where, path in named.items():
        if not path or '://' in path:
            continue
        if not Path(path).is_file():
            raise UserError(
                f'{where}={path}: no such file; expected a checkpoint (to start from random weights instead: '
                f'--cfg-options {where if where == "load_from" else "model.backbone.init_cfg"}=None)'
            )
        if backbone is None:
            continue
        try:
            checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        except Exception as error:  # unpickling a foreign file can raise anything
            raise UserError(
                f'{where}={path}: no checkpoint that torch can read ({type(error).__name__}); expected a .pth file'
            ) from error
        state_dict = checkpoint.get('state_dict', checkpoint)
        prefix = 'backbone.' if where == 'load_from' else init_cfg.get('prefix', '')
        try:
            backbone._load_from_state_dict(state_dict, prefix, {}, False, [], [], [])
        except ValueError as error:
            raise UserError(f'{path}: {error}') from error
