"""NeighbourhoodAttention, the mixer: what it is made of, where it is another mixer, maps of any size."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.mixers import GlobalAttention, NeighbourhoodAttention
from mmdwnet.mixers.building import build_mixer

# float64: sums of some hundred products of unit size, taken in another order
EXACT = dict(rtol=1e-10, atol=1e-10)


def randomised(mixer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return mixer.double().eval()


def features(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_parameters_have_the_published_names_and_shapes():
    """As in SHI-Labs/Neighborhood-Attention-Transformer@3cf9a29."""
    mixer = build_mixer('NeighbourhoodAttention', channels=64, norm_cfg=dict(type='BN'), map_size=(14, 14))
    assert {name: tuple(value.shape) for name, value in mixer.state_dict().items()} == {
        'rpb': (2, 13, 13),
        'qkv.weight': (192, 64),
        'qkv.bias': (192,),
        'proj.weight': (64, 64),
        'proj.bias': (64,),
    }
    assert 0.015 < mixer.rpb.std() < 0.025  # drawn with 0.02, 338 of them
    assert 'rpb' not in dict(NeighbourhoodAttention(64, relative_position=False).named_parameters())


@pytest.mark.parametrize('relative', [False, True])
def test_on_a_map_of_one_neighbourhood_it_is_global_attention(relative):
    ours = randomised(NeighbourhoodAttention(8, 4, 5, relative))
    theirs = randomised(GlobalAttention(8, 4, relative_position=relative, map_size=(5, 5)))
    weights = {name: value for name, value in ours.state_dict().items() if name != 'rpb'}
    if relative:
        # its rows go by the offset of the query from the key, ours by that of the key from the query
        table = ours.rpb.detach().flip(1, 2).flatten(1).t()
        weights['position.relative_position_bias_table'] = table
    theirs.load_state_dict(weights)
    x = features(2, 8, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x), **EXACT)


@pytest.mark.parametrize('size', [(5, 9), (8, 11)])
def test_a_query_inside_sees_a_window_around_it(size):
    """The result at a position is that of the K x K map around it."""
    mixer = randomised(NeighbourhoodAttention(8, 4, 5))
    x = features(1, 8, *size)
    out = mixer(x)
    for i in range(2, size[0] - 2):
        for j in range(2, size[1] - 2):
            around = mixer(x[:, :, i - 2 : i + 3, j - 2 : j + 3])
            torch.testing.assert_close(out[:, :, i, j], around[:, :, 2, 2], **EXACT)


@pytest.mark.parametrize('size', [(1, 1), (2, 9), (7, 3), (4, 4)])
def test_a_small_map_is_padded_before_queries_keys_and_values_are_made(size):
    """So that the biases of `qkv` stand in the padding, and only a side that is too short is padded."""
    mixer = randomised(NeighbourhoodAttention(8, 4, 5))
    x = features(2, 8, *size)
    padded = F.pad(x, (0, max(5 - size[1], 0), 0, max(5 - size[0], 0)))
    torch.testing.assert_close(mixer(x), mixer(padded)[:, :, : size[0], : size[1]], rtol=0, atol=0)
    assert not torch.allclose(mixer(x), mixer.project(mixer.mix(*mixer.prepare(x))))


@pytest.mark.parametrize('size', [(6, 9), (2, 7)])
def test_mix_is_linear_in_the_values_and_its_weights_are_from_the_source(size):
    mixer = randomised(NeighbourhoodAttention(8, 4, 3))
    values, source = mixer.prepare(features(2, 8, *size))
    others = values.flip(0)
    mixed = mixer.mix(2 * values - 3 * others, source)
    assert mixed.shape == values.shape
    torch.testing.assert_close(mixed, 2 * mixer.mix(values, source) - 3 * mixer.mix(others, source), **EXACT)


def test_every_parameter_learns_on_channels_last_maps():
    mixer = NeighbourhoodAttention(64)
    x = torch.randn(2, 64, 9, 12).contiguous(memory_format=torch.channels_last)
    out = mixer(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.square().mean().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_bad_options_are_named():
    with pytest.raises(ValueError, match='NeighbourhoodAttention: head_channels must divide'):
        NeighbourhoodAttention(48)
    with pytest.raises(ValueError, match='kernel_size must be odd, got 6'):
        NeighbourhoodAttention(64, kernel_size=6)
    with pytest.raises(ValueError, match="no impl='fast'"):
        NeighbourhoodAttention(32, kernel_size=3, impl='fast')(torch.zeros(1, 32, 4, 4))
