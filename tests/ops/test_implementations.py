"""Every implementation against the plain-torch reference: values, all gradients, layouts, sizes, dtypes."""

import types

import pytest
import torch
from op_cases import OPS, assert_equal, function, results, tensors
from torch_features import HALF_DTYPES

from mmdwnet.ops import available_impls, compiled, cpu, depthwise, flat_maps, generated_depthwise_conv2d
from mmdwnet.ops.implementations import find

# (B, C, G, H, W, K): odd and non-square, smaller than the kernel, empty, one group, one channel a group, every K
SHAPES = [
    (2, 6, 3, 5, 9, 7),
    (1, 5, 5, 8, 3, 3),
    (3, 10, 1, 2, 2, 5),
    (2, 6, 2, 7, 7, 1),
    (1, 12, 6, 1, 11, 11),
    (2, 3, 3, 13, 4, 9),
    (0, 4, 2, 3, 5, 7),
]
# sums of up to 5 * 121 products in another order: some tens of float32's (6e-8) and float64's (1e-16) rounding
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
IMPLS = [impl for impl in available_impls('cpu') if impl not in ('reference', 'triton')]


def call(op, shape, impl):
    run = function(op, shape[2], shape[5])
    return lambda *arguments: run(*arguments, impl=impl)


def impls_of(op):
    return [impl for impl in IMPLS if op in ('inhomogeneous', 'generated') or impl != 'compiled']


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('op', OPS)
def test_tiled_equals_the_reference(op, shape, dtype):
    arguments = tensors(op, shape, dtype)
    expected = results(call(op, shape, 'reference'), arguments)
    assert_equal(results(call(op, shape, 'tiled'), arguments), expected, TOLERANCE[dtype])


@pytest.mark.parametrize('op', ['inhomogeneous', 'generated'])
def test_compiled_equals_the_reference(op, monkeypatch):
    """Several images a tile, strips of one, and few groups; with groups that fill no vector."""
    if 'compiled' not in IMPLS:
        pytest.skip('no C++ compiler for torch.compile')
    for shape, rows in (
        ((3, 54, 9, 5, 8, 7), 15),
        ((2, 54, 9, 2, 2, 7), 4),
        ((2, 54, 9, 8, 6, 7), 3),
        ((2, 12, 4, 9, 7, 7), 3),
    ):
        monkeypatch.setattr(compiled, 'TILE_ELEMENTS', rows * shape[2] * 49 * shape[4])
        arguments = tensors(op, shape)
        expected = results(call(op, shape, 'reference'), arguments)
        assert_equal(results(call(op, shape, 'compiled'), arguments), expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('tile', [1, 2000, 10_000])
@pytest.mark.parametrize('op', ['inhomogeneous', 'generated'])
def test_tiles_of_the_compiled_loop(op, tile, dtype, monkeypatch):
    """One row, a strip with a rest, several images with a rest, none; 1 to 6 channels a group; any K and layout.

    The loop is not compiled here, which gives the same and takes no C++ compiler.
    """
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)
    monkeypatch.setattr(compiled, 'TILE_ELEMENTS', tile)
    for batch, each, size, kernel_size in (
        (5, 1, 7, 3),
        (5, 2, 5, 1),
        (5, 3, 4, 5),
        (5, 4, 3, 7),
        (5, 6, 6, 9),
        (2, 1, 4, 11),
        (0, 2, 4, 3),
    ):
        shape = (batch, 8 * each, 8, size, size + 2, kernel_size)
        exact = tensors(op, shape, torch.float64)
        arguments = [tensor.to(dtype) for tensor in exact]
        expected = function(op, 8, kernel_size)(*(tensor.double() for tensor in arguments), impl='reference')
        for layout in (torch.Tensor.contiguous, channels_last, sliced):
            x, *others = (layout(argument) for argument in arguments)
            out = getattr(compiled, f'{op}_forward')(x, *others, *((8, kernel_size) * (op == 'generated')))
            assert out.stride() == torch.empty_like(x).stride()
            assert_equal([out], [expected], TOLERANCE[dtype] if dtype != torch.bfloat16 else 2**-7)


def groups_in_memory(x, groups, fastest):
    """(B, C, H, W) as (B, G, C / G, H, W), position by position in memory, the groups fastest or C / G."""
    positions = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1))  # (B, H, W, G, C / G)
    if fastest:
        return positions.transpose(3, 4).contiguous().permute(0, 4, 3, 1, 2)
    return positions.contiguous().permute(0, 3, 4, 1, 2)


@pytest.mark.parametrize('fastest', [True, False])
def test_groups_on_an_axis_of_their_own(fastest, monkeypatch):
    """Whatever order they have in memory, which the compiled loop keeps; few groups too, and no images."""
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)
    monkeypatch.setattr(compiled, 'TILE_ELEMENTS', 10_000)
    for batch, groups, each in ((3, 8, 3), (2, 8, 6), (2, 4, 3), (0, 8, 3), (2, 9, 1)):
        shape = (batch, groups * each, groups, 5, 7, 3)
        arguments = tensors('generated', shape, torch.float64)
        x = groups_in_memory(arguments[0], groups, fastest)
        expected = results(call('generated', shape, 'reference'), arguments)
        for impl in ('reference', *IMPLS):
            got = results(call('generated', shape, impl), [x, *arguments[1:]])
            with torch.no_grad():
                without = call('generated', shape, impl)(x, *arguments[1:])
            assert got[0].shape == got[1].shape == without.shape == x.shape
            if impl == 'compiled' and groups >= compiled.FEW_GROUPS:
                assert without.stride() == torch.empty_like(x).stride()
            got[:2] = (map_.flatten(1, 2) for map_ in got[:2])
            assert_equal(got, expected, TOLERANCE[torch.float64])
            assert_equal([without.flatten(1, 2)], expected[:1], TOLERANCE[torch.float64])
    with pytest.raises(ValueError, match='needs x .B, C, H, W. or .B, G, C / G, H, W.'):
        call('generated', shape, 'tiled')(x.transpose(1, 2), *arguments[1:])


@pytest.mark.parametrize('has_product', [True, False])
@pytest.mark.parametrize('tile', [1, 500, 3000])
@pytest.mark.parametrize('op', ['inhomogeneous', 'generated'])
def test_tiles_of_any_size_give_the_same(op, tile, has_product, monkeypatch):
    """Strips of one row, strips that do not divide the map, several images at once with a rest; no oneDNN."""
    if has_product:
        assert cpu.LINEAR is not None
    else:
        monkeypatch.setattr(cpu, 'LINEAR', None)
    shape = (5, 6, 3, 7, 5, 3)
    arguments = tensors(op, shape)
    expected = results(call(op, shape, 'reference'), arguments)
    monkeypatch.setattr(flat_maps, 'TILE_ELEMENTS', tile)
    assert_equal(results(call(op, shape, 'tiled'), arguments), expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('rows', [64, 65, 131])
@pytest.mark.parametrize('layout', [lambda tensor: tensor, lambda tensor: channels_last(tensor)])
def test_a_map_of_as_many_rows_as_a_strip_or_more(layout, rows, dtype):
    """The weight gradient takes 64 rows of the map at a time; in half precision each is rounded."""
    shape = (2, 3, 3, rows, 6, 5)
    tolerance = 8e-3 if dtype == torch.bfloat16 else TOLERANCE[dtype]
    for op in ('depthwise', 'dynamic'):
        arguments = [layout(argument) for argument in tensors(op, shape, dtype)]
        expected = results(call(op, shape, 'reference'), [argument.double() for argument in arguments])
        assert_equal(results(call(op, shape, 'tiled'), arguments), expected, tolerance)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def kernels_fastest(tensor):
    """(B, G, K, K, H, W) in the memory of a channels_last (B, G*K*K, H, W), as a 1x1 convolution makes it."""
    if tensor.dim() != 6:
        return channels_last(tensor)
    return channels_last(tensor.flatten(1, 3)).view_as(tensor.flatten(1, 3)).unflatten(1, tensor.shape[1:4])


def sliced(tensor):
    """Every second element of a larger tensor, along every axis."""
    large = tensor.new_full([2 * side + 1 for side in tensor.shape], float('nan'))
    part = large[(slice(None, -1, 2),) * tensor.dim()]
    part.copy_(tensor)
    return part


@pytest.mark.parametrize('layout', [channels_last, kernels_fastest, sliced])
@pytest.mark.parametrize('op', OPS)
def test_any_memory_layout(op, layout):
    """Of the arguments and of the gradient that comes in."""
    shape = (2, 6, 3, 5, 9, 3)
    plain = tensors(op, shape)
    expected = results(call(op, shape, 'reference'), plain)
    arguments = [layout(argument) for argument in plain]
    got = results(call(op, shape, 'tiled'), arguments, laid_out=layout)
    assert_equal(got, expected, TOLERANCE[torch.float32])
    if layout is not sliced:
        x, out, x_gradient = arguments[0], got[0], got[1]
        assert out.stride() == x_gradient.stride() == x.stride()
        if op == 'inhomogeneous':
            assert got[2].stride() == arguments[1].stride()


@pytest.mark.parametrize('op', OPS)
def test_a_gradient_that_is_the_same_everywhere(op):
    """As that of a sum, which is one number without memory of its own."""
    shape = (2, 6, 3, 5, 9, 3)
    arguments = tensors(op, shape)
    expected, got = (
        results(call(op, shape, impl), arguments, laid_out=lambda grad: grad[:1, :1, :1, :1].expand(grad.shape))
        for impl in ('reference', 'tiled')
    )
    assert_equal(got, expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize('dtype', HALF_DTYPES)
@pytest.mark.parametrize('op', OPS)
def test_half_precision_is_as_good_as_its_rounding(op, dtype):
    """Against float64 on the rounded arguments.

    Sums are made in float32; what is rounded to half precision (2**-9 for bfloat16) is the result, the generated
    kernels, and, in the gradients of static and dynamic kernels, a sum per image and strip: some roundings of the
    largest value.
    """
    shape = (2, 16, 8, 9, 8, 7)
    arguments = tensors(op, shape, dtype)
    expected = results(call(op, shape, 'reference'), [argument.double() for argument in arguments])
    for impl in impls_of(op):
        got = results(call(op, shape, impl), arguments)
        assert {result.dtype for result in got} == {dtype}
        assert_equal(got, expected, 8e-3 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize('dtype', HALF_DTYPES)
@pytest.mark.parametrize('impl', ['reference', *IMPLS])
@pytest.mark.parametrize('op', OPS)
def test_autocast_is_that_of_a_convolution(op, impl, dtype, monkeypatch):
    """Under autocast float32 arguments are rounded and the result is in half precision; gradients are float32."""
    if impl not in ('reference', *impls_of(op)):
        pytest.skip('static and dynamic kernels have no compiled loop')
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)  # it is not compiled here
    shape = (2, 16, 8, 5, 7, 3)
    arguments = tensors(op, shape)
    rounded = [argument.to(dtype) for argument in arguments]
    expected = results(call(op, shape, 'reference'), [argument.double() for argument in rounded])
    with torch.autocast('cpu', dtype):
        got = results(call(op, shape, impl), arguments)
        assert got[0].dtype == dtype
        assert {gradient.dtype for gradient in got[1:]} == {torch.float32}
        assert call(op, shape, impl)(*[argument.double() for argument in arguments]).dtype == torch.float64
    assert_equal(got, expected, 2e-2)  # the reference sums in half precision, 9 terms of 0.4 % each


@pytest.mark.parametrize('op', OPS)
def test_gradcheck_in_float64(op):
    shape = (2, 4, 2, 3, 5, 3)
    arguments = [argument.requires_grad_() for argument in tensors(op, shape, torch.float64)]
    for impl in ('reference', 'tiled'):
        assert torch.autograd.gradcheck(call(op, shape, impl), arguments)


@pytest.mark.parametrize('op', ['inhomogeneous', 'generated'])
def test_gradcheck_of_the_compiled_loop(op, monkeypatch):
    """With as many groups as it takes; not compiled here, but asked for by name."""
    if 'compiled' not in IMPLS:
        pytest.skip('no C++ compiler for torch.compile')
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)
    shape = (1, 8, 8, 2, 3, 3)
    arguments = [argument.requires_grad_() for argument in tensors(op, shape, torch.float64)]
    assert torch.autograd.gradcheck(call(op, shape, 'compiled'), arguments)


@pytest.mark.parametrize('op', OPS)
def test_second_derivatives_work_with_the_reference_and_raise_otherwise(op, monkeypatch):
    monkeypatch.setattr(compiled, '_weigh', lambda: compiled.weigh)
    shape = (1, 2, 1, 3, 3, 3)
    arguments = [argument.requires_grad_() for argument in tensors(op, shape, torch.float64)]
    assert torch.autograd.gradgradcheck(call(op, shape, 'reference'), arguments)
    for impl in impls_of(op):
        shape = (1, 8, 8, 3, 3, 3)  # as many groups as the compiled loop takes
        arguments = [argument.requires_grad_() for argument in tensors(op, shape, torch.float64)]
        out = call(op, shape, impl)(*arguments)
        first = torch.autograd.grad(out.square().sum(), arguments[0], create_graph=True)[0]
        with pytest.raises(RuntimeError, match="second derivatives use impl='reference'"):
            first.sum().backward()


def test_the_generated_kernels_are_not_kept():
    """What autograd keeps is the arguments: it grows with C + R, not with G * K * K."""
    x, feature = torch.randn(2, 8, 12, 12, requires_grad=True), torch.randn(2, 2, 12, 12, requires_grad=True)
    weight, bias = torch.randn(8 * 49, 2, requires_grad=True), torch.randn(8 * 49, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        generated_depthwise_conv2d(x, feature, weight, bias, groups=8, kernel_size=7)
    assert {tensor.data_ptr() for tensor in kept} == {t.data_ptr() for t in (x, feature, weight, bias)}


def test_names_that_do_not_exist_or_cannot_run():
    x, weight = torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3, 3, 3)
    run = function('inhomogeneous', 1, 3)
    with pytest.raises(ValueError, match="unknown impl 'cuda': expected 'auto' or one of 'reference', 'tiled'"):
        run(x, weight, impl='cuda')
    if 'triton' not in available_impls('cpu'):
        with pytest.raises(RuntimeError, match="impl='triton' cannot run here: "):
            run(x, weight, impl='triton')
        with pytest.raises(RuntimeError, match="impl='triton' cannot run here: "):
            function('depthwise', 1, 3)(x, torch.zeros(2, 1, 3, 3), impl='triton')
    for impl in ('compiled', 'fast'):
        with pytest.raises(ValueError, match=f"depthwise_conv2d has no impl='{impl}'"):
            function('depthwise', 1, 3)(x, torch.zeros(2, 1, 3, 3), impl=impl)
    with pytest.raises(ValueError, match="unknown impl 'fast': expected 'auto' or one of 'tiled'"):
        torch.ops.mmdwnet.inhomogeneous_depthwise_conv2d(x, weight, 'fast')


def test_auto_of_the_static_op_on_a_gpu(monkeypatch):
    """Triton's kernels where they run, under torch.compile too; in exported programs torch's convolution."""
    on_gpu, chosen = types.SimpleNamespace(device=torch.device('cuda')), []

    def run(x):
        chosen.append(depthwise._impl_of_static(on_gpu, None))
        return x + 1

    monkeypatch.setattr(depthwise, 'triton_runs', lambda device_type: device_type == 'cuda')
    run(torch.zeros(1))
    torch.jit.trace(run, torch.zeros(1), check_trace=False)
    assert chosen == ['auto', 'reference']
    if hasattr(torch.compiler, 'is_dynamo_compiling'):
        compiled = torch.compile(lambda x: x + len(depthwise._impl_of_static(on_gpu, None)), backend='eager')
        assert compiled(torch.zeros(1)) == len('auto')
    monkeypatch.setattr(depthwise, 'triton_runs', lambda device_type: False)
    assert depthwise._impl_of_static(on_gpu, None) == 'reference'


def test_auto_on_a_cpu_is_tiled():
    assert find('generated_depthwise_conv2d', 'auto', torch.zeros(1)) is find(
        'generated_depthwise_conv2d', 'tiled', torch.zeros(1)
    )
    assert {'reference', 'tiled'} <= set(available_impls()) <= {'reference', 'tiled', 'compiled', 'triton'}
