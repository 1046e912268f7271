"""What a config asks for against what is there: the checks before the first step, each a line, and its numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ...backbones import DWNet
from ...errors import UserError, listed
from ..amp import AMP_DTYPES, AMP_WRAPPER
from ..checkpoint_checks import Loaded, check_checkpoints
from ..config import datasets_of
from ..preflight import check_data, check_model, check_training
from .hardware import cores
from .page import Finding

# transforms that give an image its size, and the argument that says it; what a pipeline does last counts
SIZED = {
    **dict.fromkeys(
        ('RandomResizedCrop', 'Resize', 'RandomResize', 'ResizeEdge', 'EfficientNetRandomCrop'), 'scale'
    ),
    'RandomChoiceResize': 'scales',
    **dict.fromkeys(('RandomCrop', 'CenterCrop'), 'crop_size'),
}


class Settings:
    """A config, and what the checks of it found.

    Args:
        cfg: the config, with the overrides of the command line merged.
    """

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.images: dict[str, int] = {}
        self._backbone: DWNet | None = None
        self._parameters: dict[str, int] = {}  # elements by name

    def model(self) -> Iterator[Finding]:
        """The backbone's arguments, channels, and the whole model, built."""
        self._backbone = check_model(self.cfg, 'train')
        model = build_model(self.cfg)
        self._parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
        count = sum(self._parameters.values())
        backbone = self.cfg.model.backbone
        kind = ' '.join(str(part) for part in (backbone.type.split('.')[-1], backbone.get('arch', '')) if part)
        mixers = ' and '.join(_names(backbone.get('mixer') or ()))
        text = f'{type(model).__name__} on {kind}{", " * bool(mixers)}{mixers}; {count / 1e6:.2f} M parameters'
        yield Finding('ok', 'model', text, values=dict(parameters=count))

    def training(self) -> Iterator[Finding]:
        """Precision and batch."""
        check_training(self.cfg, 1)
        wrapper, loader = self.cfg.optim_wrapper, self.cfg.train_dataloader
        kind = wrapper.get('type', 'OptimWrapper')
        default = AMP_DTYPES[0] if kind == AMP_WRAPPER else 'float16'  # that of mmengine's
        precision = f'mixed precision in {wrapper.get("dtype") or default}' if 'Amp' in kind else 'float32'
        optimizer = (wrapper.get('optimizer') or {}).get('type', 'optimizer')
        accumulated = wrapper.get('accumulative_counts', 1)
        batches = f'batches of {loader.get("batch_size")}' + (f', {accumulated} accumulated' * (accumulated > 1))
        yield Finding('ok', 'training', f'{length_of(self.cfg)}, {batches} per process; {optimizer}, {precision}')
        yield from self._workers(loader.get('num_workers', 0))

    def _workers(self, workers: int) -> Iterator[Finding]:
        if workers > cores():
            cure = f'--cfg-options train_dataloader.num_workers={max(cores() - 1, 1)}'
            yield Finding('warning', 'loader', f'{workers} loading processes for {cores()} cores', cure)

    def data(self) -> Iterator[Finding]:
        """Roots, files, counts, classes."""
        self.images = check_data(self.cfg, 'train', 1)
        classes = head_classes(self.cfg.model)
        roots = {
            dataset.get('data_root') or ''
            for name in self.images
            for dataset in datasets_of(self.cfg[f'{name}_dataloader'])
        }
        counts = ', '.join(f'{name} {images or "unknown"}' for name, images in self.images.items())
        text = f'{", ".join(sorted(roots))}: {counts} images'
        if classes and all(self.images.values()):
            text += f'; {classes} classes, as the head has'
        yield Finding('ok', 'data', text, values=dict(images=self.images, classes=classes))

    def weights(self) -> Iterator[Finding]:
        """What is loaded at the start, and how much of the net it covers."""
        loaded = check_checkpoints(self.cfg, self._backbone, 'train')
        if not loaded:
            text = 'none are loaded: training starts from random ones'
            yield Finding('note', 'weights', text, values=dict(covered=0))
        for weights in loaded:
            yield _coverage(self._parameters, weights)


def _names(mixer: str | dict | list) -> list[str]:
    entries = mixer if isinstance(mixer, (list, tuple)) else [mixer]
    return [entry if isinstance(entry, str) else str(entry.get('type')) for entry in entries]


def _coverage(parameters: dict[str, int], weights: Loaded) -> Finding:
    source = f'{weights.setting.rpartition(".")[0] or weights.setting} {weights.source}'
    if weights.keys is None:
        return Finding('note', 'weights', f'{source}: left to mmengine, not looked into')
    scope = [name for name in parameters if weights.setting == 'load_from' or name.startswith('backbone.')]
    missed = [name for name in scope if name not in weights.keys]
    total = sum(parameters.values())
    covered = sum(count for name, count in parameters.items() if name in weights.keys) / total
    text = f'{source} fits; it covers {100 * covered:.2f} % of the parameters'
    if weights.fresh:
        text += f'; these start afresh, for they have other classes: {listed(weights.fresh)}'
    elif missed:
        text += f'; these of its part of the net start afresh: {listed(missed)}'
    elif covered < 1:
        text += ', which is all of the backbone'
    values = dict(covered=covered, source=weights.source)
    # output norms of a backbone are new in a detector; more than that is not what one wants
    some = sum(parameters[name] for name in missed) > 0.01 * total and not weights.fresh
    cure = 'give weights of the same arch and mixer' if some else ''
    return Finding('warning' if some else 'ok', 'weights', text, cure, values)


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, as the Runner builds it, without loading weights."""
    settings = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    _drop_pretrained(settings)
    try:
        return MODELS.build(settings)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UserError(f'the model cannot be built: {type(error).__name__}: {error}') from error


def _drop_pretrained(node: Any) -> None:
    if isinstance(node, dict):
        init = node.get('init_cfg')
        entries = [entry for entry in (init if isinstance(init, (list, tuple)) else [init]) if entry]
        if any(entry.get('type') == 'Pretrained' for entry in entries):
            node['init_cfg'] = [entry for entry in entries if entry.get('type') != 'Pretrained'] or None
        node = list(node.values())
    for value in node if isinstance(node, (list, tuple)) else ():
        _drop_pretrained(value)


def head_classes(model: dict) -> int:
    """Classes of a model's head; 0 if it does not say."""
    for part in ('head', 'decode_head', 'bbox_head', 'roi_head'):
        found = _first(model.get(part), 'num_classes')
        if found:
            return found
    return 0


def _first(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        if isinstance(node.get(key), int):
            return node[key]
        node = list(node.values())
    values = (_first(value, key) for value in (node if isinstance(node, (list, tuple)) else ()))
    return next((value for value in values if value), None)


def length_of(cfg: Config) -> str:
    """How long a config trains, in words."""
    loop = cfg.get('train_cfg') or {}
    return f'{loop["max_epochs"]} epochs' if loop.get('max_epochs') else f'{loop.get("max_iters")} iterations'


def steps_of(cfg: Config, per_epoch: int | None) -> int | None:
    """Steps of a whole run; None if they are counted in epochs whose length is not known."""
    loop = cfg.get('train_cfg') or {}
    if loop.get('max_iters'):
        return loop['max_iters']
    return loop['max_epochs'] * per_epoch if loop.get('max_epochs') and per_epoch else None


def steps_per_epoch(cfg: Config, images: int) -> int | None:
    """Steps of an epoch on one process, from the number of images; None if that is 0, not known."""
    loader = cfg.train_dataloader
    steps = images / (loader.get('batch_size') or 1)
    return (math.floor if loader.get('drop_last') else math.ceil)(steps) or None


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the largest images that the training pipeline makes.

    Raises:
        UserError: it cannot be told.
    """
    preprocessor = {**(cfg.get('data_preprocessor') or {}), **(cfg.model.get('data_preprocessor') or {})}
    if preprocessor.get('size'):
        return tuple(preprocessor['size'])
    dataset = cfg.train_dataloader.dataset
    pipelines = [
        node['pipeline'] for node in (dataset, *datasets_of(cfg.train_dataloader)) if node.get('pipeline')
    ]
    sizes = [size for pipeline in pipelines[:1] for size in _sizes(pipeline)]
    if not sizes:
        raise UserError(
            'train_dataloader: no transform of its pipeline says how large the images are: expected one of '
            f'{", ".join(SIZED)}, or model.data_preprocessor.size'
        )
    return max(sizes, key=lambda size: size[0] * size[1])


def _sizes(pipeline: list) -> list[tuple[int, int]]:
    """Height and width that the last sizing transform of a pipeline may give."""
    for transform in reversed(pipeline):
        kind = str(transform.get('type')).split('.')[-1]
        if kind == 'RandomChoice':  # of several pipelines
            found = [size for branch in transform['transforms'] for size in _sizes(branch)]
            if found:
                return found
        value = transform.get(SIZED.get(kind, ''))
        if value:
            several = isinstance(value, (list, tuple)) and isinstance(value[0], (list, tuple))
            return [
                _height_and_width(choice, transform, SIZED[kind]) for choice in (value if several else [value])
            ]
    return []


def _height_and_width(value: Any, transform: dict, argument: str) -> tuple[int, int]:
    first, second = (int(side) for side in (value if isinstance(value, (list, tuple)) else (value, value)))
    if argument == 'crop_size':  # (height, width)
        return first, second
    if transform.get('keep_ratio'):  # bounds of the short and the long side; most photographs are wide
        return min(first, second), max(first, second)
    return second, first  # (width, height)
