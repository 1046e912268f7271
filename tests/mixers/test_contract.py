"""What every registered mixer promises, whatever it is (mixers/base.py), and that the networks can use it."""

import inspect
from copy import deepcopy

import pytest
import torch

import mmdwnet.mixers
from mmdwnet.analysis.complexity import count
from mmdwnet.backbones import DWNet, IsotropicNet
from mmdwnet.mixers.building import build_mixer

CHANNELS = 32
# of those that are not the same function with other options
VARIANTS = {
    'shifted WindowAttention': dict(type='WindowAttention', head_channels=8, shift=True),
    'positioned GlobalAttention': dict(type='GlobalAttention', head_channels=8, relative_position=True),
    'linear GlobalAttention': dict(type='GlobalAttention', head_channels=8, activation='scaling'),
    'shifted DepthwiseWindowAttention': dict(type='DepthwiseWindowAttention', head_channels=8, shift=True),
    'shifted LocalMlp': dict(type='LocalMlp', share_channels=1, shift=True),
    'PyramidAttention by 3': dict(type='PyramidAttention', head_channels=8, reduction=3),
    'PyramidAttention by 1': dict(type='PyramidAttention', head_channels=8, reduction=1),
    'SpatialMlp of two': dict(type='SpatialMlp', hidden=10),
}


def with_heads_that_fit(name):
    options = inspect.signature(getattr(mmdwnet.mixers, name)).parameters
    return dict(type=name, head_channels=8) if 'head_channels' in options else dict(type=name)


CASES = {name: with_heads_that_fit(name) for name in mmdwnet.mixers.__all__} | VARIANTS
every_mixer = pytest.mark.parametrize('cfg', list(CASES.values()), ids=list(CASES))


def built(cfg, seed=0):
    """A mixer in eval mode as it stands in a network whose maps there are 14 x 14, its BN statistics moved."""
    torch.manual_seed(seed)
    mixer = build_mixer(cfg, channels=CHANNELS, norm_cfg=dict(type='BN'), map_size=(14, 14))
    mixer.init_weights()
    mixer.train()(torch.randn(4, CHANNELS, 14, 14))
    return mixer.eval()


def random_map(*size, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=dtype, generator=generator)


@every_mixer
@pytest.mark.parametrize('size', [(14, 14), (7, 7), (13, 10), (5, 3), (1, 1)])
def test_a_map_of_any_size_keeps_its_shape(cfg, size):
    x = random_map(2, CHANNELS, *size)
    with torch.no_grad():
        out = built(cfg)(x)
    assert out.shape == x.shape and out.isfinite().all()


@every_mixer
def test_the_three_steps_are_the_mixer(cfg):
    mixer, x = built(cfg), random_map(2, CHANNELS, 14, 14)
    with torch.no_grad():
        assert torch.equal(mixer.project(mixer.mix(*mixer.prepare(x))), mixer(x))


@every_mixer
@pytest.mark.parametrize('size', [(14, 14), (9, 4)])
def test_mixing_is_linear_in_the_values_up_to_a_constant(cfg, size):
    mixer = built(cfg).double()
    with torch.no_grad():
        values, source = mixer.prepare(random_map(2, CHANNELS, *size, dtype=torch.float64))
        others = random_map(*values.shape, dtype=torch.float64, seed=2)
        constant = mixer.mix(torch.zeros_like(values), source)
        expected = 3 * (mixer.mix(values, source) - constant) - 2 * (mixer.mix(others, source) - constant)
        mixed = mixer.mix(3 * values - 2 * others, source) - constant
    # float64: sums of some thousand terms of unit size, taken in another order
    torch.testing.assert_close(mixed, expected, rtol=1e-9, atol=1e-9)


@every_mixer
def test_a_gradient_reaches_the_input_and_every_parameter(cfg):
    mixer, x = built(cfg), random_map(2, CHANNELS, 14, 14).requires_grad_()
    (mixer(x) * random_map(2, CHANNELS, 14, 14, seed=2)).sum().backward()
    for name, parameter in (('input', x), *mixer.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@every_mixer
def test_the_layout_of_the_memory_does_not_matter(cfg):
    mixer, x = built(cfg).double(), random_map(2, CHANNELS, 13, 10, dtype=torch.float64)
    grads, outs = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.detach().clone(memory_format=layout).requires_grad_()
        outs.append(mixer(x))
        (outs[-1] * random_map(*x.shape, dtype=torch.float64, seed=2)).sum().backward()
        grads.append(x.grad)
    # float64: the same sums in another order
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-10)


@every_mixer
def test_under_autocast_it_stays_close(cfg):
    mixer, x = built(cfg), random_map(2, CHANNELS, 13, 10)
    with torch.no_grad():
        full = mixer(x)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            half = mixer(x)
    # bfloat16 keeps 8 bits: 0.4 % of the largest terms a step, over some ten steps
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()


@every_mixer
def test_training_under_autocast(cfg):
    mixer, x = built(cfg).train(), random_map(2, CHANNELS, 13, 10)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = mixer(x)
    (out.float() * random_map(*x.shape, seed=2)).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@every_mixer
def test_its_state_is_all_that_it_is(cfg):
    """Loaded into one that began otherwise, it makes that one compute the same, again and again."""
    first, second, x = built(cfg), built(cfg, seed=5), random_map(2, CHANNELS, 13, 10)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        out = first(x)
        assert torch.equal(first(x), out) and torch.equal(second(x), out)


@every_mixer
def test_an_image_does_not_see_the_others_of_its_batch(cfg):
    mixer, x = built(cfg).double(), random_map(3, CHANNELS, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        # float64: the same sums, for another number of images perhaps in another order
        torch.testing.assert_close(mixer(x)[1:2], mixer(x[1:2]), rtol=1e-10, atol=1e-10)


@every_mixer
def test_it_makes_a_pyramid(cfg):
    arch = dict(embed_dims=CHANNELS, depths=(1, 1), block='pre-norm')
    net = DWNet(arch, cfg, img_size=32, out_indices=(0, 1))
    outs = net(random_map(2, 3, 40, 28))
    assert [tuple(out.shape) for out in outs] == [(2, 32, 10, 7), (2, 64, 5, 4)]
    sum(out.square().sum() for out in outs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@every_mixer
def test_it_makes_an_isotropic_net_without_a_class_token(cfg):
    net = IsotropicNet(dict(embed_dims=CHANNELS, depth=1), cfg, img_size=32, patch_size=8, class_token=False)
    (out,) = net(random_map(2, 3, 40, 28))
    assert out.shape == (2, CHANNELS, 5, 4) and out.isfinite().all()


@every_mixer
def test_it_compiles_whole(cfg):
    torch._dynamo.reset()
    mixer, x = built(cfg), random_map(2, CHANNELS, 9, 15)
    with torch.no_grad():
        compiled = torch.compile(mixer, backend='aot_eager', fullgraph=True)(x)
        # float32: the same operations, some of them decomposed into others
        torch.testing.assert_close(compiled, mixer(x), rtol=1e-4, atol=1e-5)


@every_mixer
def test_every_operation_of_it_is_counted(cfg):
    mixer = built(cfg)
    parameters = sum(parameter.numel() for parameter in mixer.parameters())
    for size in ((14, 14), (13, 10)):
        counts = count(deepcopy(mixer), torch.zeros(1, CHANNELS, *size))
        assert counts.uncounted == () and counts.params == parameters
        assert counts.flops > 0


@every_mixer
def test_an_unknown_option_is_named(cfg):
    with pytest.raises(TypeError, match='kernel_sise'):
        build_mixer(dict(cfg, kernel_sise=3), channels=CHANNELS)
