"""Load a config file, apply the overrides of a command line, and say which task it is for.

mmengine resolves a variable such as `data_root` while it reads the file, so overriding it afterwards changes
nothing. Here an override of a variable that people change to use their own data reaches every place that was
made from it.
"""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..compat import require
from ..errors import UserError

# the library that a config belongs to, its `default_scope`, and the task it stands for here
TASKS = {'mmpretrain': 'cls', 'mmdet': 'det', 'mmseg': 'seg'}
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
# top-level keys that mmengine's Runner reads and a config need not have
OPTIONAL_KEYS = (
    *(
        'work_dir',
        'load_from',
        'resume',
        'auto_scale_lr',
        'custom_hooks',
        'default_hooks',
        'randomness',
        'env_cfg',
    ),
    *(
        'find_unused_parameters',
        'model_wrapper_cfg',
        'sync_bn',
        'compile',
        'log_level',
        'log_processor',
        'launcher',
    ),
    *(
        'visualizer',
        'vis_backends',
        'param_scheduler',
        'tta_model',
        'tta_pipeline',
        'runner_type',
        'experiment_name',
    ),
    *(f'{phase}_{part}' for phase in ('train', 'val', 'test') for part in ('cfg', 'dataloader', 'evaluator')),
)
# what a top-level variable of a config is the value of: variable, key, sections of the config
VARIABLES = (
    ('dataset_type', 'type', DATALOADERS),
    ('metainfo', 'metainfo', DATALOADERS),
    ('img_suffix', 'img_suffix', DATALOADERS),
    ('scale', 'scale', (*DATALOADERS, 'tta_pipeline')),
    ('crop_size', 'crop_size', DATALOADERS),
    ('crop_size', 'size', ('model',)),
    ('num_classes', 'num_classes', ('model', 'data_preprocessor')),
    *((length, length, ('train_cfg',)) for length in ('max_epochs', 'max_iters')),
    *((length, key, ('param_scheduler',)) for length in ('max_epochs', 'max_iters') for key in ('T_max', 'end')),
)


def load_config(path: str, overrides: dict[str, Any] | None = None) -> Config:
    """Read a config and apply overrides.

    Args:
        path: the config file.
        overrides: dotted keys to values, as mmengine's `DictAction` makes them. The top-level variables
            `data_root`, `dataset_type`, `metainfo`, `img_suffix`, `scale`, `crop_size`, `num_classes`,
            `max_epochs` and `max_iters`, where the config has them, replace their old value where it was used:
            in the paths of data loaders and evaluators, in datasets and pipelines, in the model, in the length
            of the training and of its schedule.

    Raises:
        UserError: the file is missing or is no config, its library is not installed, or an override names a key
            inside something that is not a dict or list.
    """
    if not Path(path).is_file():
        raise UserError(f'config {path} not found: expected a config file, such as those under configs/')
    try:
        cfg = Config.fromfile(path)
    except ImportError as error:
        for library, task in TASKS.items():
            if library in str(error):
                require(task)
        raise UserError(f'config {path} cannot be read: {_one_line(error)}') from error
    except Exception as error:  # a config is a program: anything can go wrong in it
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {_one_line(error)}') from error
    task = task_of(cfg, path)
    require(task)
    init_default_scope(cfg.default_scope)
    overrides = _spread_missing(cfg, dict(overrides or {}))
    _check_overrides(cfg, overrides)
    old = copy.deepcopy({name: cfg.get(name) for name in ('data_root', *(v for v, *_ in VARIABLES))})
    try:
        cfg.merge_from_dict(overrides)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f'--cfg-options do not fit {path}: {_one_line(error)}') from error
    _spread(cfg, old)
    return cfg


def task_of(cfg: Config, path: str = 'the config') -> str:
    """Return 'cls', 'det' or 'seg', read from the config's `default_scope`.

    Raises:
        UserError: another scope, or none.
    """
    scope = cfg.get('default_scope')
    if scope not in TASKS:
        raise UserError(
            f'{path} has default_scope={scope!r}: expected one of {sorted(TASKS)}, which says whether to '
            'classify, detect or segment'
        )
    return TASKS[scope]


def datasets_of(dataloader: dict | None) -> list[dict]:
    """Return the config of every dataset of a data loader's config, those inside wrappers too."""
    if not dataloader:
        return []
    found, todo = [], [dataloader['dataset']]
    while todo:
        dataset = todo.pop(0)
        inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
        todo += inner
        if not inner:
            found.append(dataset)
    return found


def _spread_missing(cfg: Config, overrides: dict[str, Any]) -> dict[str, Any]:
    """Apply overrides of variables that the config does not have to what they would be the value of.

    The stock bases, and so the COCO and ADE20K configs, have no `num_classes`, `metainfo` or `img_suffix` of their
    own. Returns the other overrides.
    """
    datasets = [dataset for name in DATALOADERS for dataset in datasets_of(cfg.get(name))]
    rest = {}
    for key, value in overrides.items():
        name, _, inner = key.partition('.')
        if name in cfg or name not in ('num_classes', 'metainfo', 'img_suffix'):
            rest[key] = value
        elif name == 'num_classes':
            counts = set(values_of(cfg.get('model'), 'num_classes'))
            if len(counts) != 1:
                raise UserError(
                    f'num_classes={value}: the model has heads of {sorted(counts)} classes: set each by name'
                )
            old = counts.pop()
            for section in ('model', 'data_preprocessor'):
                _replace(cfg.get(section), 'num_classes', old, value)
        else:
            for dataset in datasets:
                dataset[name] = {**(dataset.get(name) or {}), inner: value} if inner else value
    return rest


def _check_overrides(cfg: Config, overrides: dict[str, Any]) -> None:
    """Refuse a key that nothing reads: all of it but the last part must be there, or be one mmengine knows."""
    for key in overrides:
        node, parts = dict(cfg.items()), key.split('.')
        for depth, part in enumerate(parts):
            here = list(node) if isinstance(node, dict) else []
            if isinstance(node, (list, tuple)) or (depth == 0 and part in OPTIONAL_KEYS):
                break
            if part not in here and (depth == 0 or depth < len(parts) - 1):
                near = difflib.get_close_matches(part, here, 1)
                hint = (
                    f"did you mean '{near[0]}'?"
                    if near
                    else f'expected one of {", ".join(map(str, here)) or "none"}'
                )
                raise UserError(f"--cfg-options {key}: the config has no '{part}' there: {hint}")
            node = node.get(part) if isinstance(node, dict) else None


def values_of(node: Any, key: str) -> list[Any]:
    """Every value of `key` below a config node."""
    if isinstance(node, dict):
        own = [node[key]] if key in node else []
        return own + [v for value in node.values() for v in values_of(value, key)]
    return [v for value in node for v in values_of(value, key)] if isinstance(node, (list, tuple)) else []


def _spread(cfg: Config, old: dict[str, Any]) -> None:
    """Carry a changed variable to where its old value was used."""
    if isinstance(old['data_root'], str) and cfg.data_root != old['data_root']:
        if not isinstance(cfg.data_root, str):
            raise UserError(f'data_root={cfg.data_root!r}: expected a folder')
        for name in DATALOADERS + EVALUATORS:
            if cfg.get(name) is not None:
                cfg[name] = _moved(cfg[name], old['data_root'].rstrip('/'), cfg.data_root.rstrip('/'))
    for variable, key, sections in VARIABLES:
        if old[variable] is not None and cfg[variable] != old[variable]:
            for section in sections:
                _replace(cfg.get(section), key, old[variable], cfg[variable])


def _moved(node: Any, old: str, new: str) -> Any:
    """Return a copy of a config tree in which every path at or below `old` is below `new`."""
    if isinstance(node, dict):
        return type(node)({key: _moved(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if isinstance(node, str) and (node.rstrip('/') == old or node.startswith(old + '/')):
        return new + node[len(old) :]
    return node


def _replace(node: Any, key: str, old: Any, new: Any) -> None:
    """Give every `key` below a config node that has the old value the new one."""
    if isinstance(node, dict):
        if key in node and node[key] == old:
            node[key] = new
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            _replace(value, key, old, new)


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
