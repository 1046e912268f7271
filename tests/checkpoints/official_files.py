"""Official checkpoints for the tests: layouts of any size, deterministic weights, containers, reference outputs.

`official_spec` writes a layout down from its description; that of tiny and base is compared with the published
lists in tests/data/official, so that other sizes stand on the same ground.
"""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).resolve().parents[1] / 'data' / 'official'
MIXERS = {
    'dwnet': 'DepthwiseConv',
    'dynamic_dwnet': 'DynamicDepthwiseConv',
    'i_dynamic_dwnet': 'InhomogeneousDynamicDepthwiseConv',
}
SIZES = {'nano': (32, (1, 1, 2, 1)), 'tiny': (96, (2, 2, 6, 2)), 'base': (128, (2, 2, 18, 2))}
TASKS = ('cls', 'downstream')


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _module(DATA / 'official_weights.py')


def published_spec(name):
    """The list of [key, shape] of an official file, or None where none is published."""
    file = DATA / f'{name}.keys.json'
    return json.loads(file.read_text()) if file.is_file() else None


def golden(name):
    return np.load(DATA / f'{name}.golden.npz')


def official_spec(model, size, task, classes=1000, groups=32):
    """[key, shape] of every entry of an official model: a classifier, or the backbone of a detector."""
    channels, depths = SIZES[size]
    spec = [*_layer('patch_embed.proj', [channels, 3, 4, 4]), *_norm('patch_embed.norm', channels)]
    for i, depth in enumerate(depths):
        c = channels * 2**i
        for j in range(depth):
            spec += _block(f'layers.{i}.blocks.{j}', model, c, groups)
        if i < len(depths) - 1:
            spec += [[f'layers.{i}.downsample.reduction.weight', [2 * c, 4 * c]]]
            spec += _norm(f'layers.{i}.downsample.norm', 4 * c)
    if task == 'cls':
        return spec + _norm('norm', c) + _layer('head', [classes, c])
    return spec + [entry for i in range(len(depths)) for entry in _bn(f'norm{i}', channels * 2**i)]


def _block(block, model, c, groups):
    mixer, r = f'{block}.attn2conv', c // 4
    spec = [[f'{mixer}.conv0.weight', [c, c, 1, 1]], *_bn(f'{mixer}.bn0', c)]
    if model == 'dwnet':
        spec += _layer(f'{mixer}.conv', [c, 1, 7, 7])
    elif model == 'dynamic_dwnet':
        spec += [
            [f'{mixer}.conv.bias', [c]],
            [f'{mixer}.conv.conv1.weight', [r, c, 1, 1]],
            *_bn(f'{mixer}.conv.bn', r),
        ]
        spec += _layer(f'{mixer}.conv.conv2', [49 * c, r, 1, 1])
    else:
        spec += [*_layer(f'{mixer}.conv.conv1.0', [r, c, 1, 1]), *_bn(f'{mixer}.conv.conv1.1', r)]
        spec += _layer(f'{mixer}.conv.conv2.0', [49 * groups, r, 1, 1])
    spec += [*_bn(f'{mixer}.bn', c), [f'{mixer}.conv2.weight', [c, c, 1, 1]], *_bn(f'{mixer}.bn2', c)]
    return (
        spec
        + _layer(f'{block}.mlp.fc1', [4 * c, c])
        + _layer(f'{block}.mlp.fc2', [c, 4 * c])
        + _bn(f'{block}.bn', c)
    )


def _layer(name, shape):
    return [[f'{name}.weight', shape], [f'{name}.bias', shape[:1]]]


def _norm(name, c):
    return _layer(name, [c])


def _bn(name, c):
    statistics = [[f'{name}.running_mean', [c]], [f'{name}.running_var', [c]], [f'{name}.num_batches_tracked', []]]
    return _norm(name, c) + statistics


@functools.cache
def weights(model, size, task, classes=1000):
    """An official state dict with the values that the reference outputs were computed from."""
    return reference.official_state_dict(official_spec(model, size, task, classes))


def shapes(model, size, task):
    """The same without values, for what is too big to fill."""
    return {key: torch.empty(shape, device='meta') for key, shape in official_spec(model, size, task)}


def save_classifier(path, state_dict):
    """Write a file as the official classification code does; its config as plain text in place of a CfgNode."""
    extra = dict(optimizer={'state': {}, 'param_groups': [{'lr': 1e-3}]}, lr_scheduler={'last_epoch': 299})
    torch.save({'model': state_dict, **extra, 'max_accuracy': 81.2, 'epoch': 299, 'config': 'MODEL: dwnet'}, path)
    return str(path)


def save_detector(path, backbone, heads=None):
    """Write a file as the official forks do, with the key names that mmdet and mmseg have today in the heads."""
    state_dict = {f'backbone.{key}': value for key, value in backbone.items()} | (heads or {})
    torch.save({'meta': {'epoch': 36, 'iter': 1}, 'state_dict': state_dict, 'optimizer': {'state': {}}}, path)
    return str(path)
