"""What depends on the CPU: the way to a result, and not the result."""

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch_features import needs_compiled_autocast, needs_cpu_float16_autocast

from mmdwnet import DWNet
from mmdwnet.ops import (
    cpu,
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
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
    for module in (cpu, pointwise):
        monkeypatch.setattr(module, 'onednn_computes', lambda dtype: dtype == torch.float32)


def test_a_torch_without_onednn(monkeypatch):
    """As on a Mac: torch asks nothing of a library that it was built without."""
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    monkeypatch.delattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported')
    assert not any(map(cpu.onednn_computes, (torch.float32, torch.bfloat16, torch.float16)))
    assert_right('mlp', torch.bfloat16)
    assert_right('generated', torch.bfloat16)


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
def test_half_precision_that_the_cpu_lacks_is_right(name, dtype, instructions, without_half_precision):
    assert_right(name, dtype)


def costly_events(profiler, path):
    """Name, types and shapes of the arguments of the operations that cost something."""
    profiler.export_chrome_trace(str(path))
    for event in json.loads(path.read_text())['traceEvents']:
        arguments = event.get('args', {})
        costs = event['name'].startswith(('aten::', 'mkldnn::')) and any(p in event['name'] for p in PRODUCTS)
        if costs and 'Input type' in arguments:
            yield event['name'], arguments['Input type'], arguments['Input Dims']


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('mixer', MIXERS)
def test_half_precision_that_the_cpu_lacks_is_not_emulated(mixer, dtype, without_half_precision, tmp_path):
    """In inference and in training everything that costs something is in float32."""
    net = DWNet('nano', mixer).train()
    images = torch.randn(2, 3, 61, 45)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        with torch.autocast('cpu', dtype):
            (out,) = net(images)
            with torch.no_grad():
                net(images)
        out.sum().backward()
    events = list(costly_events(profiler, tmp_path / 'trace.json'))
    assert len(events) > 50
    assert [event for event in events if {'c10::BFloat16', 'c10::Half'} & set(event[1])] == []


@needs_compiled_autocast
def test_nor_is_it_in_compiled_code(without_half_precision, tmp_path):
    x, *layers = (torch.randn(shape) for shape in OPS['mlp'][2])
    kernels, bias = torch.randn(6, 1, 3, 3), torch.randn(6)

    @torch.compile(fullgraph=True, backend='aot_eager')
    def net(x):
        return pointwise_mlp(depthwise_conv2d(x, kernels, bias), *layers)

    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        net(x)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            assert net(x).dtype == torch.bfloat16
    events = [event for event in costly_events(profiler, tmp_path / 'trace.json') if 'gelu' not in event[0]]
    assert len(events) > 2
    assert [event for event in events if 'c10::BFloat16' in event[1]] == []


@pytest.mark.parametrize('name', ['linear', 'mlp', 'few rows'])
def test_under_autocast_no_weight_is_copied_for_the_backward_pass(name, without_half_precision):
    op, _, shapes = OPS[name]
    x, *weights = (torch.randn(shape).requires_grad_() for shape in shapes)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks, torch.autocast('cpu', torch.bfloat16):
        op(x, *weights)
    own = {weight.data_ptr() for weight in weights}
    matrices = [tensor for tensor in kept if tensor.numel() in {weight.numel() for weight in weights[::2]}]
    assert matrices and {tensor.data_ptr() for tensor in matrices} <= own


def test_a_backward_pass_inside_the_region_is_in_float32(instructions, without_half_precision, tmp_path):
    x, *layers = (torch.randn(shape).requires_grad_() for shape in OPS['mlp'][2])
    with torch.autocast('cpu', torch.bfloat16):
        out = pointwise_mlp(x, *layers).float()
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            out.sum().backward()
    events = list(costly_events(profiler, tmp_path / 'trace.json'))
    assert len(events) > 3
    assert [event for event in events if 'c10::BFloat16' in event[1]] == []


@pytest.mark.parametrize('op', [pointwise_linear, linear_of_few_rows, pointwise_mlp])
def test_arguments_of_different_dtypes_are_refused_on_every_cpu(op, without_half_precision):
    shapes = next(shapes for function, _, shapes in OPS.values() if function is op)
    x, *weights = (torch.randn(shape) for shape in shapes)
    for first, others in ((torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)):
        with pytest.raises(RuntimeError, match='same dtype|type .* should be the same'):
            op(x.to(first), *(weight.to(others) for weight in weights))


def test_derivatives_of_what_is_not_trained(without_half_precision):
    """torch.func, and a second derivative, of a static convolution in a half precision that the CPU lacks."""
    x, kernels = (torch.randn(shape, dtype=torch.bfloat16) for shape in ((2, 6, 5, 7), (6, 1, 3, 3)))
    grad = torch.func.grad(lambda x: depthwise_conv2d(x, kernels).float().square().sum())(x)
    leaf = x.clone().requires_grad_()
    out = depthwise_conv2d(leaf, kernels).float().square().sum()
    (first,) = torch.autograd.grad(out, leaf, create_graph=True)
    assert torch.equal(grad, first)
    assert torch.autograd.grad(first.float().square().sum(), leaf)[0].abs().max() > 0


@pytest.mark.parametrize('mixer', MIXERS)
def test_with_avx2_alone_no_gradient_of_a_1x1_is_a_convolution(mixer, instructions, tmp_path):
    net = DWNet('nano', mixer).train()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        net(torch.randn(2, 3, 61, 45))[0].sum().backward()
    gradients = [
        shapes
        for name, _, shapes in costly_events(profiler, tmp_path / 'trace.json')
        if name == 'aten::convolution_backward' and shapes[2][2:] == [1, 1]
    ]
    assert cpu.prefers_products() == (instructions == 'AVX2')
    assert (not gradients) == cpu.prefers_products()
