"""What a token mixer promises, and what tells the three depth-wise ones apart."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmdwnet.mixers import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv

MIXERS = [DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv]
every_mixer = pytest.mark.parametrize('mixer', MIXERS)


def built(mixer, channels=32, **kwargs):
    torch.manual_seed(0)
    return mixer(channels, **kwargs)


@every_mixer
@pytest.mark.parametrize('size', [(9, 14), (1, 1), (3, 20)])
def test_keeps_the_shape_of_any_map(mixer, size):
    x = torch.randn(3, 32, *size)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert built(mixer).train()(x.contiguous(memory_format=layout)).shape == x.shape


@every_mixer
def test_is_found_by_its_name_from_any_library(mixer):
    net = MODELS.build(dict(type=f'mmdwnet.{mixer.__name__}', channels=64, kernel_size=5))
    assert isinstance(net, mixer) and net.kernel_size == 5


@every_mixer
def test_under_autocast_it_computes_in_half_precision_and_stays_close(mixer):
    net, x = built(mixer).eval(), torch.randn(2, 32, 9, 7)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        half = net(x)
    assert half.dtype == torch.bfloat16
    with torch.no_grad():
        # bfloat16 keeps 8 bits: 0.4 % a step, over some ten steps
        torch.testing.assert_close(half.float(), net(x), rtol=0.05, atol=0.05)


def test_static_is_the_layers_written_out():
    net, x = built(DepthwiseConv).eval(), torch.randn(2, 32, 9, 7)
    y = F.conv2d(x, net.proj_in.weight)
    y = F.relu(net.bn_in(y))
    y = F.relu(net.bn_mid(F.conv2d(y, net.aggregate.weight, net.aggregate.bias, padding=3, groups=32)))
    torch.testing.assert_close(net(x), net.bn_out(F.conv2d(y, net.proj_out.weight)))


def test_dynamic_kernels_come_from_the_whole_image_and_from_no_other():
    """A change in one corner is felt in the opposite one, far outside a 7 x 7 kernel; never in another image."""
    far = {}
    for mixer in MIXERS:
        net, x = built(mixer).eval(), torch.randn(2, 32, 24, 24)
        changed = x.clone()
        changed[0, :, 0, 0] += 10
        with torch.no_grad():
            difference = (net(changed) - net(x)).abs()
        assert difference[1].max() == 0
        assert difference[0, :, 0, 0].max() > 0
        far[mixer] = difference[0, :, -1, -1].max().item() > 0
    assert far == {DepthwiseConv: False, DynamicDepthwiseConv: True, InhomogeneousDynamicDepthwiseConv: False}


def test_inhomogeneous_kernels_are_shared_by_a_group_of_neighbouring_channels():
    net, x = built(InhomogeneousDynamicDepthwiseConv, groups=4).eval().aggregate, torch.randn(1, 32, 6, 6)
    x = x[:, :1].expand(-1, 32, -1, -1)  # equal channels: what differs is the kernels
    with torch.no_grad():
        groups = net(x, x).unflatten(1, (4, 8))
    assert torch.equal(groups, groups[:, :, :1].expand_as(groups))
    assert not torch.allclose(groups[:, 0], groups[:, 1])


@pytest.mark.parametrize('mixer', [DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv])
def test_impl_chooses_how_and_changes_nothing_else(mixer):
    """In float64 the implementations agree to its rounding; an unknown one is refused where it is written."""
    x = torch.randn(2, 32, 5, 8, dtype=torch.float64)
    outs = [built(mixer, impl=impl).double()(x) for impl in ('auto', 'reference', 'tiled')]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[2], outs[1])
    with pytest.raises(ValueError, match="unknown impl 'fast'"):
        built(mixer, impl='fast')


def test_the_dynamic_generator_pools_in_float32_under_autocast():
    net = built(DynamicDepthwiseConv).eval()
    seen = []
    net.aggregate.bn.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        net(torch.randn(2, 32, 5, 8))
    assert seen == [torch.float32]


@every_mixer
def test_on_the_meta_device_it_has_a_shape(mixer):
    """What counts parameters and multiply-adds without memory runs there, under autocast of another device too."""
    net = built(mixer).to('meta')
    with torch.autocast('cpu', torch.bfloat16):
        assert net(torch.empty(2, 32, 5, 8, device='meta')).shape == (2, 32, 5, 8)
