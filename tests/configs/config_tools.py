"""Loading and building configs for the tests of this folder, as the stock tools do but without data or weights."""

from __future__ import annotations

import copy
import functools
import itertools
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

import mmdwnet  # noqa: F401  (makes `mmdwnet::` known to mmengine)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
BASES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('_base_/**/*.py'))
LEAVES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('[!_]*/**/*.py'))

DWNETS = [f'{mixer}dwnet-{size}' for size in ('tiny', 'base') for mixer in ('', 'dynamic-', 'idynamic-')]
MODELS = [*DWNETS, 'swin-tiny', 'swin-base']
IMAGENET = {model: f'imagenet/{model}_16xb64_in1k.py' for model in MODELS}
IMAGENET['dwnet-tiny'] = 'imagenet/dwnet-tiny_8xb128_in1k.py'
IMAGENET['dynamic-dwnet-tiny'] = 'imagenet/dynamic-dwnet-tiny_8xb128_in1k.py'
IMAGENET['idynamic-dwnet-tiny'] = 'imagenet/idynamic-dwnet-tiny_8xb64-accum2_in1k.py'
CASCADE = {model: f'coco/cascade-mask-rcnn_{model}_fpn_ms-3x_coco.py' for model in MODELS}
MASK_1X = {model: f'coco/mask-rcnn_{model}_fpn_1x_coco.py' for model in MODELS}
MASK_3X = {model: f'coco/mask-rcnn_{model}_fpn_ms-3x_coco.py' for model in MODELS}
ADE = {model: f'ade20k/upernet_{model}_8xb2-160k_ade20k-512x512.py' for model in MODELS}
# detectors that mmdet has in one full config each
DETECTORS = {'atss': 'fpn', 'reppoints': 'fpn', 'sparse-rcnn': 'fpn_300-proposals'}
ZOO = {
    f'{detector}_{model}': f'coco/{detector}_{model}_{neck}_ms-3x_coco.py'
    for detector, neck in DETECTORS.items()
    for model in ('dwnet-tiny', 'swin-tiny')
}
# ImageNet-22K and what starts from it
MODELS_22K = ['dwnet-base', 'dynamic-dwnet-base', 'swin-base']
IN22K = {model: f'imagenet22k/{model}_8xb64-accum8_in22k.py' for model in MODELS_22K}
IN22K_TO_1K = {model: f'imagenet22k/{model}_in22k-pre_8xb64-accum2_in1k.py' for model in MODELS_22K}
IN22K_TO_ADE = {model: f'ade20k/upernet_{model}_in22k-pre_8xb2-160k_ade20k-512x512.py' for model in MODELS_22K}
TREES = (IMAGENET, CASCADE, MASK_1X, MASK_3X, ADE, ZOO, IN22K, IN22K_TO_1K, IN22K_TO_ADE)

_counter = itertools.count()


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves new weights uninitialised: drawing 200 million random numbers is what building a model costs."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.uniform_, torch.Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


@functools.cache
def _parsed(config: str) -> Config:
    return Config.fromfile(CONFIGS / config)


def load(config: str) -> Config:
    """Read a config by its path below configs/."""
    return copy.deepcopy(_parsed(config))


def load_inherited(config: str, folder: Path) -> Config:
    """Read a config as another project inherits it: through a file elsewhere with `_base_ = 'mmdwnet::...'`."""
    child = folder / 'child.py'
    child.write_text(f"_base_ = 'mmdwnet::{config}'\n")
    return Config.fromfile(child)


def fast_runner(cfg: Config, work_dir: Path) -> Runner:
    """Build the Runner as the stock tools do (model, hooks, visualizer), with uninitialised weights."""
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'test_configs_{next(_counter)}'
    object.__setattr__(cfg, '_format_python_code', False)  # as a logged text it need not be pretty
    with _NoRandomNumbers():
        return Runner.from_cfg(cfg)


def build_training(runner: Runner, iters_per_epoch: int = 100) -> None:
    """Build what `runner.train()` would before its first step, over a stand-in for the training data."""
    cfg = runner.cfg
    runner._train_dataloader = DataLoader(range(iters_per_epoch), batch_size=1)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.param_schedulers = runner.build_param_scheduler(cfg.param_scheduler)


def parameter_decay(runner: Runner) -> dict[str, float]:
    """The weight decay of every parameter by name, as the built optimizer has it."""
    groups = runner.optim_wrapper.optimizer.param_groups
    decay = {id(param): group['weight_decay'] for group in groups for param in group['params']}
    return {name: decay[id(param)] for name, param in runner.model.named_parameters()}
