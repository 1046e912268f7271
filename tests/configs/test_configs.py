"""Every config file: readable, named by the convention, and a model that builds, trains and predicts.

The numbers of the recipes are in test_recipes.py beside this file.
"""

import ast
import math
import re
import subprocess
import sys

import pytest
import torch
from config_tools import (
    ADE,
    BASES,
    CASCADE,
    CONFIGS,
    DWNETS,
    IMAGENET,
    IN22K,
    IN22K_TO_1K,
    IN22K_TO_ADE,
    LEAVES,
    MASK_1X,
    MASK_3X,
    MODELS_22K,
    ROOT,
    TREES,
    ZOO,
    build_training,
    fast_runner,
    load,
    load_inherited,
)
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS

from mmdwnet.engine.nonfinite import NonFiniteGuard

# a distilled net needs its teacher's weights (tests/engine/test_distillation.py); sharing among 1 and 96 channels
# stands for the numbers between
TINY = [leaf for leaf in LEAVES if re.search('-(nano|tiny)_|deit-small_(layernorm|depthwise|scaling)_', leaf)]
TINY = [leaf for leaf in TINY if not re.search('_distilled_|_share-(2|4|8|16|32|48)_', leaf)]
# of the ablations, a config of every kind of net
KINDS = '_(softmax_rel|depthwise_rel|share-1)_'
INHERITED = [leaf for leaf in LEAVES if 'ablation/' not in leaf or re.search(KINDS, leaf)]
DETECTORS = ('MaskRCNN', 'CascadeRCNN', 'ATSS', 'RepPointsDetector', 'SparseRCNN')
CLASSIFIERS = ('ImageClassifier', 'mmdwnet.DistilledClassifier')
TASKS = {'EncoderDecoder': 'seg', **dict.fromkeys(CLASSIFIERS, 'cls'), **dict.fromkeys(DETECTORS, 'det')}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
DEAD_HOST = 'download.openmmlab.com'


def task_of(cfg):
    return TASKS[cfg.model.type]


def side_of(config):
    """Side of a small image that the model takes: mmpretrain's Swin has a fixed size."""
    return 224 if re.match('imagenet(22k)?/swin', config) else 64


def test_the_trees_are_complete():
    """The files of the big trees are exactly the promised ones, and the mini tree keeps to its pattern."""
    promised = {name for tree in TREES for name in tree.values()}
    mini = {leaf for leaf in LEAVES if leaf.startswith('mini/')}
    assert set(LEAVES) - mini == promised
    pattern = r'mini/[a-z-]+-nano(_distilled)?_(cls|mask-rcnn|upernet)_mini\.py'
    assert mini
    assert not [leaf for leaf in mini if not re.fullmatch(pattern, leaf)]


@pytest.mark.parametrize('config', LEAVES)
def test_file_is_short_and_says_how_to_run_it(config):
    text = (CONFIGS / config).read_text()
    assert text.count('\n') < 40
    header = ast.get_docstring(ast.parse(text))
    path = f'configs/{config}'
    assert re.search(rf'tools/(dist_train\.sh|train\.py) {re.escape(path)}', header)
    assert re.search(rf'tools/(dist_test\.sh|test\.py) {re.escape(path)}', header)
    checkpoints = re.findall(r'work_dirs/([^/\s]+)/\w+\.pth', header)
    assert path.split('/')[-1].removesuffix('.py') in checkpoints
    if not config.startswith('mini/'):
        assert 'not run here' in header
        gpus = 16 if '_16xb' in config else 8
        assert ('NNODES=2' in header) == (gpus == 16)
        assert re.search(rf'dist_train\.sh {re.escape(path)} 8$', header, re.MULTILINE)


@pytest.mark.parametrize('config', BASES)
def test_base_file_says_what_it_is(config):
    assert ast.get_docstring(ast.parse((CONFIGS / config).read_text()))


@pytest.mark.parametrize('config', LEAVES)
def test_nothing_points_at_the_dead_download_host(config):
    assert DEAD_HOST not in str(load(config).to_dict())


def test_configs_parse_before_mmdwnet_is_imported():
    """The stock tools parse a config first; mmseg's bases must be found under either distribution's name."""
    files = [str(CONFIGS / tree['dwnet-tiny']) for tree in (ADE, CASCADE, IMAGENET)]
    code = (
        'import sys\n'
        'from mmengine.config import Config\n'
        'assert "mmdwnet" not in sys.modules\n'
        f'print([Config.fromfile(file, import_custom_modules=False).default_scope for file in {files}])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "['mmseg', 'mmdet', 'mmpretrain']", done.stderr


@pytest.mark.parametrize(
    ('config', 'how'), [*((leaf, 'direct') for leaf in LEAVES), *((leaf, 'inherited') for leaf in INHERITED)]
)
def test_builds(config, how, tmp_path, monkeypatch):
    """Model, hooks, optimizer, schedulers, loops, datasets with their transforms, and metrics all build.

    Both from the file itself and from another project's file with `_base_ = 'mmdwnet::...'`, where mmengine
    looks every name of ours up in the scope `mmdwnet` unless the config says otherwise.
    """
    cfg = load(config) if how == 'direct' else load_inherited(config, tmp_path)
    assert cfg.default_scope == {'cls': 'mmpretrain', 'det': 'mmdet', 'seg': 'mmseg'}[task_of(cfg)]
    assert cfg.custom_imports.imports == ['mmdwnet']
    monkeypatch.chdir(tmp_path)
    runner = fast_runner(cfg, tmp_path)
    build_training(runner)
    assert isinstance(runner.optim_wrapper.optimizer, torch.optim.AdamW)
    assert any(isinstance(hook, NonFiniteGuard) for hook in runner.hooks)
    assert runner.param_schedulers
    for name in LOADERS:
        dataset = DATASETS.build(dict(cfg[name].dataset, lazy_init=True))
        assert dataset.pipeline.transforms
    for name in ('val_evaluator', 'test_evaluator'):
        evaluators = cfg[name] if isinstance(cfg[name], list) else [cfg[name]]
        for evaluator in evaluators:
            if 'ann_file' in evaluator:
                evaluator['ann_file'] = None  # the metric would read it now
        assert len(runner.build_evaluator(evaluators).metrics) == len(evaluators)
    if how == 'direct':
        check_channels(runner.model, task_of(cfg), side_of(config))


@torch.no_grad()
def check_channels(model, task, side):
    """Run the neck and heads on the backbone's maps of an image: they refuse other channels than theirs."""
    model.eval()
    feats = model.extract_feat(torch.zeros(1, 3, side, side))
    if task == 'cls':
        assert model.head(feats).shape == (1, model.head.num_classes)
    elif task == 'det':
        strides, channels = levels_of(model)
        sides = [math.ceil(side / stride) for stride in strides]
        assert [tuple(f.shape[1:]) for f in feats] == [(channels, s, s) for s in sides]
    else:
        for head in (model.decode_head, model.auxiliary_head):
            assert head(feats).shape[1] == head.num_classes


def levels_of(model):
    """The strides and the width of the maps that the heads of a detector ask for."""
    head = model.bbox_head if hasattr(model, 'bbox_head') else model.rpn_head
    if hasattr(head, 'prior_generator'):
        return [stride[0] for stride in head.prior_generator.strides], head.in_channels
    extractor = model.roi_head.bbox_roi_extractor[0]  # Sparse R-CNN learns its proposals and has no anchors
    return extractor.featmap_strides, extractor.out_channels


@pytest.mark.parametrize('model', DWNETS)
def test_pretrained_weights_are_those_of_the_imagenet_config(model):
    """The default checkpoint is what the documented ImageNet command leaves, and its names fit the backbone."""
    name = IMAGENET[model].split('/')[-1].removesuffix('.py')
    assert load(IMAGENET[model]).train_cfg.max_epochs == 300
    for tree in (CASCADE, MASK_1X, MASK_3X, ADE):
        init_cfg = load(tree[model]).model.backbone.init_cfg
        expected = dict(type='Pretrained', checkpoint=f'work_dirs/{name}/epoch_300.pth', prefix='backbone.')
        assert init_cfg == expected


@pytest.mark.parametrize('config', [ZOO[name] for name in ZOO if 'dwnet-tiny' in name])
def test_other_detectors_start_from_the_same_weights(config):
    assert load(config).model.backbone.init_cfg == load(CASCADE['dwnet-tiny']).model.backbone.init_cfg


@pytest.mark.parametrize('model', MODELS_22K)
def test_what_starts_from_22k(model):
    """The weights are those that the documented commands leave; on ADE20K nothing else differs."""
    folder = f'work_dirs/{model}_8xb64-accum8_in22k'
    assert load(IN22K[model]).train_cfg.max_epochs == 90
    assert load(IN22K_TO_1K[model]).load_from == f'{folder}/epoch_90_in1k-head.pth'
    header = ast.get_docstring(ast.parse((CONFIGS / IN22K_TO_1K[model]).read_text()))
    command = header.partition('tools/model_converters/remap_head_22k_to_1k.py')[2].replace('\\\n', '').split()
    assert command[:3] == [f'{folder}/epoch_90.pth', 'map22kto1k.txt', f'{folder}/epoch_90_in1k-head.pth']
    cfg, from_1k = load(IN22K_TO_ADE[model]), load(ADE[model])
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    assert '22k' in checkpoint if model == 'swin-base' else checkpoint == f'{folder}/epoch_90.pth'
    from_1k.model.backbone.init_cfg.checkpoint = checkpoint
    assert cfg.to_dict() == from_1k.to_dict()


@pytest.mark.parametrize('config', TINY)
def test_tiny_models_train_and_predict(config):
    """A loss with a gradient for every weight of the backbone, and a prediction, on small random images."""
    cfg = load(config)
    task = task_of(cfg)
    shrink(cfg.model, task)
    model = build_task_model(cfg)
    side = side_of(config)
    batch = BATCHES[task](cfg.model, side)

    model.train()
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    without = [name for name, param in model.backbone.named_parameters() if param.grad is None]
    assert not without

    model.eval()
    with torch.no_grad():
        first = model(**model.data_preprocessor(batch, training=False), mode='predict')[0]
    if task == 'cls':
        assert first.pred_score.shape == (cfg.model.head.num_classes,)
        assert first.pred_score.sum() == pytest.approx(1, abs=1e-4)
    elif task == 'det':
        count = len(first.pred_instances)
        assert first.pred_instances.bboxes.shape == (count, 4)
        assert ('masks' in first.pred_instances) == has_masks(cfg.model)
        if has_masks(cfg.model):
            assert first.pred_instances.masks.shape == (count, side, side)
    else:
        assert first.pred_sem_seg.data.shape == (1, side, side)


def build_task_model(cfg):
    """The model with its own initialisation; pre-trained weights are left out, SyncBN becomes BN."""
    if cfg.model.backbone.get('init_cfg'):
        cfg.model.backbone.init_cfg = None
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.model.setdefault('_scope_', cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return revert_sync_batchnorm(model)


def shrink(model, task):
    """Few proposals and no padding to the crop size; channels and layers stay."""
    if model.type == 'SparseRCNN':
        model.rpn_head.num_proposals = 16
    elif task == 'det' and 'roi_head' in model:
        model.train_cfg.rpn_proposal.update(max_per_img=16)
        stages = model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 8
        model.test_cfg.rpn.max_per_img = 8
    elif task == 'seg':
        model.data_preprocessor.size = (64, 64)


def cls_batch(model, side):
    from mmpretrain.structures import DataSample

    labels = torch.randint(model.head.num_classes, (2,))
    samples = [DataSample().set_gt_label(label.reshape(1)) for label in labels]
    return dict(inputs=list(random_images(side)), data_samples=samples)


def det_batch(model, side):
    from mmdet.testing import demo_mm_inputs

    heads = model.get('roi_head', model).bbox_head
    classes = (heads[0] if isinstance(heads, list) else heads).num_classes
    shapes = [[3, side, side]] * 2
    return demo_mm_inputs(2, shapes, num_items=[2, 3], num_classes=classes, with_mask=has_masks(model))


def has_masks(model):
    return 'mask_head' in model.get('roi_head', {})


def seg_batch(model, side):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(model.decode_head.num_classes, (1, side, side))
        shapes = dict(img_shape=(side, side), ori_shape=(side, side))
        samples.append(SegDataSample(metainfo=shapes, gt_sem_seg=PixelData(data=labels)))
    return dict(inputs=list(random_images(side)), data_samples=samples)


def random_images(side):
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)


BATCHES = dict(cls=cls_batch, det=det_batch, seg=seg_batch)
