"""The contract of the dynamic depth-wise convolutions: their formula, their ladder, gradients, bad shapes."""

import pytest
import torch
import torch.nn.functional as F
from torch_features import HALF_DTYPES

from mmdwnet.ops import dynamic_depthwise_conv2d, inhomogeneous_depthwise_conv2d

# (B, C, G, H, W, K): odd, non-square, smaller than the kernel, one group, one channel a group
SHAPES = [(2, 6, 3, 5, 9, 7), (1, 4, 4, 8, 3, 3), (3, 5, 1, 2, 2, 5), (2, 8, 2, 7, 7, 1), (1, 12, 6, 1, 11, 11)]


def _inputs(b, c, g, h, w, k):
    gen = torch.Generator().manual_seed(b * 1000 + h)
    x = torch.randn(b, c, h, w, generator=gen, dtype=torch.float64)
    weight = torch.randn(b, g, k, k, h, w, generator=gen, dtype=torch.float64)
    return x, weight


def _by_loops(x, weight):
    """The formula of the docstring, written out."""
    (_, c, h, w), (g, k) = x.shape, weight.shape[1:3]
    out = torch.zeros_like(x)
    for i in range(k):
        for j in range(k):
            for y in range(max(0, k // 2 - i), min(h, h + k // 2 - i)):
                for z in range(max(0, k // 2 - j), min(w, w + k // 2 - j)):
                    taps = weight[:, :, i, j, y, z].repeat_interleave(c // g, 1)  # (B, C)
                    out[:, :, y, z] += taps * x[:, :, y + i - k // 2, z + j - k // 2]
    return out


@pytest.mark.parametrize('shape', SHAPES)
def test_inhomogeneous_follows_its_formula(shape):
    x, weight = _inputs(*shape)
    torch.testing.assert_close(inhomogeneous_depthwise_conv2d(x, weight), _by_loops(x, weight))


@pytest.mark.parametrize('shape', SHAPES)
def test_inhomogeneous_with_constant_weights_is_dynamic(shape):
    x, weight = _inputs(*shape)
    b, c, g, h, w, k = shape
    kernels = weight[..., :1, :1]
    per_channel = kernels[..., 0, 0].repeat_interleave(c // g, 1)  # (B, C, K, K)
    everywhere = kernels.expand(b, g, k, k, h, w)
    torch.testing.assert_close(
        inhomogeneous_depthwise_conv2d(x, everywhere), dynamic_depthwise_conv2d(x, per_channel)
    )


@pytest.mark.parametrize('shape', SHAPES)
def test_dynamic_with_equal_weights_is_conv2d(shape):
    b, c, _, h, w, k = shape
    x, _ = _inputs(*shape)
    kernel, bias = torch.randn(c, k, k, dtype=x.dtype), torch.randn(c, dtype=x.dtype)
    expected = F.conv2d(x, kernel[:, None], bias, padding=k // 2, groups=c)
    torch.testing.assert_close(dynamic_depthwise_conv2d(x, kernel.expand(b, c, k, k), bias), expected)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_gradients(layout):
    x, weight = _inputs(2, 4, 2, 3, 5, 3)
    x = x.contiguous(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(inhomogeneous_depthwise_conv2d, (x, weight.requires_grad_()))
    kernels = torch.randn(2, 4, 3, 3, dtype=x.dtype, requires_grad=True)
    bias = torch.randn(4, dtype=x.dtype, requires_grad=True)
    assert torch.autograd.gradcheck(dynamic_depthwise_conv2d, (x, kernels, bias))


@pytest.mark.parametrize(
    ('op', 'x', 'weight', 'named'),
    [
        (dynamic_depthwise_conv2d, (2, 4, 5, 5), (2, 3, 3, 3), 'same B and C'),
        (dynamic_depthwise_conv2d, (2, 4, 5, 5), (2, 4, 4, 4), 'odd side'),
        (dynamic_depthwise_conv2d, (2, 4, 5, 5), (2, 4, 3, 5), '3 x 5'),
        (inhomogeneous_depthwise_conv2d, (2, 4, 5, 5), (2, 3, 3, 3, 5, 5), 'divisor of C'),
        (inhomogeneous_depthwise_conv2d, (2, 4, 5, 6), (2, 2, 3, 3, 5, 5), r'\(2, 4, 5, 6\)'),
        (inhomogeneous_depthwise_conv2d, (2, 4, 5, 5), (2, 2, 2, 2, 5, 5), 'odd side'),
    ],
)
def test_shapes_that_do_not_fit_are_named(op, x, weight, named):
    with pytest.raises(ValueError, match=named):
        op(torch.zeros(x), torch.zeros(weight))


def test_a_bias_of_the_wrong_length_is_named():
    with pytest.raises(ValueError, match=r'bias \(4,\)'):
        dynamic_depthwise_conv2d(torch.zeros(2, 4, 5, 5), torch.zeros(2, 4, 3, 3), torch.zeros(8))


@pytest.mark.parametrize('dtype', HALF_DTYPES)
def test_the_dtype_stays_and_must_be_one(dtype):
    x, weight = torch.randn(2, 4, 5, 6, dtype=dtype), torch.randn(2, 2, 3, 3, 5, 6, dtype=dtype)
    assert inhomogeneous_depthwise_conv2d(x, weight).dtype == dtype
    kernels, bias = torch.randn(2, 4, 3, 3, dtype=dtype), torch.randn(4, dtype=dtype)
    assert dynamic_depthwise_conv2d(x, kernels, bias).dtype == dtype
    with pytest.raises(ValueError, match='x and bias of one dtype'):
        dynamic_depthwise_conv2d(x, kernels, bias.float())
    for op, other in ((dynamic_depthwise_conv2d, kernels), (inhomogeneous_depthwise_conv2d, weight)):
        with pytest.raises(ValueError, match='one dtype'):
            op(x.float(), other)


def test_one_device_and_a_floating_dtype():
    x, weight = torch.ones(1, 2, 4, 4), torch.ones(1, 2, 3, 3)
    with pytest.raises(ValueError, match='on one device, got cpu and meta'):
        dynamic_depthwise_conv2d(x, weight.to('meta'))
    with pytest.raises(ValueError, match='floating dtype, got torch.int64'):
        dynamic_depthwise_conv2d(x.long(), weight.long())


def test_an_empty_batch():
    x = torch.randn(0, 4, 5, 6, requires_grad=True)
    out = dynamic_depthwise_conv2d(x, torch.randn(0, 4, 3, 3), torch.zeros(4))
    assert out.shape == inhomogeneous_depthwise_conv2d(x, torch.randn(0, 2, 3, 3, 5, 6)).shape == x.shape
    out.sum().backward()
    assert x.grad.shape == x.shape
