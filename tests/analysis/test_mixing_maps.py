"""The weights that pictures show are those that the mixers use, found without knowing any mixer."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.analysis.mixing_maps import cut, find_weights, without_mean
from mmdwnet.analysis.watching import find_block, places_of, watch
from mmdwnet.backbones import DWNet, IsotropicNet
from mmdwnet.errors import UserError

# pixels: 9 x 14 positions of stride 4, so that windows of 4 need padding
IMAGES = torch.randn(1, 3, 36, 56, generator=torch.Generator().manual_seed(3))
PLACES = [(4, 6), (0, 0), (8, 13), (3, 11)]
WINDOWS = [dict(type='WindowAttention', head_channels=8, window_size=4, shift=shift) for shift in (False, True)]


def random_net(kind=DWNet, **options):
    """A net whose weights are so large that every part of them matters."""
    torch.manual_seed(0)
    net = kind(**options).eval()
    for parameter in net.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return net.requires_grad_(False)


def pyramid(mixer, block='dwnet', depth=1):
    return random_net(arch=dict(embed_dims=16, depths=(depth,), block=block), mixer=mixer, out_norm_cfg=None)


def input_of(net, block):
    """What the block gives to its mixer."""
    given = []
    handle = block.mixer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    net(IMAGES)
    handle.remove()
    return given[0]


@pytest.mark.parametrize('kernel_size', [3, 5])
def test_of_a_dynamic_mixer_they_are_the_kernels_that_its_generator_makes(kernel_size):
    net = pyramid(dict(type='DynamicDepthwiseConv', kernel_size=kernel_size))
    block = find_block(net, '0.0')
    found = find_weights(watch(net, block.mixer, IMAGES), PLACES, channels=[0, 7, 15])
    values = block.mixer.prepare(input_of(net, block))[0]
    generator = block.mixer.aggregate
    hidden = F.relu(generator.bn(generator.reduce(values.mean((2, 3), keepdim=True))))
    kernels = generator.expand(hidden).view(16, kernel_size, kernel_size)[[0, 7, 15]]
    assert found.kind == 'kernel' and found.names == ['channel 0', 'channel 7', 'channel 15']
    for row, box in zip(found.rows, found.boxes, strict=True):
        reach = kernel_size // 2
        assert box == (
            row.place[0] - reach,
            row.place[1] - reach,
            row.place[0] + reach + 1,
            row.place[1] + reach + 1,
        )
        inside = cut(row.maps, box)
        assert torch.isnan(inside).any() == (row.place in ((0, 0), (8, 13)))  # over the edge of the map
        torch.testing.assert_close(inside, torch.where(torch.isnan(inside), inside, kernels), equal_nan=True)


def test_kernels_of_every_position_and_the_groups_that_share_them():
    net = pyramid(dict(type='InhomogeneousDynamicDepthwiseConv', kernel_size=3, groups=4))
    block = find_block(net)
    seen = watch(net, block.mixer, IMAGES)
    found = find_weights(seen, PLACES)
    assert found.names == ['channels 0-3', 'channels 4-7', 'channels 8-11', 'channels 12-15']
    assert find_weights(seen, PLACES, groups=[2]).names == ['channels 8-11']
    generator = block.mixer.aggregate
    values = block.mixer.prepare(input_of(net, block))[0]
    kernels = generator.expand(F.relu(generator.bn(generator.reduce(values)))).unflatten(1, (4, 3, 3))[0]
    for row, box in zip(found.rows, found.boxes, strict=True):
        inside = cut(row.maps, box)
        expected = kernels[..., row.place[0], row.place[1]]
        torch.testing.assert_close(inside, torch.where(torch.isnan(inside), inside, expected), equal_nan=True)


@pytest.mark.parametrize('shift', [0, 2])
def test_of_attention_in_windows_they_are_the_rows_of_its_softmax(shift):
    net = pyramid(WINDOWS, 'pre-norm', depth=2)
    block = find_block(net, '0.1' if shift else '0.0')
    found = find_weights(watch(net, block.mixer, IMAGES), PLACES)
    assert found.names == ['channels 0-7', 'channels 8-15'] and found.kind == 'window'
    x = F.pad(input_of(net, block), (0, 2, 0, 3))  # to 12 x 16
    q, k, _ = block.mixer.qkv(x[0].flatten(1).T).unflatten(1, (3, 2, 8)).permute(1, 2, 0, 3)  # (2, N, 8) each
    rows, columns = (
        part.flatten() - shift for part in torch.meshgrid(torch.arange(12), torch.arange(16), indexing='ij')
    )
    together = torch.ones(192, 192, dtype=torch.bool)
    for at in (rows, columns):
        window = at.div(4, rounding_mode='floor')
        together &= window[:, None] == window[None]
    index = rows % 4 * 4 + columns % 4
    bias = block.mixer.position((4, 4))[:, index[:, None], index[None]]
    attention = (q @ k.mT / 8**0.5 + bias).masked_fill(~together, float('-inf')).softmax(-1)  # (2, N, N)
    for row in found.rows:
        expected = attention[:, row.place[0] * 16 + row.place[1]].unflatten(1, (12, 16))
        torch.testing.assert_close(row.maps, expected, rtol=1e-4, atol=1e-6)


def isotropic():
    return random_net(
        IsotropicNet,
        arch=dict(embed_dims=16, depth=3),
        mixer=dict(type='GlobalAttention', head_channels=8),
        patch_size=4,
        distillation_token=True,
    )


def test_of_attention_with_tokens_they_are_the_rows_of_its_softmax_tokens_included():
    net = isotropic()
    block = find_block(net)
    assert block.key == '1' and block.stride == 4
    given = []
    block.mixer.qkv.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))  # tokens, then the map
    seen = watch(net, block.mixer, IMAGES)
    found = find_weights(seen, [*PLACES, 0, 1])
    x = given[0].reshape(2 + 9 * 14, 16)
    q, k, _ = F.linear(x, block.mixer.qkv.weight, block.mixer.qkv.bias).unflatten(1, (3, 2, 8)).permute(1, 2, 0, 3)
    attention = (q @ k.mT / 8**0.5).softmax(-1)  # (2, N, N)
    assert found.kind == 'map' and seen.tokens == 2
    for row in found.rows:
        index = row.place if isinstance(row.place, int) else 2 + row.place[0] * 14 + row.place[1]
        torch.testing.assert_close(row.tokens, attention[:, index, :2], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(row.maps.flatten(1), attention[:, index, 2:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'mixer, kind, name',
    [
        (dict(type='DepthwiseConv', kernel_size=3), 'kernel', 'channel 2'),
        (dict(type='Convolution', kernel_size=3), 'kernel', 'channel 2 from '),
        (dict(type='NeighbourhoodAttention', head_channels=8, kernel_size=3), 'window', 'channels 0-7'),
        (dict(type='GlobalAttention', head_channels=16), 'map', 'channels 0-15'),
        (dict(type='SpatialMlp', hidden=None), 'map', 'channels 0-15'),
    ],
)
def test_the_part_of_the_map_is_told_from_the_weights(mixer, kind, name):
    net = pyramid(mixer, 'pre-norm')
    seen = watch(net, find_block(net).mixer, IMAGES)
    found = find_weights(seen, PLACES)
    assert found.kind == kind and found.names[0].startswith(name)


def test_watching_leaves_the_net_as_it_was():
    net = pyramid('DepthwiseConv')
    before = net(IMAGES)[0]
    mixer = find_block(net).mixer
    watch(net, mixer, IMAGES)
    assert 'mix' not in vars(mixer) and torch.equal(net(IMAGES)[0], before)


def test_without_their_mean_static_kernels_vanish_and_dynamic_ones_do_not():
    for mixer, moves in (
        (dict(type='DepthwiseConv', kernel_size=5), False),
        (dict(type='InhomogeneousDynamicDepthwiseConv', kernel_size=5, groups=2), True),
    ):
        net = pyramid(mixer)
        found = find_weights(watch(net, find_block(net).mixer, IMAGES), PLACES)
        left = without_mean(found)
        largest = max(float(row.maps.abs().max()) for row in left.rows)
        assert (largest > 0.1) if moves else (largest < 1e-6)
        cuts = torch.stack([cut(row.maps, box) for row, box in zip(left.rows, left.boxes, strict=True)])
        assert float(cuts.nanmean(0).abs().max()) < 1e-5
        for row, whole in zip(left.rows, found.rows, strict=True):
            assert not row.maps[whole.maps == 0].any()  # nothing new where there was nothing
    net = isotropic()
    left = without_mean(find_weights(watch(net, find_block(net).mixer, IMAGES), [*PLACES, 0, 1]))
    assert [row.place for row in left.rows] == PLACES
    assert float(sum(row.tokens for row in left.rows).abs().max()) < 1e-6


def test_positions_in_pixels_and_in_parts_are_the_places_that_hold_them():
    assert places_of(['35,55', '0.5,0.25', '18,14', '0,0'], (36, 56), 4) == [(8, 13), (4, 3), (0, 0)]
    assert places_of(None, (30, 30), 32) == [(0, 0)]


def test_what_is_not_there_is_named():
    net = pyramid('DepthwiseConv')
    seen = watch(net, find_block(net).mixer, IMAGES)
    windows = pyramid(WINDOWS, 'pre-norm', depth=2)
    for action, words in (
        (lambda: find_block(net, '0.3'), r'--block 0\.3: DWNet has the blocks 0\.0'),
        (lambda: find_block(torch.nn.Sequential()), 'Sequential has no token mixer.*--erf'),
        (lambda: places_of(['36,0'], (36, 56), 4), 'outside of the image.* 36 x 56'),
        (lambda: places_of(['1.0,0.5'], (36, 56), 4), 'outside of the image'),
        (lambda: places_of(['-1,3'], (36, 56), 4), 'outside of the image'),
        (lambda: places_of(['5'], (36, 56), 4), 'expected y,x'),
        (lambda: places_of(['a,b'], (36, 56), 4), 'expected y,x'),
        (lambda: find_weights(seen, PLACES, channels=[16]), '--channels 16: this mixer has 16 of them, 0 to 15'),
        (lambda: find_weights(seen, PLACES, groups=[-1]), '--groups -1'),
        (lambda: without_mean(find_weights(watch(windows, find_block(windows).mixer, IMAGES), PLACES)), 'windows'),
    ):
        with pytest.raises(UserError, match=words) as caught:
            action()
        assert '\n' not in str(caught.value)
