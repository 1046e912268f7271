"""Loading and building configs for the tests of this folder, as the stock tools do but without data or weights."""

from __future__ import annotations

import copy
import functools
import itertools
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
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
# the nets of tables 2 and 3 of Zhou et al., of figure 2 of Han et al., and NAT
DEIT_SMALL = (
    'softmax_abs identity_abs scaling_abs scaling-relu_abs depthwise_abs softmax_rel scaling_rel scaling-relu_rel '
    'layernorm_rel layernorm_rel_no-cls layernorm-relu_rel_no-cls depthwise_rel'
)
SWIN_TINY = (
    'softmax_rel identity_rel scaling_rel scaling-relu_rel layernorm_rel layernorm-relu_rel depthwise_rel '
    'softmax_abs scaling_abs scaling-relu_abs share-1 share-2 share-4 share-8 share-16 share-48 share-96'
)
KINDS = {
    'deit-small': DEIT_SMALL,
    'deit-base': 'softmax_abs softmax_rel depthwise_rel',
    'swin-tiny': SWIN_TINY,
    'swin-base': 'softmax_rel scaling_rel depthwise_rel',
    'local-mlp-tiny': 'share-1 share-2 share-4 share-8 share-16 share-32 share-48 share-96',
}
NETS = [f'{net}_{kind}' for net, kinds in KINDS.items() for kind in kinds.split()]
ABLATION = {net: f'imagenet/ablation/{net}_16xb64_in1k.py' for net in NETS}
DISTILLED = {'deit-small': 'imagenet/deit-small_distilled_16xb64_in1k.py'}
NAT = {f'nat-{size}': f'imagenet/nat-{size}_16xb64_in1k.py' for size in ('mini', 'tiny', 'small', 'base')}
TREES = (IMAGENET, CASCADE, MASK_1X, MASK_3X, ADE, ZOO, IN22K, IN22K_TO_1K, IN22K_TO_ADE, ABLATION, DISTILLED, NAT)

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


def adamw(cfg: Config) -> dict:
    """The settings of the optimizer."""
    optimizer = dict(cfg.optim_wrapper.optimizer)
    optimizer.pop('_scope_', None)
    return optimizer


def check_augmentation(cfg: Config) -> None:
    """Label mixing and the pipelines of training and test at 224: Swin's, which are the official ones too."""
    augments = [(augment.type, augment.alpha) for augment in cfg.model.train_cfg.augments]
    assert augments == [('Mixup', 0.8), ('CutMix', 1.0)]
    train, test = ({t.type: t for t in cfg[f'{part}_dataloader'].dataset.pipeline} for part in ('train', 'test'))
    crop, erase, augment = train['RandomResizedCrop'], train['RandomErasing'], train['RandAugment']
    assert (crop.scale, crop.backend, crop.interpolation) == (224, 'pillow', 'bicubic')
    assert (train['RandomFlip'].prob, train['RandomFlip'].direction) == (0.5, 'horizontal')
    assert (augment.policies, augment.num_policies, augment.total_level) == ('timm_increasing', 2, 10)
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert (erase.erase_prob, erase.mode, erase.min_area_ratio) == (0.25, 'rand', 0.02)
    assert erase.max_area_ratio == pytest.approx(1 / 3)
    assert (test['ResizeEdge'].scale, test['ResizeEdge'].edge, test['CenterCrop'].crop_size) == (256, 'short', 224)


def lr_curve(config: str, steps: int, work_dir: Path, iters_per_epoch: int = 100) -> list[float]:
    """The lr of each of the first `steps` iterations, by the schedulers that the config builds."""
    runner = fast_runner(load(config), work_dir)
    build_training(runner, iters_per_epoch)
    one_group = torch.optim.AdamW([torch.zeros(1)], lr=runner.cfg.optim_wrapper.optimizer.lr)  # hundreds are slow
    runner.optim_wrapper = OptimWrapper(one_group)
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    lrs = []
    for step in range(1, steps + 1):
        lrs.append(one_group.param_groups[0]['lr'])
        one_group.step()
        for scheduler in runner.param_schedulers:
            if not scheduler.by_epoch or step % iters_per_epoch == 0:
                scheduler.step()
    return lrs
