"""What depends on the CPU: the way to a result, and not the result."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch_features import needs_cpu_float16_autocast

from mmdwnet import DWNet
from mmdwnet.ops import (
    cpu,
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
    flat_maps,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
    linear_of_few_rows,
    pointwise,
    pointwise_linear,
    pointwise_mlp,
)

MIXERS = ['DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv']
HALVES = [torch.bfloat16, pytest.param(torch.float16, marks=needs_cpu_float16_autocast)]
# of the largest value: the order of sums; one rounding of what was computed in float32, to 8 bits or 11
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
PRODUCTS = ('conv', 'mm', 'linear', 'matmul', 'gelu')  # parts of the names of what must not be emulated


@pytest.fixture
def without_half_precision(monkeypatch):
    """A CPU whose oneDNN has float32 alone, so that torch emulates the rest, slowly."""
    assert cpu.onednn_computes(torch.float32)
    for module in (cpu, flat_maps, pointwise):
        monkeypatch.setattr(module, 'onednn_computes', lambda dtype: dtype == torch.float32)


@pytest.fixture(params=['AVX2', 'AVX512'])
def instructions(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param)
    assert cpu.prefers_products() == (request.param == 'AVX2')


def by_torch(op):
    """An op over channels, from one over the last axis."""
    return lambda x, *layers: op(x.permute(0, 2, 3, 1), *layers).permute(0, 3, 1, 2)


def mlp(x, weight1, bias1, weight2, bias2):
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


def both(op, **options):
    return partial(op, **options), partial(op, **options, impl='reference')


# every op that asks what the CPU is good at, what it computes, and the shapes of its arguments
DEEP = pointwise.DEEP + 1
OPS = {
    'linear': (pointwise_linear, by_torch(F.linear), [(2, 6, 5, 7), (11, 6), (11,)]),
    'deep linear': (pointwise_linear, by_torch(F.linear), [(2, DEEP, 5, 7), (11, DEEP), (11,)]),
    'few rows': (linear_of_few_rows, F.linear, [(3, 6), (490, 6), (490,)]),
    'mlp': (pointwise_mlp, by_torch(mlp), [(2, 6, 5, 7), (11, 6), (11,), (4, 11), (4,)]),
    'static': (*both(depthwise_conv2d), [(2, 6, 5, 7), (6, 1, 3, 3), (6,)]),
    'dynamic': (*both(dynamic_depthwise_conv2d), [(2, 6, 5, 7), (2, 6, 3, 3), (6,)]),
    'inhomogeneous': (*both(inhomogeneous_depthwise_conv2d), [(2, 6, 5, 7), (2, 3, 3, 3, 5, 7)]),
    'generated': (
        *both(generated_depthwise_conv2d, groups=3, kernel_size=3),
        [(2, 6, 5, 7), (2, 4, 5, 7), (27, 4), (27,)],
    ),
}


def run(op, tensors):
    """The op's result in inference, in training, and its gradients."""
    with torch.no_grad():
        results = [op(*tensors)]
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = op(*leaves)
    gen = torch.Generator().manual_seed(1)
    cotangent = torch.randn(out.shape, generator=gen).to(torch.bfloat16).to(out.dtype)
    return [*results, out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


def assert_right(name, dtype):
    op, meaning, shapes = OPS[name]
    gen = torch.Generator().manual_seed(0)
    # so that results are of the size of 1; the oracle gets what the dtype rounds them to
    scales = [1.0, *[shape[-1] ** -0.5 for shape in shapes[1:]]]
    tensors = [(torch.randn(s, generator=gen) * k).to(dtype) for s, k in zip(shapes, scales, strict=True)]
    expected = run(meaning, [tensor.double() for tensor in tensors])
    for ours, theirs in zip(run(op, tensors), expected, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).abs().max() <= TOLERANCES[dtype] * theirs.abs().max()


@pytest.mark.parametrize('name', OPS)
def test_the_way_to_a_result_is_not_seen_in_it(name, instructions):
    assert_right(name, torch.float32)


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('name', OPS)
def test_half_precision_that_the_cpu_lacks_is_rounded_once(name, dtype, instructions, without_half_precision):
    assert_right(name, dtype)


def costly_events(profiler, path):
    """Name, types and shapes of the arguments of what costs something, but of what works on the images."""
    profiler.export_chrome_trace(str(path))
    for event in json.loads(path.read_text())['traceEvents']:
        arguments = event.get('args', {})
        costs = event['name'].startswith(('aten::', 'mkldnn::')) and any(p in event['name'] for p in PRODUCTS)
        if costs and 'Input type' in arguments:
            shapes = arguments['Input Dims']
            if not any(len(shape) == 4 and shape[1] == 3 for shape in shapes):
                yield event['name'], arguments['Input type'], shapes


@pytest.mark.parametrize('mixer', MIXERS)
def test_half_precision_that_the_cpu_lacks_is_not_emulated(mixer, without_half_precision, tmp_path):
    """In inference and in training everything that costs something is in float32, but the patch embedding."""
    net = DWNet('nano', mixer).train()
    images = torch.randn(2, 3, 61, 45)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        with torch.autocast('cpu', torch.bfloat16):
            (out,) = net(images)
            with torch.no_grad():
                net(images)
        out.sum().backward()
    events = list(costly_events(profiler, tmp_path / 'trace.json'))
    assert len(events) > 50
    assert [event for event in events if 'c10::BFloat16' in event[1]] == []


@pytest.mark.parametrize('mixer', MIXERS)
def test_with_avx2_alone_no_gradient_is_a_convolution_of_onednn(mixer, instructions, tmp_path):
    net = DWNet('nano', mixer).train()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        net(torch.randn(2, 3, 61, 45))[0].sum().backward()
    names = [name for name, *_ in costly_events(profiler, tmp_path / 'trace.json')]
    assert ('aten::convolution_backward' not in names) == cpu.prefers_products()
