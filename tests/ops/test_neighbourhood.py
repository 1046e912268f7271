"""Neighbourhood attention: the oracle against a walk over the map, the implementations against the oracle."""

import math
import types

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_features import HALF_DTYPES, needs_compiled_function

from mmdwnet.analysis.complexity import count
from mmdwnet.ops import neighbourhood, neighbourhood_attention, neighbourhood_strips

# float64: sums of some hundred products of unit size, taken in another order
EXACT = dict(rtol=1e-11, atol=1e-11)
# (H, W), K: larger than the kernel, equal to it in one direction or both, odd and even, no squares
SIZES = [((4, 7), 3), ((3, 8), 3), ((9, 6), 5), ((5, 5), 5), ((11, 8), 7), ((7, 16), 7), ((15, 7), 7), ((2, 3), 1)]


def arguments(size, kernel_size, batch=2, heads=3, channels=4, dtype=torch.float64):
    """q, k, v, bias and a cotangent of the result."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, heads, *size, channels)] * 4
    shapes.insert(3, (heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    *inputs, cotangent = (tensor.to(dtype) for tensor in drawn)
    return [tensor.requires_grad_() for tensor in inputs], cotangent


def with_gradients(inputs, cotangent, kernel_size, impl):
    q, k, v, bias = inputs
    out = neighbourhood_attention(q, k, v, kernel_size, bias, impl)
    asked = [tensor for tensor in inputs if tensor is not None]
    return [out.detach(), *torch.autograd.grad(out, asked, cotangent)]


def nearest(position, side, kernel_size):
    """The K positions nearest to one: sorted by distance, as many on both sides as the border allows."""
    by_distance = sorted(range(side), key=lambda other: (abs(other - position), other))
    return sorted(by_distance[:kernel_size])


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('size', 'kernel_size'), [((4, 7), 3), ((6, 5), 5), ((9, 7), 7)])
def test_reference_is_the_definition(size, kernel_size, with_bias):
    (q, k, v, bias), _ = arguments(size, kernel_size, batch=1, heads=2)
    out = neighbourhood_attention(q, k, v, kernel_size, bias if with_bias else None, 'reference')
    for head in range(2):
        for y in range(size[0]):
            for x in range(size[1]):
                near = [(i, j) for i in nearest(y, size[0], kernel_size) for j in nearest(x, size[1], kernel_size)]
                scores = torch.stack([q[0, head, y, x] @ k[0, head, i, j] for i, j in near]) / math.sqrt(4)
                if with_bias:
                    middle = kernel_size - 1
                    scores = scores + torch.stack([bias[head, i - y + middle, j - x + middle] for i, j in near])
                expected = scores.softmax(0) @ torch.stack([v[0, head, i, j] for i, j in near])
                torch.testing.assert_close(out[0, head, y, x], expected, **EXACT)


@pytest.mark.parametrize('elements', [1, 5000, 2**24], ids=['strips of one', 'some strips', 'large strips'])
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('size', 'kernel_size'), SIZES)
def test_strips_equal_the_reference(size, kernel_size, with_bias, elements, monkeypatch):
    """Result and all gradients, however the map is cut."""
    monkeypatch.setattr(neighbourhood_strips, 'CPU_STRIP_ELEMENTS', elements)
    inputs, cotangent = arguments(size, kernel_size)
    inputs[3] = inputs[3] if with_bias else None
    expected = with_gradients(inputs, cotangent, kernel_size, 'reference')
    for ours, theirs in zip(with_gradients(inputs, cotangent, kernel_size, 'auto'), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)
    with torch.no_grad():
        out = neighbourhood_attention(*inputs[:3], kernel_size, inputs[3])
    torch.testing.assert_close(out, expected[0], **EXACT)


def test_gradients_are_those_of_finite_differences():
    inputs, _ = arguments((4, 5), 3, batch=1, heads=1, channels=2)
    assert torch.autograd.gradcheck(lambda q, k, v, bias: neighbourhood_attention(q, k, v, 3, bias), inputs)


def test_the_memory_of_the_arguments_does_not_matter():
    """Heads and channels of one channels_last map, as a network has them, and an expanded cotangent."""
    x = torch.randn(2, 5, 9, 3 * 8, dtype=torch.float64)
    strided = [part.unflatten(3, (2, 4)).permute(0, 3, 1, 2, 4).requires_grad_() for part in x.chunk(3, 3)]
    cotangent = torch.randn(1, 2, 1, 1, 4, dtype=torch.float64).expand(2, 2, 5, 9, 4)
    expected = with_gradients([*strided, None], cotangent, 5, 'reference')
    for ours, theirs in zip(with_gradients([*strided, None], cotangent, 5, 'strips'), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_half_precision(dtype):
    """Errors of one rounding, of the last place of the largest value, and not of sums that were rounded."""
    inputs, cotangent = arguments((9, 11), 7, dtype=dtype)
    ours = with_gradients(inputs, cotangent, 7, 'auto')
    inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = with_gradients(inputs, cotangent.double(), 7, 'reference')
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine - theirs).abs().max() < 2 * torch.finfo(dtype).eps * theirs.abs().max()


def test_under_autocast():
    """The result has autocast's dtype, the gradients those of the arguments, and float64 stays what it is."""
    inputs, cotangent = arguments((8, 9), 7, dtype=torch.float32)
    expected = with_gradients(inputs, cotangent, 7, 'reference')
    with torch.autocast('cpu', torch.bfloat16):
        out, *grads = with_gradients(inputs, cotangent.bfloat16(), 7, 'auto')
        doubled = neighbourhood_attention(*(tensor.double() for tensor in inputs[:3]), 7, inputs[3].double())
    assert out.dtype == torch.bfloat16 and doubled.dtype == torch.float64
    for ours, theirs in zip((out, *grads), expected, strict=True):
        assert ours is out or ours.dtype == torch.float32
        assert (ours - theirs).abs().max() < 8 * torch.finfo(torch.bfloat16).eps * theirs.abs().max()


def test_a_backward_pass_inside_autocast_is_exact():
    """Where the forward pass was outside of it; torch's own operations are not."""
    inputs, cotangent = arguments((8, 9), 7, dtype=torch.float32)
    expected = with_gradients(inputs, cotangent, 7, 'reference')
    out = neighbourhood_attention(*inputs[:3], 7, inputs[3])
    with torch.autocast('cpu', torch.bfloat16):
        ours = torch.autograd.grad(out, inputs, cotangent)
    for mine, theirs in zip(ours, expected[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_no_images():
    q = torch.zeros(0, 2, 5, 6, 4, requires_grad=True)
    out = neighbourhood_attention(q, q, q, 3)
    out.sum().backward()
    assert out.shape == q.grad.shape == q.shape


class Largest(TorchDispatchMode):
    """The largest memory that an operation returned, in bytes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


def test_memory_does_not_grow_with_the_kernel(monkeypatch):
    """Nothing larger than the arguments is made, forward or backward, and nothing but them is kept."""
    monkeypatch.setattr(neighbourhood_strips, 'CPU_STRIP_ELEMENTS', 4 * 3 * 20 * 22 * 4)
    (q, k, v, bias), cotangent = arguments((20, 22), 7, batch=4)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        neighbourhood_attention(q, k, v, 7, bias).backward(cotangent)
    assert largest.bytes <= q.untyped_storage().nbytes()
    biases = 3 * 7**4 * 8  # looked up for every place of a query in its neighbourhood
    assert sum(kept.values()) <= 3 * q.untyped_storage().nbytes() + biases


class Op(nn.Module):
    def __init__(self, kernel_size, impl):
        super().__init__()
        self.kernel_size, self.impl = kernel_size, impl

    def forward(self, q, bias):
        return neighbourhood_attention(q, q, q, self.kernel_size, bias, self.impl)


@pytest.mark.parametrize(('size', 'kernel_size'), SIZES)
def test_counted_multiply_adds(size, kernel_size):
    """K * K keys for every query, at the border too, two products: nothing more, and nothing left out."""
    q, bias = torch.zeros(1, 3, *size, 4), torch.zeros(3, 2 * kernel_size - 1, 2 * kernel_size - 1)
    counts = count(Op(kernel_size, 'auto'), q, bias)
    assert counts.flops == 3 * math.prod(size) * kernel_size**2 * 4 * 2
    assert counts.activations == 3 * math.prod(size) * (kernel_size**2 + 4)
    assert counts.uncounted == ()


@needs_compiled_function
@pytest.mark.parametrize('size', [(9, 12), (7, 7)])
def test_compiles_in_one_graph(size):
    inputs, cotangent = arguments(size, 7, dtype=torch.float32)
    torch._dynamo.reset()

    def call(q, k, v, bias):
        return neighbourhood_attention(q, k, v, 7, bias)

    compiled = torch.compile(call, backend='aot_eager', fullgraph=True)
    results = []
    for function in (call, compiled):
        out = function(*inputs)
        results.append([out.detach(), *torch.autograd.grad(out, inputs, cotangent)])
    for eager, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-5)


def test_second_derivatives_need_the_reference():
    (q, k, v, _), cotangent = arguments((4, 4), 3)
    for impl in ('strips', 'reference'):
        out = neighbourhood_attention(q, k, v, 3, impl=impl)
        (grad,) = torch.autograd.grad(out, q, cotangent, create_graph=True)
        if impl == 'reference':
            assert torch.autograd.grad(grad.sum(), k)[0].abs().sum() > 0
        else:
            with pytest.raises(RuntimeError, match="use impl='reference'"):
                torch.autograd.grad(grad.sum(), k)


def products_with_bias():
    """A stand-in for natten 0.17's two functions, by what its documentation says of them."""

    def na2d_qk(query, key, kernel_size, dilation=1, additional_keys=None, is_causal=False, rpb=None):
        keys = neighbours(key, kernel_size)
        scores = torch.einsum('bnyxd,bnyxpd->bnyxp', query, keys)
        if rpb is None:
            return scores
        places = [
            [near - position + kernel_size - 1 for near in nearest(position, side, kernel_size)]
            for side in query.shape[2:4]
            for position in range(side)
        ]
        rows, columns = torch.tensor(places[: query.shape[2]]), torch.tensor(places[query.shape[2] :])
        return scores + rpb[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(-2)

    def na2d_av(attn, value, kernel_size, dilation=1, additional_values=None, is_causal=False):
        return torch.einsum('bnyxp,bnyxpd->bnyxd', attn, neighbours(value, kernel_size))

    def neighbours(x, kernel_size):
        rows, columns = (
            torch.tensor([nearest(position, side, kernel_size) for position in range(side)])
            for side in x.shape[2:4]
        )
        return x[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)

    functional = types.SimpleNamespace(na2d_qk=na2d_qk, na2d_av=na2d_av)
    return types.SimpleNamespace(functional=functional, has_cuda=lambda: True, __version__='0.17.5')


def one_function():
    """A stand-in for natten 0.20's: heads last, no bias."""

    def na2d(query, key, value, kernel_size):
        q, k, v = (part.permute(0, 3, 1, 2, 4) for part in (query, key, value))
        return neighbourhood_attention(q, k, v, kernel_size, impl='reference').permute(0, 2, 3, 1, 4)

    functional = types.SimpleNamespace(na2d=na2d)
    return types.SimpleNamespace(functional=functional, HAS_LIBNATTEN=True, __version__='0.21.7')


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU, for the choice of an implementation."""

    is_cuda = True


@pytest.mark.parametrize(
    ('stub', 'with_bias'), [(products_with_bias, True), (products_with_bias, False), (one_function, False)]
)
def test_natten_is_called_by_its_conventions(stub, with_bias, monkeypatch):
    """Against stand-ins, for the package itself needs a GPU."""
    monkeypatch.setattr(neighbourhood, '_natten', stub)
    monkeypatch.setattr(neighbourhood, 'natten_obstacle', lambda *_: None)
    inputs, cotangent = arguments((5, 8), 5)
    inputs[3] = inputs[3] if with_bias else None
    expected = with_gradients(inputs, cotangent, 5, 'reference')
    for ours, theirs in zip(with_gradients(inputs, cotangent, 5, 'natten'), expected, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def test_when_natten_is_used(monkeypatch):
    def obstacle(package, q, kernel_size=3, bias=None):
        monkeypatch.setattr(neighbourhood, '_natten', lambda: package)
        return neighbourhood.natten_obstacle(q, kernel_size, bias)

    q = torch.zeros(1, 1, 8, 8, 8)
    on_gpu, bias = q.as_subclass(OnGpu), torch.zeros(1, 5, 5)
    older, newer = products_with_bias(), one_function()
    assert 'not installed' in obstacle(None, on_gpu)
    assert obstacle(older, on_gpu, 3, bias) is None
    assert obstacle(newer, on_gpu) is None
    assert '0.21.7 has no relative position bias' in obstacle(newer, on_gpu, 3, bias)
    for package in (older, newer):
        assert 'on cpu' in obstacle(package, q)
        assert 'kernel_size=1' in obstacle(package, on_gpu, 1)
    assert 'float32 or less' in obstacle(newer, on_gpu[..., :4])
    older.has_cuda = lambda: False
    assert 'without CUDA' in obstacle(older, on_gpu)
    newer.HAS_LIBNATTEN = False
    assert 'without its kernels' in obstacle(newer, on_gpu)
    older.functional.na2d_qk = lambda query, key, kernel_size, dilation: None
    assert 'too old' in obstacle(older, on_gpu)


def test_bad_arguments_are_named():
    q = torch.zeros(1, 2, 5, 6, 4)
    for call, message in (
        (lambda: neighbourhood_attention(q, q, q, 4), 'odd kernel_size, got 4'),
        (lambda: neighbourhood_attention(q, q[..., :2], q, 3), 'of one shape'),
        (lambda: neighbourhood_attention(q, q, q, 7), 'at least 7 x 7 positions.*got 5 x 6'),
        (
            lambda: neighbourhood_attention(q, q, q, 3, q.new_zeros(2, 3, 3)),
            r'bias .* \(2, 5, 5\), got \(2, 3, 3\)',
        ),
        (lambda: neighbourhood_attention(q, q.double(), q, 3), 'q and k of one dtype'),
        (lambda: neighbourhood_attention(q, q, q, 3, impl='fast'), "no impl='fast': expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    if neighbourhood._natten() is None:
        with pytest.raises(RuntimeError, match="impl='natten' cannot run here: natten is not installed"):
            neighbourhood_attention(q, q, q, 3, impl='natten')
