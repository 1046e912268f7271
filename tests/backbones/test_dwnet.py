"""What every arch with every mixer must do; then what the arguments of DWNet mean."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdwnet import DWNet
from mmdwnet.backbones.archs import PYRAMID_ARCHS
from mmdwnet.backbones.layers import PatchMerging
from mmdwnet.mixers import DepthwiseConv

MIXERS = ['DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv']
ALL = [(arch, mixer) for arch in ('nano', 'tiny', 'base') for mixer in MIXERS]
every_net = pytest.mark.parametrize(('arch', 'mixer'), ALL)

# with a 1000-class head: Han et al., Table 1 rounds to these; counted on the authors' modules (recipes, 5.3)
PARAMETERS = {
    ('tiny', 'DepthwiseConv'): 24_172_744,
    ('tiny', 'DynamicDepthwiseConv'): 51_131_752,
    ('tiny', 'InhomogeneousDynamicDepthwiseConv'): 26_244_280,
    ('base', 'DepthwiseConv'): 74_347_112,
    ('base', 'DynamicDepthwiseConv'): 161_597_928,
    ('base', 'InhomogeneousDynamicDepthwiseConv'): 80_253_608,
}


def downstream(arch='nano', mixer='DepthwiseConv', **kwargs):
    return DWNet(arch, mixer, out_indices=(0, 1, 2, 3), out_norm_cfg=dict(type='BN'), **kwargs)


def images(batch=2, height=61, width=45, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def bn_statistics(net):
    return {k: v.clone() for k, v in net.state_dict().items() if 'running' in k or 'num_batches' in k}


@pytest.mark.parametrize(('arch', 'mixer'), PARAMETERS)
def test_parameter_counts_with_a_1000_class_head(arch, mixer):
    net = nn.Sequential(DWNet(arch, mixer), nn.Linear(PYRAMID_ARCHS[arch].embed_dims * 8, 1000))
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[arch, mixer]


@every_net
def test_pyramid_of_an_odd_size_and_a_gradient_everywhere(arch, mixer):
    net = downstream(arch, mixer)
    outs = net(images())
    # 61 x 45 -> 16 x 12 patches, then halved and rounded up
    sides = [(16, 12), (8, 6), (4, 3), (2, 2)]
    channels = [PYRAMID_ARCHS[arch].embed_dims * 2**i for i in range(4)]
    assert [tuple(out.shape) for out in outs] == [(2, c, *s) for c, s in zip(channels, sides, strict=True)]
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(('arch', 'mixer'), [net for net in ALL if net[0] != 'base'])  # base: tiny but slower
def test_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(arch, mixer):
    plain = downstream(arch, mixer).double().train()
    checkpointed = downstream(arch, mixer, with_cp=True).double().train()
    checkpointed.load_state_dict(plain.state_dict())
    x = images().double()
    for net in (plain, checkpointed):
        sum(out.square().mean() for out in net(x)).backward()
    for (name, p), q in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, name=name: f'{name}: {m}')
    moved = bn_statistics(checkpointed)
    assert any(v.abs().sum() > 0 for k, v in moved.items() if k.endswith('running_mean'))
    for name, value in bn_statistics(plain).items():
        torch.testing.assert_close(moved[name], value, msg=lambda m, name=name: f'{name}: {m}')


@every_net
def test_state_dict_round_trip(arch, mixer, tmp_path):
    net = DWNet(arch, mixer).eval()
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    other = DWNet(arch, mixer).eval()
    other.load_state_dict(torch.load(tmp_path / 'net.pth', weights_only=True))
    with torch.no_grad():
        assert torch.equal(net(images())[0], other(images())[0])


@pytest.mark.parametrize('mixer', MIXERS)
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_freezing(mixer, frozen_stages):
    net = downstream(mixer=mixer, frozen_stages=frozen_stages)
    before = bn_statistics(net)
    assert net.train() is net
    net(images())
    for i, part in enumerate([net.patch_embed, *net.stages]):
        frozen = i <= frozen_stages
        assert all(p.requires_grad != frozen for p in part.parameters())
        assert all(m.training != frozen for m in part.modules() if isinstance(m, _BatchNorm))
    after = bn_statistics(net)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {n for n in before if n.startswith('stages') and int(n.split('.')[1]) < frozen_stages}


@pytest.mark.parametrize('size', [(224, 224), (1, 1), (5, 130), (32, 33)])
def test_any_size(size):
    outs = downstream(norm_cfg=dict(type='GN', num_groups=1)).eval()(images(1, *size))
    strides = [tuple(-(-s // stride) for s in size) for stride in (4, 8, 16, 32)]
    assert [tuple(out.shape[2:]) for out in outs] == strides


def test_outputs_are_what_mmcv_ops_read():
    """mmcv's ops take memory for contiguous: on a channels_last map RoIAlign returns garbage, silently."""
    ops = pytest.importorskip('mmcv.ops', reason='mmcv was built without ops')
    boxes = torch.tensor([[0, 0.0, 0.0, 40.0, 30.0], [1, 8.0, 4.0, 45.0, 61.0]])
    for out, stride in zip(downstream().eval()(images()), (4, 8, 16, 32), strict=True):
        pooled = ops.RoIAlign(7, 1 / stride)(out, boxes)
        torch.testing.assert_close(
            pooled, ops.RoIAlign(7, 1 / stride)(out.clone(memory_format=torch.contiguous_format), boxes)
        )
        assert out.is_contiguous()


@pytest.mark.parametrize('size', [(6, 4), (5, 7), (1, 3)])
def test_patch_merging_and_its_gradients_are_those_of_four_slices(size):
    """Neighbours in Swin's order, (row, column): (0, 0), (1, 0), (0, 1), (1, 1); zeros where a side is odd."""
    merging = PatchMerging(6).double()
    x = images(2, *size).double()[:, [0, 1, 2, 2, 1, 0]].requires_grad_()
    even = nn.functional.pad(x, (0, size[1] % 2, 0, size[0] % 2)).permute(0, 2, 3, 1)  # (B, H, W, C)
    slices = [even[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    expected = merging.reduction(merging.norm(torch.cat(slices, -1))).permute(0, 3, 1, 2)
    out = merging(x)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    of = (x, *merging.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(out, of, cotangent), torch.autograd.grad(expected, of, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_inside_maps_are_channels_last():
    seen = []
    net = downstream().eval()
    for stage in net.stages:
        stage.blocks[-1].register_forward_hook(lambda module, inputs, out: seen.append(out))
    net(images())
    assert len(seen) == 4 and all(out.is_contiguous(memory_format=torch.channels_last) for out in seen)


def test_modes_return_the_net():
    net = DWNet('nano')
    assert net.eval() is net and not net.training
    assert net.train() is net and net.training


def test_norm_eval_keeps_bn_still():
    net = downstream(norm_eval=True).train()
    before = bn_statistics(net)
    net(images())
    after = bn_statistics(net)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert net.training


def test_out_indices_count_from_the_end_and_keep_the_callers_list():
    asked = [-3, -1]
    net = DWNet('nano', out_indices=asked)
    assert asked == [-3, -1] and net.out_indices == (1, 3)
    assert [out.shape[1] for out in net(images())] == [64, 256]
    assert DWNet('nano', out_indices=2).out_indices == (2,)


def test_no_output_norm():
    net = DWNet('nano', out_norm_cfg=None)
    assert not [name for name in net.state_dict() if name.startswith('norm')]
    assert net(images())[0].shape == (2, 256, 2, 2)


def test_an_arch_of_ones_own():
    net = DWNet(dict(embed_dims=16, depths=[1, 2]), dict(type='DepthwiseConv', kernel_size=3), out_indices=(0, 1))
    assert [tuple(out.shape) for out in net(images())] == [(2, 16, 16, 12), (2, 32, 8, 6)]
    assert net.stages[1].blocks[1].mixer.kernel_size == 3


@pytest.mark.parametrize(
    'norm_cfg', [dict(type='SyncBN'), dict(type='GN', num_groups=2), dict(type='BN', eps=1e-3)]
)
def test_norms_are_what_was_asked_for_and_train(norm_cfg):
    net = downstream(mixer='DynamicDepthwiseConv', norm_cfg=norm_cfg).train()
    sum((out * torch.randn_like(out)).sum() for out in net(images())).backward()
    norm = net.stages[0].blocks[0].mixer.bn_in
    assert norm.weight.grad.abs().sum() > 0
    if norm_cfg['type'] == 'GN':
        assert isinstance(norm, nn.GroupNorm) and norm.num_groups == 2
    else:
        assert isinstance(norm, _BatchNorm) and norm.eps == norm_cfg.get('eps', 1e-5)
        assert net.state_dict().keys() == downstream(mixer='DynamicDepthwiseConv').state_dict().keys()


def test_drop_path_rises_linearly_and_is_off_in_eval_mode():
    net = DWNet('tiny', drop_path_rate=0.2)
    rates = [block.drop_path.drop_prob for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])
    net.eval()
    with torch.no_grad():
        assert torch.equal(net(images())[0], net(images())[0])


def test_drop_path_drops_whole_samples():
    torch.manual_seed(0)
    net = DWNet('nano', drop_path_rate=0.9)
    block = net.stages[3].blocks[0].train()
    x = images(64).new_ones(64, 256, 2, 2) * torch.randn(64, 1, 1, 1)
    kept = (block(x) - x).flatten(1).abs().sum(1) > 0
    assert 0 < kept.sum() < 40  # each of the two branches is kept with probability 0.1: 12 expected


@pytest.mark.parametrize('mixer', MIXERS)
def test_window_padding_pads_the_mixer_only(mixer):
    """What the official code does downstream: the mixer sees zeros up to multiples of 7, its output is cropped."""
    plain, padded = downstream(mixer=mixer).eval(), downstream(mixer=mixer, window_padding=True).eval()
    for name, p in plain.named_parameters():
        if 'bn_in.bias' in name:
            nn.init.ones_(p)  # otherwise a padded zero is still zero where the depth-wise kernel sees it
    padded.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for a, b in zip(plain(images(1, 224, 224)), padded(images(1, 224, 224)), strict=True):
            assert torch.equal(a, b)  # 56, 28, 14, 7: nothing to pad
        x = torch.randn(1, 32, 9, 15)
        block = padded.stages[0].blocks[0]
        mixed = block.mixer(nn.functional.pad(x, (0, 6, 0, 5)))[:, :, :9, :15]
        expected = (x + mixed) + block.mlp(block.bn(x + mixed))
        torch.testing.assert_close(block(x), expected)
        assert not torch.allclose(plain.stages[0].blocks[0](x), expected)


def test_initialisation_touches_linear_and_layer_norm_only():
    torch.manual_seed(0)
    net = DWNet('nano')
    before = copy.deepcopy(net.state_dict())
    net.init_weights()
    changed = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all('mlp.fc' in name or 'reduction' in name for name in changed)
    weight = net.stages[3].blocks[0].mlp.fc1.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert net.stages[3].blocks[0].mlp.fc1.bias.abs().max() == 0


def test_layer_depth_for_layer_wise_decay():
    net = downstream('tiny')
    depth = {name: net.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in net.named_parameters()}
    assert depth['patch_embed.proj.weight'] == (0, 14)
    assert depth['stages.0.blocks.0.mixer.proj_in.weight'] == (1, 14)
    assert depth['stages.2.downsample.reduction.weight'] == (5, 14)
    assert depth['stages.2.blocks.0.bn.weight'] == (5, 14)
    assert depth['stages.3.blocks.1.mlp.fc2.bias'] == (12, 14)
    assert depth['norm_bn3.weight'] == (13, 14)
    assert net.get_layer_depth('head.fc.weight', 'backbone.') == (13, 14)
    assert {d for d, _ in depth.values()} == set(range(14))


def test_weight_decay_rule_of_the_recipes_exempts_16_tensors():
    """The substring 'norm': patch embedding 2, mergings 6, outputs 8; no norm of a block (recipes, 0.8)."""
    assert len([name for name, _ in downstream('tiny').named_parameters() if 'norm' in name]) == 16


@pytest.mark.parametrize(
    ('kwargs', 'named'),
    [
        (dict(arch='huge'), "unknown arch 'huge': expected one of .*'base', 'nano'.*'tiny'"),
        (dict(arch=dict(embed_dims=8)), 'embed_dims and depths'),
        (dict(arch=dict(embed_dims=8, depths=(1, 0))), 'positive integers'),
        (dict(mixer='DepthWise'), "unknown mixer 'DepthWise': expected one of .*DepthwiseConv"),
        (dict(mixer=dict(kernel_size=7)), 'unknown mixer None'),
        (dict(mixer=dict(type='DepthwiseConv', kernel_size=6)), 'kernel_size must be an odd .* got 6'),
        (dict(mixer=dict(type='InhomogeneousDynamicDepthwiseConv', groups=5)), 'groups=5 and 32 channels'),
        (dict(mixer=dict(type='DynamicDepthwiseConv', reduction=0)), 'reduction .* got 0'),
        (dict(out_indices=(0, 4)), r'from 0 to 3 or from -4 to -1, got \(0, 4\)'),
        (dict(out_indices=-5), 'got -5'),
        (dict(out_indices=(1, 1)), 'different stages'),
        (dict(out_indices=()), 'out_indices'),
        (dict(frozen_stages=5), 'frozen_stages .* got 5'),
        (dict(drop_path_rate=1.0), r'\[0, 1\), got 1.0'),
        (dict(norm_cfg=dict(type='GN', num_groups=5)), 'num_groups .*GN'),
        (dict(norm_cfg=dict(type='GN')), 'num_groups'),
        (dict(norm_cfg=dict(eps=1e-3)), 'norm_cfg must be a dict with a type'),
        (dict(norm_cfg=dict(type='BNN')), "unknown norm 'BNN'"),
        (dict(norm_cfg=None), 'norm_cfg must be a dict with a type'),
        (dict(arch=None), 'arch must be one of .* got None'),
        (dict(mixer=4), 'unknown mixer 4'),
        (dict(out_indices=None), 'out_indices .* got None'),
        (dict(frozen_stages=None), 'frozen_stages .* got None'),
    ],
)
def test_bad_arguments_are_named(kwargs, named):
    with pytest.raises(ValueError, match=named) as caught:
        DWNet(**{'arch': 'nano', **kwargs})
    assert '\n' not in str(caught.value)


def test_a_misspelt_argument_is_an_error():
    with pytest.raises(TypeError, match='drop_path'):
        DWNet('nano', drop_path=0.1)
    with pytest.raises(TypeError, match='group'):
        DWNet('nano', dict(type='InhomogeneousDynamicDepthwiseConv', group=8))


def test_a_batch_of_one_trains_with_all_but_the_dynamic_mixer_and_that_says_why():
    for mixer in ('DepthwiseConv', 'InhomogeneousDynamicDepthwiseConv'):
        downstream(mixer=mixer).train()(images(1))
    net = downstream(mixer='DynamicDepthwiseConv')
    with pytest.raises(ValueError, match='batch of 1 .* batch of 2 or more per GPU, or .*SyncBN'):
        net.train()(images(1))
    net.eval()(images(1))
    downstream(mixer='DynamicDepthwiseConv', norm_eval=True).train()(images(1))


class TestLoading:
    """A checkpoint that does not fit is an error, even through mmengine's loaders, which are not strict."""

    @pytest.mark.parametrize('other', [DWNet('nano', 'DynamicDepthwiseConv'), DWNet('tiny')])
    def test_of_another_net_is_refused_in_one_line(self, other):
        with pytest.raises(ValueError, match='does not fit DWNet.*nano.*expected a checkpoint of the same') as e:
            load_state_dict(DWNet('nano'), other.state_dict(), strict=False)
        assert '\n' not in str(e.value)

    def test_of_no_dwnet_at_all_is_refused(self):
        with pytest.raises(ValueError, match='entries missing'):
            load_state_dict(DWNet('nano'), nn.Linear(2, 2).state_dict(), strict=False)

    def test_a_classifier_becomes_a_pyramid_with_fresh_output_norms(self, tmp_path):
        classifier = DWNet('nano')
        torch.save(
            {'state_dict': {f'backbone.{k}': v for k, v in classifier.state_dict().items()}}, tmp_path / 'c'
        )
        net = downstream(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'c'), prefix='backbone.'))
        net.init_weights()
        ours = net.state_dict()
        for name, value in classifier.state_dict().items():
            assert name.startswith('norm_ln3') or torch.equal(ours[name], value)
        assert torch.equal(ours['norm_bn3.weight'], torch.ones(256))

    def test_output_norms_may_not_be_missing_in_part(self):
        state = downstream().state_dict()
        del state['norm_bn1.weight']
        with pytest.raises(ValueError, match='norm_bn1.weight'):
            load_state_dict(downstream(), state, strict=False)


@pytest.mark.parametrize('options', [dict(groups=2), dict(padding=1, kernel_size=3), dict(stride=2)])
def test_another_convolution_in_the_place_of_a_1x1_is_what_it_is(options):
    mixer = DepthwiseConv(8, 3).eval()
    mixer.proj_out = nn.Conv2d(8, 8, **{'kernel_size': 1, **options})
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        mixed = torch.relu(mixer.bn_mid(mixer.mix(*mixer.prepare(x))))
        torch.testing.assert_close(mixer(x), mixer.bn_out(mixer.proj_out(mixed)))


@pytest.mark.parametrize('mixer', ['DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv'])
def test_layers_that_something_is_hung_on_are_called(mixer):
    """Hooks run, and what takes a layer's place computes, though the fast path reads the weights alone."""
    torch.manual_seed(0)
    net, image = DWNet(dict(embed_dims=32, depths=(1, 1)), mixer).eval(), torch.randn(2, 3, 40, 36)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    with torch.no_grad():
        expected = net(image)[0]
        seen = set()
        handles = [m.register_forward_hook(lambda *_, name=name: seen.add(name)) for name, m in layers.items()]
        torch.testing.assert_close(net(image)[0], expected, rtol=1e-4, atol=1e-5)
        for handle in handles:
            handle.remove()
        assert seen == set(layers)
        seen_of_all = set()
        with nn.modules.module.register_module_forward_hook(lambda m, *_: seen_of_all.add(m)):
            torch.testing.assert_close(net(image)[0], expected, rtol=1e-4, atol=1e-5)
        assert seen_of_all >= set(layers.values())

        name = 'stages.0.blocks.0.mixer.proj_in'  # a forward of its own, as accelerate hangs on layers
        forward, called = layers[name].forward, []
        layers[name].forward = lambda x: called.append(name) or forward(x)
        torch.testing.assert_close(net(image)[0], expected, rtol=1e-4, atol=1e-5)
        del layers[name].forward
        assert called == [name]

        class Doubled(nn.Module):
            def __init__(self, layer):
                super().__init__()
                self.layer, self.weight, self.bias = layer, layer.weight, layer.bias

            def forward(self, x):
                return 2 * self.layer(x)

        for name in (
            'stages.0.blocks.0.mlp.fc2',
            'stages.1.downsample.reduction',
            'stages.0.blocks.0.mixer.proj_in',
        ):
            parent, _, child = name.rpartition('.')
            layer = layers[name]
            setattr(net.get_submodule(parent), child, Doubled(layer))
            assert not torch.allclose(net(image)[0], expected, rtol=1e-3)
            setattr(net.get_submodule(parent), child, layer)
