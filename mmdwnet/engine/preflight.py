"""Checks before the first step: a run that cannot end well stops here, with one line, and writes nothing.

Stock tools find such mistakes late (after the work directory is made, at the first validation) or never (classes
that do not match are dropped in silence). Names and counts are compared, and some label maps read.
"""

from __future__ import annotations

import difflib
import inspect
from functools import partial

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS as MMENGINE_MODELS

from ..backbones import DWNet, IsotropicNet
from ..errors import UserError
from ..registry import MODELS
from .amp import AMP_DTYPES, AMP_WRAPPER, check_amp_dtype
from .bad_samples import check_budget
from .checkpoint_checks import check_checkpoints
from .config import task_of
from .data_checks import check_dataloader, check_evaluator
from .distributed import rank_and_world_size
from .sample_checks import Fault
from .sharding import check_optimizer

Backbone = DWNet | IsotropicNet


def check_config(cfg: Config, phase: str, max_bad_samples: int | None = None) -> list[Fault]:
    """Check what a run of this config is going to need.

    Args:
        cfg: the config, with the overrides of the command line merged.
        phase: 'train' or 'test'.
        max_bad_samples: how many of the training set may be bad; None for 0.1 %.

    Returns:
        What is wrong with samples of the training set, on the first process.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    backbone = check_model(cfg, phase)
    rank, world_size = rank_and_world_size(cfg.get('launcher', 'none'))
    if phase == 'train':
        check_training(cfg, world_size)
    bad: list[Fault] = []
    if rank == 0:  # the others would read the same files again
        check_data(cfg, phase, world_size, max_bad_samples, bad)
    check_checkpoints(cfg, backbone, phase)
    return bad


def check_model(cfg: Config, phase: str) -> Backbone | None:
    """Check that a config has its sections, and the parts of its model against each other.

    Args:
        cfg: the config.
        phase: 'train' or 'test'.

    Returns:
        The backbone, built, if it is one of this package.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    for section in ('model', f'{phase}_dataloader', *(['optim_wrapper'] if phase == 'train' else [])):
        if not isinstance(cfg.get(section), dict):
            raise UserError(f'the config has no {section}: expected a dict, as in the configs under configs/')
    if not isinstance(cfg.model.get('backbone'), dict) or 'type' not in cfg.model.backbone:
        raise UserError(
            "the config has no model.backbone with a type: expected such as dict(type='mmdwnet.DWNet')"
        )
    backbone = check_backbone(cfg.model.backbone)
    if backbone is not None:
        _check_channels(cfg.model, backbone)
        if backbone.deploy and phase == 'train':
            raise UserError(
                'model.backbone.deploy=True is for inference, with the BNs folded away: train without it, and '
                'deploy the result with tools/model_converters/deploy.py'
            )
    return backbone


def check_backbone(cfg: dict) -> Backbone | None:
    """Build a config's backbone if it is one of this package, without its pre-trained weights, and return it.

    Raises:
        UserError: an argument is unknown (the nearest name is suggested) or out of range.
    """
    with MMENGINE_MODELS.switch_scope_and_registry(cfg.get('_scope_')) as registry:
        kind = registry.get(cfg['type'])
    if kind is None:
        hint = ": did you mean 'mmdwnet.DWNet'?" if cfg['type'].split('.')[-1].startswith('DW') else ''
        raise UserError(f'model.backbone: unknown type {cfg["type"]!r}' + hint)
    if kind not in (DWNet, IsotropicNet):
        return None
    arguments = {key: value for key, value in cfg.items() if key not in ('type', '_scope_')}
    _check_arguments(kind, arguments, 'model.backbone')
    for mixer in _as_list(arguments.get('mixer')):
        if isinstance(mixer, dict) and MODELS.get(mixer.get('type', '')) is not None:
            options = {key: value for key, value in mixer.items() if key not in ('type', '_scope_')}
            _check_arguments(MODELS.get(mixer['type']), options, 'model.backbone.mixer')
    try:
        return kind(**{**arguments, 'init_cfg': None})
    except (ValueError, TypeError) as error:
        raise UserError(f'model.backbone: {error}') from error


def _check_arguments(target: type, arguments: dict, where: str) -> None:
    known = [name for name in inspect.signature(target).parameters]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f'expected one of {", ".join(known)}'
            raise UserError(f"{where}: {target.__name__} has no argument '{name}': {hint}")


def _check_channels(model: dict, backbone: Backbone) -> None:
    """The channels that the neck or head is told must be those that the backbone returns."""
    given = [backbone.channels[i] for i in backbone.out_indices]
    neck = model.get('neck')
    # behind a neck with channels of its own, heads get the neck's maps
    parts = (
        ['neck'] if isinstance(neck, dict) and 'in_channels' in neck else ['decode_head', 'auxiliary_head', 'head']
    )
    heads = [(part, head) for part in parts for head in _as_list(model.get(part)) if isinstance(head, dict)]
    for part, head in heads:
        asked = head.get('in_channels')
        if asked is None:
            continue
        if part == 'head':
            given = given[-1:]
            head = {**head, 'in_index': 0}
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


def check_training(cfg: Config, world_size: int) -> None:
    """Check precision, optimizer and batch of a training run on that many processes; raise UserError."""
    _check_amp(cfg)
    check_optimizer(cfg)
    _check_batch(cfg, world_size)


def _check_amp(cfg: Config) -> None:
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') == AMP_WRAPPER:
        check_amp_dtype(wrapper.get('dtype', AMP_DTYPES[0]), get_device())
    elif wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise UserError(
            "the config trains in mixed precision with mmengine's AmpOptimWrapper, which needs a GPU, and none "
            'was found: add --amp, which takes the one of this project, or --cfg-options '
            'optim_wrapper.type=OptimWrapper to train in float32'
        )


def check_data(
    cfg: Config, phase: str, world_size: int, max_bad_samples: int | None = None, bad: list[Fault] | None = None
) -> dict[str, int]:
    """Check the files of every data loader of a phase, and that they are enough for a step.

    Args:
        cfg: the config.
        phase: 'train' or 'test'.
        world_size: processes of the run.
        max_bad_samples: how many of the training set may be bad; None for 0.1 %.
        bad: a list to add those to that were found.

    Returns:
        How many images each loader has, by the first part of its name; 0 where that is not known.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    task, found = task_of(cfg), {}
    for name in ('train', 'val') if phase == 'train' else ('test',):
        loader = cfg.get(f'{name}_dataloader')
        if loader is None:
            continue
        faults: dict[str, Fault] = {}  # several annotations of an image may be bad
        report = partial(_note, faults) if name == 'train' else None  # elsewhere none is skipped
        images = found[name] = check_dataloader(cfg, f'{name}_dataloader', task, report)
        check_budget(list(faults.values()), images, max_bad_samples, f'{name}_dataloader')
        if bad is not None:
            bad += faults.values()
        check_evaluator(cfg, name)
        batch = loader.get('batch_size') or 1
        by_epoch = loader.get('sampler', {}).get('type') != 'InfiniteSampler'
        if name != 'train' or not images or not by_epoch:
            continue
        if loader.get('drop_last') and images < batch * world_size:
            raise UserError(
                f'train_dataloader: {images} images do not fill one batch of {batch} on each of {world_size} '
                f'processes: set --cfg-options '
                f'train_dataloader.batch_size={max(images // world_size, 1)} or smaller'
            )
        if (
            not loader.get('drop_last')
            and -(-images // world_size) % batch == 1
            and _needs_two_images(cfg, world_size)
        ):
            raise UserError(
                f'train_dataloader: {images} images in batches of {batch} leave a last batch of 1, which the BN '
                'of the kernel generator of DynamicDepthwiseConv cannot use: set --cfg-options '
                'train_dataloader.drop_last=True'
            )
    return found


def _note(faults: dict[str, Fault], fault: Fault) -> None:
    faults.setdefault(fault.file, fault)


def _needs_two_images(cfg: Config, world_size: int) -> bool:
    """Whether the kernel generator of a dynamic mixer has a BN that sees this process's images only.

    It pools each image to one value per channel.
    """
    backbone = cfg.model.backbone
    mixer = backbone.get('mixer', '')
    mixer = mixer if isinstance(mixer, str) else mixer.get('type', '')
    norm = backbone.get('norm_cfg', {}).get('type', 'BN')
    synced = norm == 'SyncBN' and world_size > 1 and get_device() != 'cpu'
    dynamic = mixer.split('.')[-1] == 'DynamicDepthwiseConv'
    return dynamic and norm in ('BN', 'SyncBN') and not synced and not backbone.get('norm_eval')


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_batch(cfg: Config, world_size: int) -> None:
    if cfg.train_dataloader.get('batch_size') == 1 and _needs_two_images(cfg, world_size):
        raise UserError(
            'train_dataloader.batch_size=1 with the mixer DynamicDepthwiseConv: the BN of its kernel generator '
            'sees one value per channel and image; use a batch of 2 or more per GPU, or '
            "norm_cfg=dict(type='SyncBN') on several GPUs"
        )
