"""The inhomogeneous mixer compiled with frozen weights: channels inside have another order, and nobody sees it."""

import pytest
import torch
from torch import nn

from mmdwnet.backbones.deploy import fold_behind
from mmdwnet.mixers import InhomogeneousDynamicDepthwiseConv
from mmdwnet.mixers.depthwise import InhomogeneousAggregation
from mmdwnet.ops import available_impls, compiled
from mmdwnet.ops.library import OPS
from mmdwnet.ops.tracing import looks_into_modules

pytestmark = [
    pytest.mark.skipif('compiled' not in available_impls(), reason='no C++ compiler for torch.compile'),
    pytest.mark.skipif(not looks_into_modules, reason='compiled code of this torch cannot look into modules'),
]


@pytest.fixture(autouse=True)
def _frozen(monkeypatch):
    """And the loop of the op not compiled, which gives the same and takes no ten seconds."""
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)
    with torch._inductor.config.patch(freezing=True):
        yield


def in_use(groups=8, **kwargs):
    """A mixer in eval mode, its BNs as if they had seen data."""
    torch.manual_seed(0)
    net = InhomogeneousDynamicDepthwiseConv(32, groups=groups, **kwargs).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2)
                nn.init.normal_(norm.bias)
    return net


def folded(net):
    """As it is in a deployed net: its projections have biases then."""
    net.bn_in, net.bn_out = fold_behind(net.proj_in, net.bn_in), fold_behind(net.proj_out, net.bn_out)
    net.aggregate.bn = fold_behind(net.aggregate.reduce, net.aggregate.bn)
    return net


def compiled_and_watched(net):
    """The mixer as torch.compile runs it, and what its ops are given: the axes of the map, the implementation."""
    torch._dynamo.reset()
    seen = []

    def backend(graph, inputs):
        for node in graph.graph.nodes:
            if node.target in (OPS.generated_depthwise_conv2d, OPS.inhomogeneous_depthwise_conv2d):
                seen.append((node.args[0].meta['example_value'].dim(), node.args[-1]))
        return graph.forward

    return torch.compile(net, backend=backend, fullgraph=True), seen


@pytest.mark.parametrize('form', [lambda net: net, folded])
@pytest.mark.parametrize('size', [(6, 9), (1, 1), (7, 1)])
@pytest.mark.parametrize('groups', [8, 16, 32])
def test_the_order_of_channels_inside_changes_nothing(form, size, groups):
    net = form(in_use(groups)).double()
    run, seen = compiled_and_watched(net)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 32, *size, dtype=torch.float64).contiguous(memory_format=layout)
        with torch.no_grad():
            torch.testing.assert_close(run(x), net(x))
    assert set(seen) == {(5, 'compiled')}


def test_in_mixed_precision():
    """As good as in the other order: some roundings of bfloat16, 2**-9 each."""
    net, x = in_use(), torch.randn(2, 32, 6, 9)
    run, seen = compiled_and_watched(net)
    with torch.no_grad():
        exact = net.double()(x.double())
        net.float()
        with torch.autocast('cpu', torch.bfloat16):
            outs = run(x), net(x)
    errors = [(out.double() - exact).abs().max() / exact.abs().max() for out in outs]
    assert seen == [(5, 'compiled')]
    assert 0 < errors[0] < 0.03 and errors[0] < 2 * errors[1]


def test_the_size_of_a_batch_becomes_a_variable():
    net = folded(in_use())
    run, seen = compiled_and_watched(net)
    with torch.no_grad():
        for batch in (2, 3, 4, 7):
            x = torch.randn(batch, 32, 6, 9)
            torch.testing.assert_close(run(x), net(x))
    assert seen == [(5, 'compiled')] * 2


class OwnProjection(InhomogeneousDynamicDepthwiseConv):
    def project(self, mixed):
        return 2 * super().project(mixed)


class OwnAggregation(InhomogeneousAggregation):
    def forward(self, x, source):
        return 2 * super().forward(x, source)


def with_a_forward_of_its_own(module):
    forward = module.forward
    module.forward = lambda *args: 2 * forward(*args)


def with_a_step_of_its_own(net):
    mix = net.mix
    net.mix = lambda *args: 2 * mix(*args)


def without_means(net):
    net.bn_in.running_mean = net.bn_in.running_var = None


@pytest.mark.parametrize(
    'change',
    [
        lambda net: net.train(),
        *(
            lambda net, name=name: net.get_submodule(name).register_forward_hook(lambda *args: 2 * args[2])
            for name in ('proj_in', 'aggregate', 'aggregate.reduce', 'aggregate.expand', 'bn_mid', 'proj_out')
        ),
        lambda net: folded(net).bn_in.register_forward_hook(lambda *args: 2 * args[2]),
        *(
            lambda net, name=name: with_a_forward_of_its_own(net.get_submodule(name))
            for name in ('proj_in', 'aggregate', 'bn_mid')
        ),
        with_a_step_of_its_own,
        without_means,
        lambda net: setattr(net, 'bn_mid', nn.GroupNorm(4, 32)),
        lambda net: setattr(net, '__class__', OwnProjection),
        lambda net: setattr(net.aggregate, '__class__', OwnAggregation),
        lambda net: setattr(net.aggregate, 'impl', 'tiled'),
    ],
)
def test_channels_keep_their_order_where_someone_may_see_them(change):
    net = in_use()
    change(net)
    run, seen = compiled_and_watched(net)
    x = torch.randn(2, 32, 6, 9)
    with torch.no_grad():
        torch.testing.assert_close(run(x), net(x), rtol=1e-4, atol=1e-5)
    assert [axes for axes, _ in seen] == [4]


def test_a_bn_without_scale_and_shift_is_none_the_less_one():
    net = in_use(norm_cfg=dict(type='BN', affine=False))
    run, seen = compiled_and_watched(net)
    x = torch.randn(2, 32, 6, 9)
    with torch.no_grad():
        torch.testing.assert_close(run(x), net(x), rtol=1e-4, atol=1e-5)
    assert seen == [(5, 'compiled')]


def test_with_weights_that_are_no_constants_channels_keep_their_order():
    """To permute them in every call takes longer; and torch's compiler takes no convolution of such weights."""
    net = folded(in_use())
    run, seen = compiled_and_watched(net)
    x = torch.randn(2, 32, 6, 9)
    with torch.no_grad(), torch._inductor.config.patch(freezing=False):
        torch.testing.assert_close(run(x), net(x))
    assert seen == [(4, 'compiled')]


@pytest.mark.parametrize('groups', [4, 8])
def test_with_gradients_and_with_few_groups_channels_keep_their_order(groups):
    """Which nothing gains from there; the gradients are those of eager mode."""
    net = in_use(groups).double()
    run, seen = compiled_and_watched(net)
    x = torch.randn(2, 32, 6, 9, dtype=torch.float64, requires_grad=True)
    outs = run(x), net(x)
    cotangent = torch.randn_like(outs[0])
    for ours, theirs in zip(
        *(torch.autograd.grad(out, (x, *net.parameters()), cotangent) for out in outs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    if groups == 4:
        with torch.no_grad():
            run(x.detach())
    assert {axes for axes, _ in seen} == {4}
