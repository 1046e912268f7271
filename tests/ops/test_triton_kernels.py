"""The Triton kernels against the oracles of `mmdwnet.ops.reference`, values and gradients.

They run on a GPU, or on Triton's interpreter (TRITON_INTERPRET=1 in the environment); without either they are
skipped here, and `test_triton_setup.py` runs them on the interpreter. The oracle has the same inputs, in float64.
Maps are small: the interpreter takes up to seconds for a program.
"""

import op_cases
import pytest
import torch
from torch_features import needs_opcheck

from mmdwnet.ops import reference, tiled, triton_kernels
from mmdwnet.ops.implementations import find
from mmdwnet.ops.triton_support import availability, choose_tile

ON_GPU = torch.cuda.is_available() and availability('cpu') is not None
DEVICE = 'cuda' if ON_GPU else 'cpu'
pytestmark = pytest.mark.skipif(availability(DEVICE) is not None, reason=str(availability(DEVICE)))
if availability(DEVICE) is None:
    from mmdwnet.ops import triton_dynamic, triton_generated, triton_generated_gradients, triton_inhomogeneous

# (B, C, G, H, W, K), each for something that the tiles must get right
SHAPES = [
    (2, 6, 2, 3, 9, 3),  # three channels a group; two strips in a row, the second nearly empty
    (1, 4, 4, 5, 4, 7),  # kernel larger than the map, a channel a group
    (1, 5, 5, 3, 2, 1),
    (1, 14, 2, 2, 7, 5),  # seven channels a group: two threads share it, one channel too many
    (1, 200, 1, 1, 3, 3),  # a group of more channels than a program takes
    (1, 66, 33, 1, 2, 3),  # more groups than a program takes
    (1, 2, 1, 5, 5, 9),
    (1, 3, 1, 2, 4, 11),
]
# Bounds of |result - oracle| / |oracle|. float32: sums of
# some hundred products, of two times 21 bits where float32 is made of tf32. The half types: a rounding of the
# result and one of what was summed, which Triton's interpreter does towards zero in bfloat16.
BOUNDS = {torch.float64: 1e-14, torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-6}


def _random(*shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def _map(*shape, seed, dtype=torch.float32):
    return _random(*shape, seed=seed, dtype=dtype).contiguous(memory_format=torch.channels_last)


def _generated_kernels(b, g, h, w, k, dtype=torch.float32, order='tap fastest'):
    """Kernels as a view of a channels_last output of a 1x1 convolution, in either order of its channels."""
    flat = _random(b, h, w, g * k * k, seed=3, dtype=dtype)
    if order == 'group fastest':
        return flat.view(b, h, w, k, k, g).permute(0, 5, 3, 4, 1, 2)
    return flat.view(b, h, w, g, k, k).permute(0, 3, 4, 5, 1, 2)


def _check(results, oracle, inputs, grad, **bounds):
    """results are the value and the gradients; the oracle gives its own of the same inputs, in float64."""
    doubles = [t.double().requires_grad_() for t in inputs]
    expected = oracle(*doubles)
    expected = (expected, *torch.autograd.grad(expected, doubles, grad.double()))
    assert len(results) == len(expected)
    for result, want, like in zip(results, expected, (grad, *inputs), strict=True):
        assert result.shape == want.shape and result.dtype == like.dtype
        error = (result.double() - want).norm() / want.norm()
        assert error <= BOUNDS[result.dtype], f'relative error {error:.1e}'  # NaN fails too


def _check_inhomogeneous(x, weight, grad):
    results = triton_inhomogeneous.forward(x, weight), *triton_inhomogeneous.backward(grad, x, weight)
    _check(results, reference.inhomogeneous, (x, weight), grad)
    return results


def _check_dynamic(x, weight, bias, grad):
    results = triton_dynamic.forward(x, weight, bias), *triton_dynamic.backward(grad, x, weight)
    _check(
        results, lambda x, w: reference.dynamic(x, w, bias if bias is None else bias.double()), (x, weight), grad
    )
    return results


def _check_static(x, weight, bias, grad):
    results = (
        triton_kernels.depthwise_forward(x, weight, bias),
        *triton_kernels.depthwise_backward(grad, x, weight),
    )
    _check(
        results, lambda x, w: reference.depthwise(x, w, bias if bias is None else bias.double()), (x, weight), grad
    )
    return results


def _check_generated(x, feature, weight, bias, g, k, grad):
    inputs = (x, feature, weight, bias)
    results = triton_generated.forward(*inputs, g, k), *triton_generated.backward(grad, *inputs, g, k)
    _check(results, lambda *doubles: reference.generated(*doubles, g, k), inputs, grad)
    return results


@pytest.mark.parametrize('order', ['tap fastest', 'group fastest'])
@pytest.mark.parametrize('shape', SHAPES)
def test_inhomogeneous(shape, order):
    b, c, g, h, w, k = shape
    weight = _generated_kernels(b, g, h, w, k, order=order)
    out, grad_x, grad_weight = _check_inhomogeneous(_map(b, c, h, w, seed=1), weight, _map(b, c, h, w, seed=2))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert grad_x.is_contiguous(memory_format=torch.channels_last)
    if g > 1 and k > 1:  # else both orders are one
        assert grad_weight.stride() == weight.stride()  # the next gradient reads it without a copy


@pytest.mark.parametrize('shape', SHAPES)
def test_dynamic(shape):
    b, c, _, h, w, k = shape
    x, grad = _map(b, c, h, w, seed=1), _map(b, c, h, w, seed=2)
    weight = _random(b, c, k, k, seed=3)
    out, grad_x, grad_weight = _check_dynamic(x, weight, _random(c, seed=4) if k < 7 else None, grad)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert grad_x.is_contiguous(memory_format=torch.channels_last)
    assert grad_weight.stride() == weight.stride()


@pytest.mark.parametrize('shape', SHAPES)
def test_static(shape):
    b, c, _, h, w, k = shape
    x, grad = _map(b, c, h, w, seed=1), _map(b, c, h, w, seed=2)
    weight = _random(c, 1, k, k, seed=3)
    out, grad_x, grad_weight = _check_static(x, weight, _random(c, seed=4) if k < 7 else None, grad)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert grad_x.is_contiguous(memory_format=torch.channels_last)
    assert grad_weight.stride() == weight.stride()


@pytest.mark.parametrize(('shape', 'r'), list(zip(SHAPES, (24, 5, 40, 3, 7, 16, 33, 1), strict=True)))
def test_generated(shape, r):
    b, c, g, h, w, k = shape
    x, feature, grad = _map(b, c, h, w, seed=1), _map(b, r, h, w, seed=3), _map(b, c, h, w, seed=2)
    weight, bias = _random(g * k * k, r, seed=4), _random(g * k * k, seed=5)
    _check_generated(x, feature, weight, bias, g, k, grad)


@pytest.mark.parametrize('programs', [1, 12])
def test_sums_over_more_positions_than_programs(monkeypatch, programs):
    """As on large maps: every program of the sums over positions has several, here of one and of two splits."""
    monkeypatch.setattr(triton_dynamic, '_PROGRAMS', programs)
    monkeypatch.setattr(triton_generated_gradients, '_PROGRAMS', programs // 2)
    x, feature, grad = (_map(2, c, 3, 17, seed=c) for c in (4, 3, 4))
    _check_dynamic(x, _random(2, 4, 3, 3, seed=3), None, grad)
    _check_static(x, _random(4, 1, 3, 3, seed=3), None, grad)
    _check_generated(x, feature, _random(18, 3, seed=4), _random(18, seed=5), 2, 3, grad)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(dtype):
    x, grad = _map(1, 6, 3, 5, seed=1, dtype=dtype), _map(1, 6, 3, 5, seed=2, dtype=dtype)
    for order in ('tap fastest', 'group fastest'):
        _check_inhomogeneous(x, _generated_kernels(1, 2, 3, 5, 3, dtype, order), grad)
    _check_dynamic(x, _random(1, 6, 3, 3, seed=3, dtype=dtype), _random(6, seed=4), grad)  # a bias in float32
    _check_static(x, _random(6, 1, 3, 3, seed=3, dtype=dtype), _random(6, seed=4), grad)
    feature, weight = _map(1, 8, 3, 5, seed=3, dtype=dtype), _random(18, 8, seed=4, dtype=dtype)
    if dtype == torch.float64:
        with pytest.raises(NotImplementedError, match='float64: use another impl'):
            triton_generated.forward(x, feature, weight, weight[:, 0], 2, 3)
    else:
        _check_generated(x, feature, weight, _random(18, seed=5, dtype=dtype), 2, 3, grad)


def _layouts(t):
    """Its values as a crop of a channels_last map, NCHW, transposed in memory; and a constant without memory."""
    b, c, h, w = t.shape
    crop = t.new_zeros(b, h + 2, w + 3, c).permute(0, 3, 1, 2)[:, :, 1 : h + 1, :w].copy_(t)
    return crop, t.contiguous(), t.mT.contiguous().mT, t[:1, :1, :1, :1].expand(t.shape)


@pytest.mark.parametrize('layout', range(4))
def test_layouts_of_maps(layout):
    x, feature, grad = (_layouts(_map(2, c, 3, 5, seed=c))[layout] for c in (4, 3, 4))
    _check_inhomogeneous(x, _generated_kernels(2, 2, 3, 5, 3), grad)
    _check_dynamic(x, _random(2, 4, 3, 3, seed=3).transpose(2, 3), None, grad)
    _check_static(x, _random(4, 1, 3, 3, seed=3).transpose(2, 3), None, grad)
    generator, bias = _random(3, 18, seed=4).t(), _random(36, seed=5)[::2]
    _check_generated(x, feature, generator, bias, 2, 3, grad)


@pytest.mark.parametrize('layout', ['dense', 'one for all positions'])
def test_layouts_of_kernels_that_no_generator_makes(layout):
    weight = _generated_kernels(2, 2, 3, 5, 3)
    weight = weight.contiguous() if layout == 'dense' else weight[..., :1, :1].expand(weight.shape)
    _check_inhomogeneous(_map(2, 4, 3, 5, seed=1), weight, _map(2, 4, 3, 5, seed=2))


def test_an_empty_batch():
    x, feature = torch.zeros(0, 4, 5, 6, device=DEVICE), torch.zeros(0, 2, 5, 6, device=DEVICE)
    kernels, weight = x.new_zeros(0, 4, 3, 3), x.new_zeros(0, 2, 3, 3, 5, 6)
    static = x.new_ones(4, 1, 3, 3)
    generator, bias = x.new_ones(18, 2), x.new_ones(18)
    assert triton_dynamic.forward(x, kernels, None).shape == x.shape
    assert triton_kernels.depthwise_forward(x, static, None).shape == x.shape
    assert triton_inhomogeneous.forward(x, weight).shape == x.shape
    assert triton_generated.forward(x, feature, generator, bias, 2, 3).shape == x.shape
    for grads, inputs in (
        (triton_dynamic.backward(x, x, kernels), (x, kernels)),
        (triton_kernels.depthwise_backward(x, x, static), (x, static)),
        (triton_inhomogeneous.backward(x, x, weight), (x, weight)),
        (triton_generated.backward(x, x, feature, generator, bias, 2, 3), (x, feature, generator, bias)),
    ):
        assert [t.shape for t in grads] == [t.shape for t in inputs]
        assert all((t == 0).all() for t in grads)


@pytest.mark.parametrize('shape', SHAPES)
def test_tiles_cover_their_channels_within_a_program(shape):
    b, c, g, h, w, k = shape
    x = torch.empty(b, c, h, w, device='meta')
    for options in ({}, {'tap_fastest'}, {'one_lane'}, {'for_dots'}, {'one_lane', 'for_dots'}):
        tile = choose_tile(x, g, k, **dict.fromkeys(options, True))
        assert tile.parts_of_group * tile.lanes * tile.per_thread >= c // g
        assert tile.parts * tile.groups >= g and tile.threads <= 512
        if 'for_dots' in options:
            assert min(tile.strips * tile.padded_columns, tile.groups * tile.taps) >= 16


@pytest.mark.skipif(not ON_GPU, reason='takes 4 GB and several programs at a time: needs a GPU')
def test_offsets_beyond_int32_and_the_same_bits_twice():
    far = 2**31 + 64
    weight = torch.zeros(far + 16 * 18, dtype=torch.bfloat16, device=DEVICE)
    weight = weight.as_strided((2, 2, 3, 3, 4, 4), (far, 9, 3, 1, 72, 18))
    weight.copy_(_random(2, 2, 3, 3, 4, 4, seed=3))
    x, grad = (_map(2, 6, 4, 4, seed=seed, dtype=torch.bfloat16) for seed in (1, 2))
    first = _check_inhomogeneous(x, weight, grad)
    second = _check_inhomogeneous(x, weight, grad)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    x, feature, grad = (_map(32, c, 56, 56, seed=seed) for c, seed in ((12, 1), (8, 2), (12, 3)))
    generator, bias = _random(4 * 49, 8, seed=4), _random(4 * 49, seed=5)
    first = triton_generated.backward(grad, x, feature, generator, bias, 4, 7)
    second = triton_generated.backward(grad, x, feature, generator, bias, 4, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('op', op_cases.OPS)
def test_the_registered_ops(op, layout, monkeypatch):
    """Through `mmdwnet.ops` with autograd: values, gradients, and the memory layout of the arguments."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)  # the oracle's convolutions
    shape = (2, 6, 3, 4, 5, 3)
    arguments = [t.to(DEVICE) for t in op_cases.tensors(op, shape)]
    arguments = [t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in arguments]
    run = op_cases.function(op, shape[2], shape[5])
    got = op_cases.results(lambda *args: run(*args, impl='triton'), arguments)
    expected = op_cases.results(lambda *args: run(*args, impl='reference'), arguments)
    op_cases.assert_equal(got, expected, 1e-5)  # float32 sums of tens of products in another order
    assert got[0].stride() == got[1].stride() == arguments[0].stride()


@pytest.mark.parametrize('op', op_cases.OPS)
def test_the_registered_ops_under_autocast_and_differentiated_twice(op):
    """float32 arguments are rounded, gradients are float32; a second derivative raises."""
    shape = (2, 6, 3, 2, 3, 3)
    arguments = [t.to(DEVICE) for t in op_cases.tensors(op, shape)]
    run = op_cases.function(op, shape[2], shape[5])
    expected = op_cases.results(
        lambda *args: run(*args, impl='reference'), [t.bfloat16().double() for t in arguments]
    )
    with torch.autocast(DEVICE, torch.bfloat16):
        got = op_cases.results(lambda *args: run(*args, impl='triton'), arguments)
    assert got[0].dtype == torch.bfloat16 and {t.dtype for t in got[1:]} == {torch.float32}
    op_cases.assert_equal(got, expected, 2e-2)  # roundings of the result, and in gradients of the cotangent
    leaves = [t.requires_grad_() for t in arguments]
    first = torch.autograd.grad(run(*leaves, impl='triton').square().sum(), leaves[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="second derivatives use impl='reference'"):
        first.sum().backward()


@needs_opcheck
@pytest.mark.parametrize('op', op_cases.OPS)
def test_opcheck(op):
    shape = (1, 4, 2, 2, 3, 3)
    arguments = [t.to(DEVICE).requires_grad_() for t in op_cases.tensors(op, shape)]
    sizes = [shape[2], shape[5]] if op == 'generated' else []
    torch.library.opcheck(getattr(torch.ops.mmdwnet, op_cases.NAMES[op]).default, [*arguments, *sizes, 'triton'])


def test_what_has_no_kernel_is_named():
    x = torch.zeros(1, 2, 3, 3, device=DEVICE, dtype=torch.float64)
    with pytest.raises(RuntimeError, match='cannot run here: generated kernels have no Triton kernel for float64'):
        find('generated_depthwise_conv2d', 'triton', x)
    assert find('generated_depthwise_conv2d', 'auto', x) is tiled.generated_forward
