"""The ablations and NAT: each net is what its file name says, and trains by its paper's recipe.

Source of the numbers: table 4 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions"; DeiT's decay of the weight average (0.99996); classification/configs at c061005 of
SHI-Labs/Neighborhood-Attention-Transformer.
"""

import collections

import pytest
from config_tools import (
    ABLATION,
    DISTILLED,
    IMAGENET,
    NAT,
    adamw,
    build_training,
    check_augmentation,
    fast_runner,
    load,
    lr_curve,
    parameter_decay,
)
from mmengine.registry import DATA_SAMPLERS, MODELS

from mmdwnet.analysis.complexity import without_weights
from mmdwnet.mixers import (
    DepthwiseGlobalAttention,
    DepthwiseWindowAttention,
    GlobalAttention,
    LocalMlp,
    WindowAttention,
)

CLASSES = {
    'deit': {'attention': GlobalAttention, 'depthwise': DepthwiseGlobalAttention},
    'swin': {'attention': WindowAttention, 'depthwise': DepthwiseWindowAttention},
}
WIDTHS = {'deit-small': 384, 'deit-base': 768, 'swin-tiny': 768, 'swin-base': 1024, 'local-mlp-tiny': 768}
DROP_PATH = {'deit-small': 0.1, 'deit-base': 0.1, 'swin-tiny': 0.2, 'swin-base': 0.5, 'local-mlp-tiny': 0.2}
NAT_DROP_PATH = {'nat-mini': 0.2, 'nat-tiny': 0.2, 'nat-small': 0.3, 'nat-base': 0.5}
# one of each kind of parameter
KINDS = ['deit-small_softmax_abs', 'deit-small_scaling_rel', 'swin-tiny_depthwise_rel', 'swin-tiny_softmax_abs']
EXEMPT = ('relative_position_bias_table', 'rpb', 'absolute_pos_embed', 'pos_embed', 'cls_token', 'dist_token')


def backbone_of(config):
    with without_weights():
        return MODELS.build(load(config).model.backbone)


def blocks_of(backbone):
    """The blocks stage by stage; of an isotropic net, all as one stage."""
    return [stage.blocks for stage in backbone.stages] if hasattr(backbone, 'stages') else [backbone.blocks]


@pytest.mark.parametrize('net', [net for net in ABLATION if 'share' not in net])
def test_net_is_what_its_name_says(net):
    size, activation, position, *rest = net.split('_')
    family = size.split('-')[0]
    backbone = backbone_of(ABLATION[net])
    kind = CLASSES[family]['depthwise' if activation == 'depthwise' else 'attention']
    for stage in blocks_of(backbone):
        for index, block in enumerate(stage):
            assert type(block.mixer) is kind
            assert (block.mixer.position is not None) == (position == 'rel')
            assert getattr(block.mixer, 'activation', 'depthwise') == activation
            assert getattr(block.mixer, 'shift', False) == (family == 'swin' and index % 2 == 1)
    absolute = backbone.pos_embed if family == 'deit' else backbone.absolute_pos_embed
    assert (absolute is not None) == (position == 'abs')
    if family == 'deit':
        assert (backbone.cls_token is None) == (rest == ['no-cls'])
        assert load(ABLATION[net]).model.neck == (dict(type='GlobalAveragePooling') if rest else None)


@pytest.mark.parametrize('net', [net for net in ABLATION if 'share' in net])
def test_channels_share_weights_as_the_name_says(net):
    size, _, share = net.replace('_', '-').rpartition('-')
    for i, stage in enumerate(blocks_of(backbone_of(ABLATION[net]))):
        for j, block in enumerate(stage):
            mixer, local = block.mixer, size.startswith('local-mlp')
            assert type(mixer) is (LocalMlp if local else WindowAttention)
            assert mixer.shift == (j % 2 == 1)
            assert 96 * 2**i // (mixer.groups if local else mixer.heads) == int(share)


@pytest.mark.parametrize('net', ABLATION)
def test_ablation_recipe(net):
    size = net.split('_')[0]
    cfg = load(ABLATION[net])
    check_common(cfg)
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[size]
    assert cfg.model.head.in_channels == WIDTHS[size]
    deit = size.startswith('deit')
    assert cfg.train_dataloader.sampler.type == ('mmpretrain.RepeatAugSampler' if deit else 'DefaultSampler')
    guard, *others = cfg.custom_hooks
    assert guard.type == 'mmdwnet.NonFiniteGuard'
    assert others == [dict(type='mmpretrain.EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')] * deit
    assert cfg.param_scheduler == load(IMAGENET['swin-tiny']).param_scheduler  # test_recipes.py has its curve


def check_common(cfg):
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last) == (64, True)
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=1024)
    assert cfg.optim_wrapper.type == 'mmdwnet.AmpOptimWrapper'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert adamw(cfg) == dict(type='AdamW', lr=1e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999))
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    check_augmentation(cfg)


@pytest.mark.parametrize('net', NAT)
def test_nat_recipe(net):
    cfg = load(NAT[net])
    check_common(cfg)
    assert cfg.train_cfg.max_epochs == 310
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == (net, NAT_DROP_PATH[net])
    assert cfg.train_dataloader.sampler.type == 'DefaultSampler'
    assert len(cfg.custom_hooks) == 1
    assert cfg.param_scheduler == load(NAT['nat-mini']).param_scheduler


def test_nat_ends_with_ten_epochs_at_the_lowest_rate(tmp_path):
    lrs = lr_curve(NAT['nat-mini'], 3100, tmp_path, iters_per_epoch=10)
    assert max(lrs) == pytest.approx(1e-3, rel=0.011)  # the cosine has fallen by 1.1 % when the warm-up ends
    assert lrs.index(max(lrs)) in (199, 200)
    assert lrs[0] == pytest.approx(1e-6)
    assert lrs[1500] == pytest.approx((1e-3 + 5e-6) / 2, rel=1e-2)
    assert lrs[3000:] == pytest.approx([5e-6] * 100, rel=1e-3)


@pytest.mark.parametrize('config', [*(ABLATION[net] for net in KINDS), NAT['nat-small'], DISTILLED['deit-small']])
def test_vectors_tokens_and_positions_do_not_decay(config, tmp_path):
    runner = fast_runner(load(config), tmp_path)
    build_training(runner)
    decay = parameter_decay(runner)
    for name, param in runner.model.named_parameters():
        exempt = param.ndim == 1 or name.endswith(EXEMPT)
        assert decay[name] == (0 if exempt else 0.05), name
    assert any(name.endswith(EXEMPT) for name in decay)


def test_repeated_augmentation_is_three_of_every_third_image():
    sampler = load(ABLATION['deit-small_softmax_abs']).train_dataloader.sampler
    indices = list(DATA_SAMPLERS.build(sampler, default_args=dict(dataset=range(12), seed=0)))
    assert len(indices) == 12
    assert list(collections.Counter(indices).values()) == [3] * 4
