"""The published recipes, as numbers, against what the ImageNet, COCO and ADE20K configs build.

Source of the numbers: the scripts and configs of Atten4Vis/DemystifyLocalViT (classification at ce7c0b7, the base
models' batch, lr and precision at 4aa8326, and its mmdet and mmseg parts), and the parameter counts of its models.
Of ImageNet-22K: Swin-B's configs and main.py in microsoft/Swin-Transformer at f82860b. Of the other detectors:
section 4.2 and table 2(a) of the Swin paper, and mmdetection's own config of Sparse R-CNN.
"""

import math

import pytest
import torch
from config_tools import (
    ADE,
    CASCADE,
    DETECTORS,
    DWNETS,
    IMAGENET,
    IN22K,
    IN22K_TO_1K,
    IN22K_TO_ADE,
    MASK_1X,
    MASK_3X,
    MODELS,
    MODELS_22K,
    ZOO,
    adamw,
    build_training,
    check_augmentation,
    fast_runner,
    load,
    lr_curve,
    parameter_decay,
)
from mmengine.registry import DATASETS

# model: images per GPU, accumulated batches, AMP, drop path
IMAGENET_RECIPE = {
    'dwnet-tiny': (128, 1, True, 0.2),
    'dynamic-dwnet-tiny': (128, 1, True, 0.2),
    'idynamic-dwnet-tiny': (64, 2, False, 0.2),
    'dwnet-base': (64, 1, False, 0.5),
    'dynamic-dwnet-base': (64, 1, False, 0.5),
    'idynamic-dwnet-base': (64, 1, False, 0.5),
    'swin-tiny': (64, 1, False, 0.2),
    'swin-base': (64, 1, False, 0.5),
}
# epochs, accumulated batches of 8 x 64, weight decay; base lr, warm-up lr and min lr for a batch of 512; classes
RECIPE_22K = {
    'in22k': (IN22K, 90, 8, 0.05, (1.25e-4, 1.25e-7, 1.25e-6), 21841),
    'in22k-to-1k': (IN22K_TO_1K, 30, 2, 1e-8, (2e-5, 2e-8, 2e-7), 1000),
}
COCO_DROP_PATH = {'tiny': 0.2, 'base': 0.3}
EXEMPT_KEYS = ('absolute_pos_embed', 'relative_position_bias_table', 'norm')
# millions, to the digits known; columns without a source are left out
PARAMETERS = {
    'dwnet-tiny': {'imagenet': '24.172744', 'cascade': '81.51', 'mask': '43.68', 'ade': '55.83'},
    'dynamic-dwnet-tiny': {'imagenet': '51.131752', 'cascade': '108.47', 'mask': '70.64', 'ade': '82.79'},
    'idynamic-dwnet-tiny': {'imagenet': '26.244280', 'cascade': '83.59', 'ade': '57.90'},
    'dwnet-base': {'imagenet': '74.347112', 'cascade': '131.56', 'mask': '93.72', 'ade': '107.86'},
    'dynamic-dwnet-base': {'imagenet': '161.597928', 'cascade': '218.81', 'mask': '180.97', 'ade': '195.11'},
    'idynamic-dwnet-base': {'imagenet': '80.253608', 'cascade': '137.46', 'ade': '113.77'},
    'swin-tiny': {'imagenet': '28', 'cascade': '86', 'mask': '48', 'ade': '60'},
    'swin-base': {'imagenet': '88', 'cascade': '145', 'ade': '121'},
}
TREES = {'imagenet': IMAGENET, 'cascade': CASCADE, 'mask': MASK_1X, 'ade': ADE}
COUNTS = [(TREES[tree][model], count) for model, row in PARAMETERS.items() for tree, count in row.items()]
COUNTS += [(IN22K_TO_1K[model], PARAMETERS[model]['imagenet']) for model in MODELS_22K]
COUNTS += [(IN22K_TO_ADE[model], PARAMETERS[model]['ade']) for model in MODELS_22K]
COUNTS += [(ZOO['atss_swin-tiny'], '36'), (ZOO['sparse-rcnn_swin-tiny'], '110')]
COCO = [(tree, model) for tree in (CASCADE, MASK_1X, MASK_3X) for model in MODELS]
COCO_IDS = [tree[model] for tree, model in COCO]


@pytest.mark.parametrize('model', MODELS)
def test_imagenet_recipe(model):
    batch, accumulation, amp, drop_path = IMAGENET_RECIPE[model]
    cfg = load(IMAGENET[model])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_dataloader.num_workers == 8
    assert cfg.train_dataloader.drop_last
    gpus = int(IMAGENET[model].split('xb')[0].rsplit('_', 1)[1])
    assert gpus * batch * accumulation == 1024
    wrapper = cfg.optim_wrapper
    assert wrapper.type == ('mmdwnet.AmpOptimWrapper' if amp else 'OptimWrapper')
    assert wrapper.get('accumulative_counts', 1) == accumulation
    assert wrapper.clip_grad == dict(max_norm=5.0)
    assert adamw(cfg) == dict(type='AdamW', lr=1e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999))
    # mmengine compares GPUs x batch with this one, and leaves the accumulation out
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=gpus * batch)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    check_augmentation(cfg)
    assert cfg.train_cfg.max_epochs == 300
    assert (cfg.randomness.seed, cfg.randomness.diff_rank_seed) == (0, True)
    assert cfg.env_cfg.cudnn_benchmark
    assert {cfg[f'{part}_dataloader'].dataset.data_root for part in ('train', 'val', 'test')} == {cfg.data_root}
    assert cfg.data_root == 'data/imagenet'


def masked_cosine(step, epochs, warmup, lrs, epoch=100):
    """timm's CosineLRScheduler as the official code sets it: the warm-up masks a cosine over all epochs."""
    lr, start, end = lrs
    if step < warmup * epoch:
        return start + step * (lr - start) / (warmup * epoch)
    return end + 0.5 * (lr - end) * (1 + math.cos(math.pi * step / (epochs * epoch)))


def test_imagenet_schedule_is_the_official_curve(tmp_path):
    """Every iteration of 300 epochs of 100, by mmengine's schedulers: within 0.05 % after the warm-up."""
    schedules = [load(IMAGENET[model]).param_scheduler for model in MODELS]
    assert all(schedule == schedules[0] for schedule in schedules)
    lrs = lr_curve(IMAGENET['dwnet-tiny'], 30000, tmp_path)
    expected = [masked_cosine(step, 300, 20, (1e-3, 1e-6, 1e-5)) for step in range(30000)]
    off = [lr / want - 1 for lr, want in zip(lrs, expected, strict=True)]
    assert max(abs(o) for o in off[2000:]) < 5e-4
    assert lrs[2000] == pytest.approx(0.98918e-3, rel=5e-4)  # not 1e-3
    assert min(off[:2000]) > -0.011
    assert max(off[:2000]) < 0.001
    assert sum(lrs) == pytest.approx(sum(expected), rel=5e-4)


@pytest.mark.parametrize('model', MODELS)
def test_imagenet_decay_exempts_vectors_and_biases(model, tmp_path):
    runner = fast_runner(load(IMAGENET[model]), tmp_path)
    build_training(runner)
    decay = parameter_decay(runner)
    for name, param in runner.model.named_parameters():
        exempt = param.ndim == 1 or name.endswith(('.bias', 'relative_position_bias_table'))
        assert decay[name] == (0 if exempt else 0.05), name
    if model.endswith('dwnet-tiny'):
        exempt = sum(value == 0 for value in decay.values())
        expected = (144, 65) if model == 'dwnet-tiny' else (180, 77)
        assert (exempt, len(decay) - exempt) == expected


@pytest.mark.parametrize('model', MODELS_22K)
@pytest.mark.parametrize('stage', RECIPE_22K)
def test_22k_recipe(stage, model):
    tree, epochs, accumulation, decay, (base_lr, _, _), classes = RECIPE_22K[stage]
    cfg = load(tree[model])
    batch = 8 * 64 * accumulation
    assert batch == {'in22k': 4096, 'in22k-to-1k': 1024}[stage]
    assert tree[model].endswith(f'_8xb64-accum{accumulation}_{"in22k" if classes == 21841 else "in1k"}.py')
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last) == (64, True)
    wrapper = cfg.optim_wrapper
    assert (wrapper.type, wrapper.accumulative_counts) == ('mmdwnet.AmpOptimWrapper', accumulation)
    assert wrapper.clip_grad == dict(max_norm=5.0)
    lr = pytest.approx(base_lr * batch / 512)
    assert adamw(cfg) == dict(type='AdamW', lr=lr, weight_decay=decay, eps=1e-8, betas=(0.9, 0.999))
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=512)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.model.backbone.drop_path_rate == 0.2
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == classes
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    check_augmentation(cfg)
    datasets = [cfg[f'{part}_dataloader'].dataset for part in ('train', 'val', 'test')]
    assert [dataset.data_root for dataset in datasets] == [cfg.data_root] * 3
    key = 'split' if classes == 1000 else 'data_prefix'
    assert [dataset[key] for dataset in datasets] == ['train', 'val', 'val']
    assert cfg.data_root == ('data/imagenet' if classes == 1000 else 'data/imagenet22k')


@pytest.mark.parametrize('ann_file', ['', 'meta/train.txt'], ids=['folders', 'list'])
def test_22k_data_is_class_folders_or_a_list(ann_file, tmp_path):
    """Classes are numbered in alphabetical order of their folders, or as a list numbers them."""
    for image in ('n02/b.JPEG', 'n01/a.JPEG'):
        (tmp_path / 'train' / image).parent.mkdir(parents=True)
        (tmp_path / 'train' / image).touch()
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('n02/b.JPEG 359\nn01/a.JPEG 7\n')
    cfg = load(IN22K['dwnet-base']).train_dataloader.dataset
    found = DATASETS.build(dict(cfg, data_root=str(tmp_path), ann_file=ann_file)).load_data_list()
    labels = {info['img_path'].removeprefix(f'{tmp_path}/train/'): info['gt_label'] for info in found}
    assert labels == ({'n01/a.JPEG': 7, 'n02/b.JPEG': 359} if ann_file else {'n01/a.JPEG': 0, 'n02/b.JPEG': 1})


@pytest.mark.parametrize('stage', RECIPE_22K)
def test_22k_schedule_is_the_curve_of_the_recipe(stage, tmp_path):
    """A cosine over all epochs, masked by a warm-up of 5: within 0.1 % after it, in epochs of 100 iterations.

    In the warm-up, the product of the two is below the mask by as much as the cosine has fallen.
    """
    tree, epochs, accumulation, _, lrs, _ = RECIPE_22K[stage]
    schedules = [load(tree[model]).param_scheduler for model in MODELS_22K]
    assert all(schedule == schedules[0] for schedule in schedules)
    effective = [lr * 8 * 64 * accumulation / 512 for lr in lrs]
    assert effective == pytest.approx({'in22k': (1e-3, 1e-6, 1e-5), 'in22k-to-1k': (4e-5, 4e-8, 4e-7)}[stage])
    measured = lr_curve(tree['dwnet-base'], epochs * 100, tmp_path)
    expected = [masked_cosine(step, epochs, 5, effective) for step in range(epochs * 100)]
    off = [lr / want - 1 for lr, want in zip(measured, expected, strict=True)]
    assert max(abs(o) for o in off[500:]) < 1e-3
    fallen = masked_cosine(500, epochs, 5, effective) / effective[0] - 1
    assert fallen < min(off[:500]) < fallen + 0.003
    assert max(off[:500]) < 0.003


@pytest.mark.parametrize('stage', RECIPE_22K)
def test_22k_decay_and_size(stage, tmp_path):
    """Vectors and biases are exempt; the model is that of ImageNet-1K with as many rows in its head as classes."""
    tree, _, _, full, _, classes = RECIPE_22K[stage]
    runner = fast_runner(load(tree['dwnet-base']), tmp_path)
    build_training(runner)
    decay = parameter_decay(runner)
    for name, param in runner.model.named_parameters():
        assert decay[name] == (0 if param.ndim == 1 or name.endswith('.bias') else full), name
    count = sum(param.numel() for param in runner.model.parameters())
    assert count == 74347112 + (classes - 1000) * (1024 + 1)


@pytest.mark.parametrize(('tree', 'model'), COCO, ids=COCO_IDS)
def test_coco_recipe(tree, model):
    cfg = load(tree[model])
    check_coco_optimizer(cfg)
    backbone = cfg.model.backbone
    assert backbone.drop_path_rate == COCO_DROP_PATH[model.rsplit('-', 1)[1]]
    if model in DWNETS:
        check_pyramid(backbone)
    epochs, milestones = (12, [8, 11]) if tree is MASK_1X else (36, [27, 33])
    check_coco_steps(cfg, epochs, milestones)
    kinds = [transform.type for transform in cfg.train_dataloader.dataset.pipeline]
    assert ('RandomChoice' in kinds, 'Resize' in kinds) == (tree is not MASK_1X, tree is MASK_1X)


def check_coco_optimizer(cfg):
    assert cfg.optim_wrapper.type == 'mmdwnet.AmpOptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper
    assert adamw(cfg) == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert keys == {key: dict(decay_mult=0.0) for key in EXEMPT_KEYS}


def check_coco_steps(cfg, epochs, milestones):
    """The schedule, and what data and batch all COCO configs have."""
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)
    assert cfg.train_cfg.max_epochs == epochs
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.begin, warmup.end) == ('LinearLR', 0.001, 0, 500)
    assert not warmup.by_epoch
    assert (steps.type, list(steps.milestones), steps.gamma) == ('MultiStepLR', milestones, 0.1)
    assert (steps.begin, steps.end, steps.by_epoch) == (0, epochs, True)
    assert cfg.model.data_preprocessor.pad_size_divisor == 32
    assert cfg.data_root == 'data/coco/'
    assert (cfg.randomness.seed, cfg.randomness.diff_rank_seed) == (0, True)
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 3


@pytest.mark.parametrize('backbone', ['dwnet-tiny', 'swin-tiny'])
@pytest.mark.parametrize('detector', DETECTORS)
def test_other_detectors_recipe(detector, backbone):
    """ATSS and RepPoints under the settings of the Cascade rows, Sparse R-CNN with mmdetection's own optimizer."""
    cfg = load(ZOO[f'{detector}_{backbone}'])
    check_coco_steps(cfg, 36, [27, 33])
    if detector == 'sparse-rcnn':
        assert adamw(cfg) == dict(type='AdamW', lr=2.5e-5, weight_decay=1e-4)
        assert (cfg.optim_wrapper.type, cfg.optim_wrapper.clip_grad.max_norm) == ('OptimWrapper', 1)
        assert (cfg.model.rpn_head.num_proposals, len(cfg.model.roi_head.bbox_head)) == (300, 6)
    else:
        check_coco_optimizer(cfg)
    outputs = (0, 1, 2, 3) if detector == 'sparse-rcnn' else (1, 2, 3)
    assert tuple(cfg.model.backbone.get('out_indices', (0, 1, 2, 3))) == outputs
    assert cfg.model.neck.start_level == 0
    assert cfg.model.backbone.drop_path_rate == 0.2
    if backbone == 'dwnet-tiny':
        check_pyramid(cfg.model.backbone, outputs)
    # of the sibling with the other backbone, all the rest is the same
    other = load(ZOO[f'{detector}_{"swin-tiny" if backbone == "dwnet-tiny" else "dwnet-tiny"}'])
    cfg.model.backbone = other.model.backbone = None
    assert cfg.to_dict() == other.to_dict()


@pytest.mark.parametrize('config', [CASCADE['dwnet-tiny'], *ZOO.values()])
def test_coco_multi_scale_crops(config):
    """Flip, then a resize to one of 11 sides, or a crop between two resizes."""
    pipeline = load(config).train_dataloader.dataset.pipeline
    kinds = ['LoadImageFromFile', 'LoadAnnotations', 'RandomFlip', 'RandomChoice', 'PackDetInputs']
    assert [transform.type for transform in pipeline] == kinds
    assert pipeline[1].with_bbox
    assert pipeline[1].get('with_mask', False) == ('mask' in config)
    choice = pipeline[3]
    (plain,), (before, crop, after) = choice.transforms
    sides = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert [tuple(scale) for scale in plain.scales] == [(side, 1333) for side in sides]
    assert [tuple(scale) for scale in before.scales] == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, tuple(crop.crop_size)) == ('absolute_range', (384, 600))
    assert crop.allow_negative_crop
    assert after == plain
    assert all(transform.keep_ratio for transform in (plain, before))


@pytest.mark.parametrize('model', MODELS)
def test_cascade_heads(model):
    heads = load(CASCADE[model]).model.roi_head.bbox_head
    stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    assert [list(head.bbox_coder.target_stds) for head in heads] == stds
    for head in heads:
        assert (head.type, head.num_shared_convs, head.num_shared_fcs) == ('ConvFCBBoxHead', 4, 1)
        assert head.norm_cfg.type == 'SyncBN'
        assert head.reg_decoded_bbox
        assert not head.reg_class_agnostic
        assert head.loss_bbox == dict(type='GIoULoss', loss_weight=10.0)


@pytest.mark.parametrize('model', MODELS)
def test_ade20k_recipe(model):
    cfg = load(ADE[model])
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert adamw(cfg) == dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01)
    keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert keys == {key: dict(decay_mult=0.0) for key in EXEMPT_KEYS}
    assert cfg.model.backbone.drop_path_rate == 0.3
    if model in DWNETS:
        check_pyramid(cfg.model.backbone)
    assert cfg.model.test_cfg.mode == 'whole'
    assert cfg.model.data_preprocessor.size == cfg.data_preprocessor.size == (512, 512)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert (head.num_classes, head.norm_cfg.type) == (150, 'SyncBN')
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (160000, 16000)
    assert cfg.default_hooks.checkpoint.interval == 16000
    assert cfg.env_cfg.cudnn_benchmark
    assert cfg.data_root == 'data/ade/ADEChallengeData2016'


def check_pyramid(backbone, outputs=(0, 1, 2, 3)):
    """What the released detection and segmentation backbones have in common."""
    assert backbone.type == 'mmdwnet.DWNet'
    assert backbone.out_indices == outputs
    assert backbone.norm_cfg == backbone.out_norm_cfg == dict(type='SyncBN')
    assert backbone.window_padding
    assert not backbone.get('norm_eval')
    assert backbone.get('frozen_stages', -1) == -1


def test_ade20k_schedule_is_the_official_curve(tmp_path):
    """mmcv 1.x: a poly decay to 0 from iteration 0, times a linear warm-up over 1500 from 1e-6; within 0.1 %."""
    schedules = [load(ADE[model]).param_scheduler for model in MODELS]
    assert all(schedule == schedules[0] for schedule in schedules)
    lrs = lr_curve(ADE['dwnet-tiny'], 4000, tmp_path)
    for step in range(1, 4000):
        factor = 1 - (1 - step / 1500) * (1 - 1e-6) if step < 1500 else 1
        assert lrs[step] == pytest.approx(6e-5 * (1 - step / 160000) * factor, rel=1e-3), step


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('tree', [CASCADE, MASK_1X, ADE], ids=['cascade', 'mask', 'upernet'])
def test_downstream_decay_exempts_names_with_norm(tree, model, tmp_path):
    """In DWNet 16 tensors: LayerNorms and output norms; the BNs of the blocks and all other biases decay."""
    runner = fast_runner(load(tree[model]), tmp_path)
    build_training(runner)
    decay = parameter_decay(runner)
    full = 0.01 if tree is ADE else 0.05
    exempt = {name for name, value in decay.items() if value == 0}
    assert set(decay.values()) == {0, full}
    assert exempt == {name for name in decay if any(key in name for key in EXEMPT_KEYS)}
    if model in DWNETS:
        backbone = runner.model.backbone
        assert len(exempt) == 16
        assert all(name.startswith('backbone.') for name in exempt)
        norms = [backbone.patch_embed, *(stage.downsample for stage in backbone.stages)]
        norms = [norm for part in norms for norm in part.modules() if isinstance(norm, torch.nn.LayerNorm)]
        norms += [backbone.get_submodule(name) for name in backbone.out_norm_names.values()]
        decay_of = {id(param): decay[name] for name, param in runner.model.named_parameters()}
        assert {decay_of[id(param)] for norm in norms for param in norm.parameters()} == {0}
        assert sum(len(list(norm.parameters())) for norm in norms) == 16


@pytest.mark.parametrize(('config', 'millions'), COUNTS, ids=[config for config, _ in COUNTS])
def test_parameter_counts(config, millions, tmp_path):
    runner = fast_runner(load(config), tmp_path)
    count = sum(param.numel() for param in runner.model.parameters()) / 1e6
    assert f'{count:.{len(millions.partition(".")[2])}f}' == millions


@pytest.mark.parametrize('tree', [CASCADE, ADE], ids=['cascade', 'upernet'])
@pytest.mark.parametrize('model', DWNETS)
def test_imagenet_weights_fit_the_downstream_backbone(model, tree, tmp_path):
    """Names and shapes are those of the classifier's backbone; only the norms of the outputs differ."""

    def shapes(config, folder):
        backbone = fast_runner(load(config), tmp_path / folder).model.backbone
        norms = tuple(backbone.out_norm_names.values())
        state = backbone.state_dict().items()
        return {name: value.shape for name, value in state if not name.startswith(norms)}

    assert shapes(tree[model], 'downstream') == shapes(IMAGENET[model], 'imagenet')
