"""A deployed net computes what the trained one does, without the BNs that can be folded, and does not train."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch_features import needs_export

from mmdwnet import DWNet
from mmdwnet.backbones import dwnet
from mmdwnet.mixers import DepthwiseConv
from mmdwnet.ops import available_impls
from mmdwnet.ops.library import OPS
from mmdwnet.registry import MODELS

MIXERS = ['DepthwiseConv', 'DynamicDepthwiseConv', dict(type='InhomogeneousDynamicDepthwiseConv', groups=8)]
every_mixer = pytest.mark.parametrize('mixer', MIXERS, ids=['static', 'dynamic', 'inhomogeneous'])
ARCH = dict(embed_dims=16, depths=(1, 2))
CLASSIFICATION = dict()
DENSE = dict(out_indices=(0, 1), norm_cfg=dict(type='SyncBN'), out_norm_cfg=dict(type='SyncBN'))
SETTINGS = dict(
    classification=CLASSIFICATION,
    dense=DENSE,
    window_padding=dict(DENSE, window_padding=True),
    frozen=dict(CLASSIFICATION, frozen_stages=1, norm_eval=True, with_cp=True, drop_path_rate=0.3),
    other_eps=dict(norm_cfg=dict(type='BN', eps=0.1)),
    no_affine=dict(norm_cfg=dict(type='BN', affine=False)),
    kernel_5_reduction_3=dict(),
)
every_setting = pytest.mark.parametrize('setting', SETTINGS)


def trained(mixer, **kwargs):
    """A net whose parameters and statistics are none of the initial ones."""
    torch.manual_seed(0)
    net = DWNet(ARCH, mixer, **kwargs).eval()
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_var is not None:
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)
    for parameter in net.parameters():
        if parameter.dim() == 1:  # scales (some negative), shifts, biases
            parameter.data.add_(torch.randn_like(parameter) * 0.6)
    return net


def trained_as(setting, mixer):
    if setting == 'kernel_5_reduction_3':
        mixer = dict(type=mixer) if isinstance(mixer, str) else dict(mixer)
        mixer['kernel_size'] = 5
        if mixer['type'] != 'DepthwiseConv':
            mixer['reduction'] = 3
    return trained(mixer, **SETTINGS[setting])


def images(height, width, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_same(net, deployed, x, tolerance):
    with torch.no_grad():
        outputs, others = net(x), deployed(x)
    assert len(outputs) == len(others)
    for a, b in zip(outputs, others, strict=True):
        assert a.abs().max() > 0.1  # there is something to compare
        assert a.shape == b.shape and (a - b).abs().max() <= tolerance * a.abs().max()


def norms(net):
    return [name for name, module in net.named_modules() if isinstance(module, _BatchNorm)]


@every_mixer
@every_setting
def test_outputs_stay_the_same(mixer, setting):
    net = trained_as(setting, mixer)
    deployed = copy.deepcopy(net).switch_to_deploy()
    for size in ((61, 45), (32, 64), (7, 130)):
        assert_same(net, deployed, images(*size), 1e-4)
    # in float64 an error of the formula has nowhere to hide
    double = copy.deepcopy(net).double()
    assert_same(double, copy.deepcopy(double).switch_to_deploy(), images(61, 45).double(), 1e-12)


@every_mixer
def test_every_bn_is_folded_but_those_that_cannot_be(mixer):
    net = trained(mixer, **DENSE).switch_to_deploy()
    middle = [f'stages.{i}.blocks.{j}.mixer.bn_mid' for i, j in ((0, 0), (1, 0), (1, 1))]
    expected = {*(middle if isinstance(mixer, dict) else ()), 'norm_bn0', 'norm_bn1'}
    assert set(norms(net)) == expected
    assert all(
        key.split('.')[-1] in ('weight', 'bias') or key[: key.rindex('.')] in expected for key in net.state_dict()
    )


@pytest.mark.parametrize(
    'norm_cfg',
    [dict(type='GN', num_groups=2), dict(type='LN'), dict(type='BN', track_running_stats=False)],
    ids=['GN', 'LN', 'BN without statistics'],
)
@every_mixer
def test_norms_that_depend_on_the_image_stay(mixer, norm_cfg):
    net = trained(mixer, norm_cfg=norm_cfg)
    deployed = copy.deepcopy(net).switch_to_deploy()
    assert deployed.state_dict().keys() == net.state_dict().keys()
    assert_same(net, deployed, images(61, 45), 1e-5)
    deployed.load_state_dict(net.state_dict())  # nothing was folded, so both have one form
    net.load_state_dict(deployed.state_dict())


def test_synchronised_bns_are_folded_too():
    net = trained('DynamicDepthwiseConv')
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    assert len(norms(synchronised)) == 15
    assert norms(synchronised.switch_to_deploy()) == []
    assert_same(net, synchronised, images(61, 45), 1e-4)


def test_a_mixer_of_ones_own_keeps_its_layers():
    @MODELS.register_module(name='DeployTestMixer', force=True)
    class DoubledNorm(DepthwiseConv):
        def forward(self, x):
            return self.bn_in(super().forward(x))  # not behind its convolution alone

    net = trained('DeployTestMixer')
    deployed = copy.deepcopy(net).switch_to_deploy()
    assert len(norms(deployed)) == 9  # three a block; those before the MLPs are folded
    assert_same(net, deployed, images(61, 45), 1e-4)


@every_mixer
def test_a_large_batch_is_worked_through_in_parts(mixer, monkeypatch):
    """Parts of three images and a rest give the maps of one pass."""
    net = trained(mixer, **DENSE).switch_to_deploy()
    x = images(40, 36, batch=7)
    with torch.no_grad():
        whole = net(x)
        monkeypatch.setattr(dwnet, 'PIXELS_AT_ONCE', 3 * 40 * 36)
        sizes = []
        net.patch_embed.register_forward_hook(lambda module, inputs, out: sizes.append(len(out)))
        parts = net(x)
    assert sizes == [3, 3, 1]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Convolutions(TorchDispatchMode):
    """Depth-wise convolutions by (images, channels): static ones, of images side by side, and dynamic ones."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (OPS.depthwise_conv2d.default, OPS.dynamic_depthwise_conv2d.default):
            self.seen.append(tuple(args[0].shape[:2]))
        return func(*args, **(kwargs or {}))


def watched(net, x):
    with torch.no_grad(), Convolutions() as convolutions:
        return net(x), convolutions.seen


def test_dynamic_kernels_of_a_batch_are_one_convolution():
    """Of a block of a deployed net: all images are channels of one. Outputs are those of every image by itself."""
    net = trained('DynamicDepthwiseConv', out_indices=(0, 1)).switch_to_deploy()
    for size in ((61, 45), (32, 64), (7, 130)):
        x = images(*size, batch=3)
        outs, seen = watched(net, x)
        assert seen == [(1, 3 * 16), (1, 3 * 32), (1, 3 * 32)]
        for i, (out, *alone) in enumerate(zip(outs, *(watched(net, image[None])[0] for image in x), strict=True)):
            assert out.is_contiguous() and out.shape[1] == 16 * 2**i
            torch.testing.assert_close(out, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_images_side_by_side_in_mixed_precision():
    """As good as one by one: some roundings of bfloat16, 2**-9 each, on the way through three blocks."""
    net = trained('DynamicDepthwiseConv').switch_to_deploy()
    x = images(61, 45, batch=3)
    exact = watched(copy.deepcopy(net).double(), x.double())[0][0]
    with torch.autocast('cpu', torch.bfloat16):
        (out,), seen = watched(net, x)
        alone = torch.cat([watched(net, image[None])[0][0] for image in x])
    assert {images for images, _ in seen} == {1}
    errors = [(result.double() - exact).abs().max() / exact.abs().max() for result in (out, alone)]
    assert 0 < errors[0] < 0.03 and errors[0] < 2 * errors[1]


def test_a_compiled_net_takes_batches_side_by_side():
    """In one graph; the second size of a batch makes the size a variable, and the others compile nothing.

    Of maps that are not small: torch asks whether an image of one batch has more than 20,480 values.
    """
    net = trained('DynamicDepthwiseConv').switch_to_deploy()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=backend, fullgraph=True)
    with torch.no_grad():
        for batch in (2, 3, 4, 7):
            x = images(160, 168, batch=batch)
            torch.testing.assert_close(compiled(x)[0], net(x)[0], rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2


@pytest.mark.skipif('compiled' not in available_impls(), reason='no C++ compiler for torch.compile')
@pytest.mark.parametrize(
    'mixer', ['DynamicDepthwiseConv', dict(type='InhomogeneousDynamicDepthwiseConv', groups=8)], ids=str
)
def test_a_compiled_and_frozen_net_takes_any_batch(mixer):
    """With weights that are constants torch.compile has oneDNN's layers, which are particular about layouts."""
    net = DWNet(dict(embed_dims=24, depths=(1,)), mixer).switch_to_deploy()
    with torch.no_grad(), torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(net)
        for batch in (2, 3, 5, 1):
            x = images(160, 168, batch=batch)
            torch.testing.assert_close(compiled(x)[0], net(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif('compiled' not in available_impls(), reason='no C++ compiler for torch.compile')
@pytest.mark.parametrize(
    'mixer',
    ['DepthwiseConv', 'DynamicDepthwiseConv', dict(type='InhomogeneousDynamicDepthwiseConv', groups=8)],
    ids=str,
)
def test_a_compiled_and_frozen_net_takes_images_of_any_size_one_at_a_time(mixer):
    """As a detector gets them; the second size makes the sizes variables."""
    net = DWNet(dict(embed_dims=24, depths=(1, 1)), mixer).switch_to_deploy()
    with torch.no_grad(), torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(net)
        for size in ((160, 168), (97, 131), (32, 500)):
            x = images(*size, batch=1)
            torch.testing.assert_close(compiled(x)[0], net(x)[0], rtol=1e-4, atol=1e-5)


def test_gradients_of_images_side_by_side():
    """Of the image, for saliency maps: a deployed net has no others."""
    net = trained('DynamicDepthwiseConv').double().switch_to_deploy()
    x = images(36, 44, batch=2).double().requires_grad_()
    out = net(x)[0]
    cotangent = torch.randn(out.shape, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    (together,) = torch.autograd.grad(out, x, cotangent)
    for image, grad, part in zip(x, together, cotangent, strict=True):
        (alone,) = torch.autograd.grad(net(image[None])[0], image, part[None])
        torch.testing.assert_close(grad, alone, rtol=1e-10, atol=1e-12)


def looked_into(net):
    net.stages[1].blocks[0].mixer.proj_out.register_forward_hook(lambda module, args, out: None)


def with_an_adapter(net):
    net.stages[1].blocks[1].mixer.proj_in = nn.Conv2d(32, 32, 3, padding=1)


def with_an_impl(net):
    net.stages[1].blocks[0].mixer.aggregate.impl = 'tiled'


def with_another_mlp(net):
    """One that looks at neighbours, beside the layers that it inherits."""
    mlp = net.stages[1].blocks[0].mlp
    kind, spatial = type(mlp), nn.Conv2d(32, 32, 3, padding=1)
    mlp.__class__ = type('Spatial', (kind,), dict(forward=lambda self, x: kind.forward(self, spatial(x))))


def with_another_generator(net):
    aggregate = net.stages[1].blocks[1].mixer.aggregate
    kind = type(aggregate)
    doubled = dict(forward=lambda self, x, source: 2 * kind.forward(self, x, source))
    aggregate.__class__ = type('Doubled', (kind,), doubled)


def with_a_mixer_of_ones_own(net):
    mixer = net.stages[1].blocks[1].mixer
    kind = type(mixer)
    mixer.__class__ = type('Doubled', (kind,), dict(forward=lambda self, x: 2 * kind.forward(self, x)))


def with_a_forward_of_its_own(net):
    mixer = net.stages[1].blocks[0].mixer
    forward = mixer.forward
    mixer.forward = lambda x: 2 * forward(x)


def in_training_mode(net):
    """Drop path is for each image by itself."""
    net.stages[1].train()


@pytest.mark.parametrize(
    'change',
    [
        in_training_mode,
        looked_into,
        with_an_adapter,
        with_an_impl,
        with_another_mlp,
        with_another_generator,
        with_a_mixer_of_ones_own,
        with_a_forward_of_its_own,
    ],
)
def test_who_looks_into_a_stage_sees_images_one_by_one(change):
    """And so does a layer that is not one of every position by itself."""
    net = trained('DynamicDepthwiseConv').switch_to_deploy()
    change(net)
    shapes = []
    hook = net.stages[1].blocks[1].register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    x = images(40, 36, batch=3)
    out, seen = watched(net, x)
    hook.remove()
    again, unwatched = watched(net, x)
    assert seen == unwatched == [(1, 3 * 16), (3, 32), (3, 32)] and shapes == [(3, 32, 5, 5)]
    torch.testing.assert_close(out, again)
    torch.testing.assert_close(out[0], torch.cat([net(image[None])[0] for image in x]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(norm_cfg=dict(type='GN', num_groups=2)),  # its statistics are those of one image
        dict(window_padding=True),
        dict(mixer=['DynamicDepthwiseConv', 'DepthwiseConv']),
    ],
    ids=['GN', 'window_padding', 'two mixers'],
)
def test_images_are_one_by_one_where_side_by_side_is_something_else(kwargs):
    net = trained(kwargs.pop('mixer', 'DynamicDepthwiseConv'), **kwargs).switch_to_deploy()
    x = images(40, 36, batch=3)
    out, seen = watched(net, x)
    assert (3, 32) in seen and (1, 3 * 32) not in seen
    torch.testing.assert_close(out[0], torch.cat([net(image[None])[0] for image in x]), rtol=1e-5, atol=1e-5)


def test_images_are_one_by_one_where_gradients_are_to_keep_little():
    """Without gradients nothing is kept either way, and they are side by side."""
    net = trained('DynamicDepthwiseConv').switch_to_deploy()
    net.with_cp = True
    x = images(40, 36, batch=3)
    assert watched(net, x)[1][0] == (1, 3 * 16)
    with Convolutions() as convolutions:
        net(x.requires_grad_())
    assert convolutions.seen[0] == (3, 16)


def exported(net, x):
    batch = torch.export.Dim('batch', min=2)
    return torch.export.export(net, (x,), dynamic_shapes=({0: batch},)).module()


@every_mixer
@pytest.mark.parametrize('record', [torch.jit.trace, pytest.param(exported, marks=needs_export)])
def test_a_traced_net_takes_any_batch(mixer, record, monkeypatch):
    """One that was traced with a batch of several parts, too."""
    monkeypatch.setattr(dwnet, 'PIXELS_AT_ONCE', 2 * 40 * 36)
    net = trained(mixer).switch_to_deploy()
    with torch.no_grad():
        recorded = record(net, images(40, 36, batch=5))
        for size in (2, 3, 7):
            x = images(40, 36, batch=size)
            torch.testing.assert_close(recorded(x)[0], net(x)[0], rtol=1e-4, atol=1e-5)


@every_mixer
def test_switching_is_in_place_and_happens_once(mixer):
    net = trained(mixer, with_cp=True).train()
    assert net.switch_to_deploy() is net
    assert net.deploy and not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net.patch_embed.proj.weight.is_contiguous(memory_format=torch.channels_last)
    before = copy.deepcopy(net.state_dict())
    assert net.switch_to_deploy() is net
    after = net.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_deployed_net_refuses_to_train_and_says_why():
    net = trained('DepthwiseConv').switch_to_deploy()
    for train in (net.train, nn.Sequential(net).train):
        with pytest.raises(
            RuntimeError, match='deployed and cannot be trained.*BNs are folded.*deploy=True'
        ) as caught:
            train()
        assert '\n' not in str(caught.value)
    assert net.eval() is net and net.train(False) is net


@every_mixer
@pytest.mark.parametrize('setting', ['classification', 'window_padding'])
def test_a_net_built_deployed_takes_the_weights_of_one(mixer, setting):
    deployed = trained(mixer, **SETTINGS[setting]).switch_to_deploy()
    built = DWNet(ARCH, mixer, deploy=True, **SETTINGS[setting])
    assert not built.training
    built.load_state_dict(deployed.state_dict())
    assert_same(deployed, built, images(61, 45), 1e-6)
    whole, other = nn.ModuleDict(dict(backbone=deployed)), nn.ModuleDict(dict(backbone=built))
    other.load_state_dict(whole.state_dict())


@every_mixer
def test_weights_of_the_other_form_are_refused_in_one_line(mixer):
    training, deployed = trained(mixer), trained(mixer).switch_to_deploy()
    for prefix in ('', 'backbone.'):
        for net, other, words in (
            (deployed, training, r'^DWNet\(.* is deployed.*tools/model_converters/deploy.py'),
            (training, deployed, 'is of a deployed net.*DWNet.* is not deployed.*deploy=True'),
        ):
            state_dict = {prefix + key: value for key, value in other.state_dict().items()}
            with pytest.raises(ValueError, match=words) as caught:
                load_state_dict(nn.ModuleDict(dict(backbone=net)) if prefix else net, state_dict, strict=False)
            assert '\n' not in str(caught.value)
