"""The isotropic net: tokens, positions, any size, freezing, and what it says of bad input."""

import pytest
import torch
from torch import nn

from mmdwnet import DWNet, IsotropicNet

ARCH = dict(embed_dims=64, depth=2)
MAP_MIXERS = ['DepthwiseConv', 'WindowAttention', 'DepthwiseWindowAttention']


@pytest.mark.parametrize('size', [(64, 64), (50, 97), (5, 3)])
@pytest.mark.parametrize('mixer', ['GlobalAttention', 'DepthwiseGlobalAttention'])
def test_outputs_for_any_size(mixer, size):
    image = torch.randn(2, 3, *size)
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    options = dict(mixer=mixer, img_size=64)
    assert IsotropicNet(ARCH, **options)(image)[0].shape == (2, 64)
    class_state, distillation_state = IsotropicNet(ARCH, distillation_token=True, **options)(image)[0]
    assert class_state.shape == distillation_state.shape == (2, 64)
    (out,) = IsotropicNet(ARCH, class_token=False, **options)(image)
    assert out.shape == (2, 64, rows, columns)
    assert out.is_contiguous()


@pytest.mark.parametrize('mixer', MAP_MIXERS)
def test_any_mixer_without_a_class_token(mixer):
    net = IsotropicNet(ARCH, mixer, img_size=64, class_token=False)
    net(torch.randn(2, 3, 64, 48))[0].square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('mixer', MAP_MIXERS)
def test_a_class_token_needs_a_mixer_that_takes_one(mixer):
    with pytest.raises(ValueError, match='takes no token beside them: set class_token=False'):
        IsotropicNet(ARCH, mixer)


def test_positions_make_the_order_of_patches_matter():
    """Without any position, exchanging patches leaves the class token's state alone; with one it does not."""
    image = torch.randn(1, 3, 32, 32)
    exchanged = image.roll(16, 3)  # two columns of patches
    relative = dict(type='GlobalAttention', relative_position=True)
    for options, alike in (
        (dict(absolute_position=False), True),
        (dict(absolute_position=True), False),
        (dict(absolute_position=False, mixer=relative), False),
    ):
        net = IsotropicNet(ARCH, img_size=32, **options).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.2)
            out, other = net(image)[0], net(exchanged)[0]
        assert torch.allclose(out, other, atol=1e-4) == alike, options


def test_frozen_parts_stay_frozen():
    net = IsotropicNet(ARCH, frozen_stages=1, drop_path_rate=0.1).train()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert {'cls_token', 'pos_embed', 'patch_embed.weight', 'blocks.0.mlp.fc1.weight'} <= frozen
    assert not any(name.startswith(('blocks.1.', 'norm.')) for name in frozen)
    assert not net.blocks[0].training and net.blocks[1].training


def test_layer_depths_for_layer_wise_decay():
    net = IsotropicNet(ARCH, distillation_token=True)
    depths = {name: net.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in net.named_parameters()}
    assert {depth for depth, _ in depths.values()} == {0, 1, 2, 3}
    assert all(layers == 4 for _, layers in depths.values())
    assert depths['cls_token'] == depths['dist_token'] == depths['pos_embed'] == (0, 4)
    assert depths['blocks.0.norm1.weight'] == (1, 4) and depths['norm.bias'] == (3, 4)


def test_a_checkpoint_that_does_not_fit_is_refused():
    net = IsotropicNet(ARCH)
    with pytest.raises(ValueError, match='does not fit IsotropicNet.*dist_token'):
        net.load_state_dict(IsotropicNet(ARCH, distillation_token=True).state_dict())
    net.load_state_dict({f'backbone.{key}': value for key, value in IsotropicNet(ARCH).state_dict().items()})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='deit-huge'), "unknown arch 'deit-huge': expected one of .*'deit-small'"),
        (dict(arch=dict(embed_dims=64)), 'has the keys embed_dims and depth'),
        (dict(arch=dict(embed_dims=64, depth=0)), 'positive integers'),
        (dict(class_token=False, distillation_token=True), 'stands beside a class token'),
        (dict(drop_path_rate=1.0), 'drop_path_rate must lie in'),
        (dict(frozen_stages=3), 'up to 2'),
        (dict(mixer='Attention'), "unknown mixer 'Attention': expected one of .*'GlobalAttention'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        IsotropicNet(**{'arch': ARCH, **options})


def test_an_unknown_option_of_a_mixer_is_named():
    with pytest.raises(TypeError, match='head_chanels'):
        IsotropicNet(ARCH, dict(type='GlobalAttention', head_chanels=32))


def test_mixers_are_taken_in_turn_by_the_blocks_of_a_stage():
    net = DWNet(dict(embed_dims=32, depths=(1, 3)), ['DepthwiseConv', dict(type='DepthwiseConv', kernel_size=3)])
    sizes = [[block.mixer.kernel_size for block in stage.blocks] for stage in net.stages]
    assert sizes == [[7], [7, 3, 7]]
    with pytest.raises(ValueError, match='got an empty list'):
        DWNet('nano', [])


def test_an_arch_brings_its_own_mixer():
    assert type(DWNet('swin-nano').stages[2].blocks[1].mixer).__name__ == 'WindowAttention'
    assert DWNet('swin-nano').stages[2].blocks[1].mixer.shift
    assert type(DWNet('nano').stages[0].blocks[0].mixer).__name__ == 'DepthwiseConv'


@pytest.mark.parametrize(
    'arch',
    ['swin-nano', dict(embed_dims=32, depths=(1, 1), block='pre-norm', patches='overlapping', layer_scale=0.1)],
)
@pytest.mark.parametrize('size', [(64, 96), (61, 45), (9, 5)])
def test_a_pyramid_of_pre_norm_blocks(arch, size):
    net = DWNet(arch, 'WindowAttention', out_indices=(0, 1), with_cp=True)
    outs = net(torch.randn(2, 3, *size))
    sides = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8)]
    assert [tuple(out.shape) for out in outs] == [(2, 32 * 2**i, *side) for i, side in enumerate(sides)]
    sum(out.square().sum() for out in outs).backward()
    for name, parameter in net.named_parameters():
        if not name.startswith(('stages.2', 'stages.3')):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_deploying_a_pyramid_of_pre_norm_blocks_folds_the_norms_of_its_mixers():
    arch = dict(embed_dims=16, depths=(1, 2), block='pre-norm')
    net = DWNet(arch, 'DynamicDepthwiseConv')
    net(torch.randn(4, 3, 64, 64))  # moves the statistics
    image = torch.randn(2, 3, 50, 70)
    expected = net.eval()(image)[0]
    deployed = net.switch_to_deploy()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    torch.testing.assert_close(deployed(image)[0], expected, rtol=1e-4, atol=1e-4)
    state = deployed.state_dict()
    DWNet(arch, 'DynamicDepthwiseConv', deploy=True).load_state_dict(state)
    with pytest.raises(ValueError, match='does not fit'):
        DWNet(arch, 'DynamicDepthwiseConv').load_state_dict(state)


def test_window_padding_is_of_dwnets_blocks():
    with pytest.raises(ValueError, match="window_padding is of DWNet's blocks"):
        DWNet('swin-nano', window_padding=True)


@pytest.mark.parametrize(
    'make',
    [
        lambda: DWNet('swin-nano'),
        lambda: IsotropicNet(dict(embed_dims=64, depth=2), img_size=64),
        lambda: IsotropicNet(dict(embed_dims=64, depth=2), 'DepthwiseGlobalAttention', img_size=64),
    ],
)
def test_they_compile_without_a_graph_break(make):
    torch._dynamo.reset()
    net = make().eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(image)[0], net(image)[0], rtol=1e-4, atol=1e-5)
