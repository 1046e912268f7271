"""The Linear and the MLP over channels: what `F.linear` and `F.gelu` compute, in pieces or not."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch_features import HALF_DTYPES

from mmdwnet.ops import cpu, linear_of_few_rows, pointwise, pointwise_linear, pointwise_mlp

# float32: other orders of some ten products, another erf. Half precision: the rounding of the hidden map, twice
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def plain_linear(x, weight, bias):
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def plain_mlp(x, weight1, bias1, weight2, bias2):
    return plain_linear(F.gelu(plain_linear(x, weight1, bias1)), weight2, bias2)


def inputs(dtype=torch.float32, size=(2, 6, 5, 7), hidden=11):
    """A map and the weights of an MLP."""
    gen = torch.Generator().manual_seed(0)
    shapes = (size, (hidden, size[1]), (hidden,), (4, hidden), (4,))
    x, *layers = (torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype) for shape in shapes)
    return [x.contiguous(memory_format=torch.channels_last), *layers]


def assert_close(out, expected):
    tolerance = TOLERANCES[out.dtype] * expected.abs().max().item()
    torch.testing.assert_close(out.double(), expected.double(), rtol=0, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, *HALF_DTYPES])
@pytest.mark.parametrize('with_bias', [True, False])
def test_a_linear(with_bias, dtype):
    x, weight, bias, *_ = inputs(dtype)
    bias = bias if with_bias else None
    out = pointwise_linear(x, weight, bias)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert_close(out, plain_linear(x.double(), weight.double(), None if bias is None else bias.double()))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ('dtype', 'wide'), [(torch.float64, 99), (torch.float32, 1), (torch.bfloat16, 1), (torch.bfloat16, 99)]
)
def test_gradients_of_a_linear(dtype, wide, layout, instructions, monkeypatch):
    """Where they are a convolution's and where they are a product's."""
    monkeypatch.setattr(pointwise, 'WIDE', wide)
    x, weight, bias, *_ = inputs(dtype)
    arguments = [leaf.requires_grad_() for leaf in (x.contiguous(memory_format=layout), weight, bias)]
    doubles = [argument.detach().double().requires_grad_() for argument in arguments]
    cotangent = torch.randn(2, 11, 5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = torch.autograd.grad(pointwise_linear(*arguments), arguments, cotangent)
    expected = torch.autograd.grad(plain_linear(*doubles), doubles, cotangent.double())
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours, theirs)


@pytest.mark.parametrize('rows', [0, 1, 8])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, *HALF_DTYPES])
def test_a_linear_of_few_rows_and_its_gradients(dtype, rows):
    gen = torch.Generator().manual_seed(0)
    shapes = ((rows, 12), (490, 12), (490,), (rows, 490))
    *inputs, cotangent = (torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype) for shape in shapes)
    results = []
    for linear in (linear_of_few_rows, F.linear):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        out = linear(*leaves)
        out.backward(cotangent)
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    assert results[0][0].is_contiguous()
    for ours, expected in zip(*results, strict=True):
        if expected.numel():
            assert_close(ours, expected)


def test_a_linear_of_few_rows_under_autocast():
    x, weight, bias = torch.randn(3, 12), torch.randn(490, 12), torch.randn(490)
    with torch.autocast('cpu', torch.bfloat16):
        out = linear_of_few_rows(x, weight, bias)
    assert out.dtype == torch.bfloat16
    assert_close(out, F.linear(x, weight, bias))


@pytest.mark.parametrize('size', [1, 8 * 88, 10**7])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, *HALF_DTYPES])
def test_an_mlp_in_pieces_of_any_size_and_in_training(dtype, size, monkeypatch):
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    arguments = inputs(dtype)
    expected = plain_mlp(*(argument.double() for argument in arguments))
    out = pointwise_mlp(*arguments)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert_close(out, expected)
    trained = pointwise_mlp(*(argument.requires_grad_() for argument in arguments))
    assert trained.requires_grad and trained.is_contiguous(memory_format=torch.channels_last)
    assert_close(trained.detach(), expected)


@pytest.mark.parametrize('size', [1, 8 * 88, 10**7])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ('dtype', 'wide'), [(torch.float64, 99), (torch.float32, 1), (torch.bfloat16, 1), (torch.bfloat16, 99)]
)
def test_gradients_are_those_of_the_plain_operations(dtype, wide, layout, size, instructions, monkeypatch):
    """In pieces of any size, and where the weight gradient is a convolution's and where it is a product's."""
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    monkeypatch.setattr(pointwise, 'WIDE', wide)
    x, *layers = inputs(dtype)
    arguments = [argument.requires_grad_() for argument in (x.contiguous(memory_format=layout), *layers)]
    doubles = [argument.detach().double().requires_grad_() for argument in arguments]
    cotangent = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    cotangent = cotangent.contiguous(memory_format=layout)
    got = torch.autograd.grad(pointwise_mlp(*arguments), arguments, cotangent)
    expected = torch.autograd.grad(plain_mlp(*doubles), doubles, cotangent.double())
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours, theirs)


def of_any_memory(tensor):
    """Its values in channels_last memory, as every second channel of a larger map, and one value for all."""
    large = tensor.repeat_interleave(2, 1).contiguous(memory_format=torch.channels_last)
    return (
        tensor.contiguous(memory_format=torch.channels_last),
        large[:, ::2],
        tensor[:1, :1, :1, :1].expand_as(tensor),
    )


@pytest.mark.parametrize('memory', range(3))
@pytest.mark.parametrize('size', [1, 8 * 88, 10**7])
@pytest.mark.parametrize(('channels', 'hidden'), [(6, 11), (6, 3), (1, 4), (6, 6)])
def test_float32_gradients_of_weights_are_products_by_onednn(
    channels, hidden, size, memory, instructions, monkeypatch
):
    """With AVX-512, from a map and a gradient of any memory; the results are in the memory of the weights."""
    calls = []
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    monkeypatch.setattr(pointwise, 'onednn_product', lambda a, b: calls.append(a) or cpu.onednn_product(a, b))
    x, *layers = inputs(size=(2, channels, 5, 7), hidden=hidden)
    arguments = [argument.requires_grad_() for argument in (of_any_memory(x)[memory], *layers)]
    doubles = [argument.detach().double().requires_grad_() for argument in arguments]
    out, expected = pointwise_mlp(*arguments), plain_mlp(*doubles)
    cotangent = of_any_memory(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)))[memory]
    got = torch.autograd.grad(out, arguments, cotangent)
    expected = torch.autograd.grad(expected, doubles, cotangent.double())
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours, theirs)
    assert all(gradient.is_contiguous() for gradient in got[1:])
    assert bool(calls) is (instructions == 'AVX512' and cpu.LINEAR is not None)


@pytest.mark.parametrize('size', [8 * 88, 10**7])
@pytest.mark.parametrize('wanted', [(0,), (1, 2, 3, 4), (3, 4), (0, 1, 4), (2,)])
@pytest.mark.parametrize(('dtype', 'wide'), [(torch.float32, 99), (torch.bfloat16, 1), (torch.bfloat16, 99)])
def test_what_is_frozen_costs_nothing(wanted, dtype, wide, size, instructions, monkeypatch):
    """Gradients of some arguments alone are right, in pieces or not, and make no products of the others."""
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    monkeypatch.setattr(pointwise, 'WIDE', wide)
    arguments = inputs(dtype)
    doubles = [argument.double() for argument in arguments]
    for index in wanted:
        arguments[index].requires_grad_()
        doubles[index].requires_grad_()
    out, expected = pointwise_mlp(*arguments), plain_mlp(*doubles)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    with FlopCounterMode(display=False) as counter:
        got = torch.autograd.grad(out, [arguments[index] for index in wanted], cotangent)
    for ours, theirs in zip(
        got, torch.autograd.grad(expected, [doubles[index] for index in wanted], cotangent.double()), strict=True
    ):
        assert_close(ours, theirs)
    products = {0: 6 * 11, 1: 6 * 11, 3: 4 * 11}  # of x, of both weights; and of the hidden map, if need be
    flops = sum(2 * 70 * products.get(index, 0) for index in wanted) + 2 * 70 * 4 * 11 * (min(wanted) < 3)
    assert counter.get_total_flops() == flops


def test_under_the_transforms_of_torch_func():
    arguments = tuple(inputs(torch.float64))
    grads = torch.func.grad(lambda *a: pointwise_mlp(*a).square().sum(), tuple(range(5)))(*arguments)
    expected = torch.func.grad(lambda *a: plain_mlp(*a).square().sum(), tuple(range(5)))(*arguments)
    for ours, theirs in zip(grads, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize('size', [1, 8 * 88, 10**7])
def test_first_and_second_derivatives_in_float64(size, monkeypatch):
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    arguments = [argument.requires_grad_() for argument in inputs(torch.float64, (2, 3, 1, 2))]
    assert torch.autograd.gradcheck(pointwise_mlp, arguments)
    assert torch.autograd.gradgradcheck(pointwise_mlp, arguments)


@pytest.mark.parametrize('size', [1, 8 * 88, 10**7])
def test_the_hidden_map_is_kept_once(size, monkeypatch):
    """Before the GELU, in pieces of any size; the other large thing that is kept is the input."""
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    arguments = [argument.requires_grad_() for argument in inputs()]
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        pointwise_mlp(*arguments)
    assert sum(tensor.numel() for tensor in kept.values() if tensor.dim() == 4) == 2 * (6 + 11) * 5 * 7


def test_autocast_and_an_empty_batch():
    arguments = inputs()
    expected = plain_mlp(*arguments)
    with torch.autocast('cpu', torch.bfloat16):
        out = pointwise_mlp(*arguments)
        trained = pointwise_mlp(*(argument.requires_grad_() for argument in arguments))
    for half in (out, trained):
        assert half.dtype == torch.bfloat16
        assert_close(half.detach(), expected)
    trained.float().sum().backward()
    assert {argument.grad.dtype for argument in arguments} == {torch.float32}
    with torch.no_grad():
        assert pointwise_mlp(arguments[0][:0], *arguments[1:]).shape == (0, 4, 5, 7)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_an_empty_batch_has_gradients(dtype):
    x, *layers = [argument.requires_grad_() for argument in inputs(dtype)]
    out = pointwise_mlp(x[:0], *layers)
    assert out.shape == (0, 4, 5, 7)
    for argument, gradient in zip((x, *layers), torch.autograd.grad(out.sum(), (x, *layers)), strict=True):
        assert gradient.shape == argument.shape and not gradient.any()


@pytest.mark.parametrize('size', [8 * 88, 10**7])
@pytest.mark.parametrize('channels', [1, 6])
def test_maps_and_gradients_are_in_channels_last_memory(channels, size, monkeypatch):
    """One channel too, whose memory is of both formats."""
    monkeypatch.setattr(pointwise, 'HIDDEN_BYTES', size)
    arguments = [argument.requires_grad_() for argument in inputs(size=(2, channels, 5, 7))]
    out = pointwise_mlp(*arguments)
    cotangent = torch.randn(out.shape).contiguous(memory_format=torch.channels_last)
    (grad_x,) = torch.autograd.grad(out, arguments[:1], cotangent)
    for tensor in (out, grad_x):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_a_second_backward_pass_gives_the_same():
    """The gradient of the GELU is made in place, and of nothing that is kept."""
    arguments = [argument.requires_grad_() for argument in inputs()]
    out = pointwise_mlp(*arguments)
    cotangent = torch.randn(out.shape)
    first = torch.autograd.grad(out, arguments, cotangent, retain_graph=True)
    for once, again in zip(first, torch.autograd.grad(out, arguments, cotangent), strict=True):
        torch.testing.assert_close(again, once, rtol=0, atol=0)


def test_gradients_of_several_cotangents_at_once_where_the_map_is_not_cut():
    """As on a GPU, which torch maps over; on a CPU the pieces are written one by one, and torch says so."""
    x, *layers = [argument.to('meta').requires_grad_() for argument in inputs()]
    out = pointwise_mlp(x, *layers)
    cotangents = torch.empty(3, *out.shape, device='meta')
    (grad_x,) = torch.func.vmap(lambda cotangent: torch.autograd.grad(out, x, cotangent))(cotangents)
    assert grad_x.shape == (3, *x.shape)
