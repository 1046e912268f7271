"""The exportable forms compute what the ops compute."""

import pytest
import torch

from mmdwnet.ops import dynamic_depthwise_conv2d, inhomogeneous_depthwise_conv2d
from mmdwnet.ops.export import shifted_dynamic_depthwise_conv2d, shifted_inhomogeneous_depthwise_conv2d

SIZES = [(1, 6, 5, 9), (3, 4, 11, 2), (2, 6, 1, 1)]  # the last two smaller than a kernel


@pytest.mark.parametrize('kernel_size', [1, 3, 7])
@pytest.mark.parametrize('size', SIZES)
def test_dynamic(size, kernel_size):
    x = torch.randn(size, dtype=torch.float64)
    weight = torch.randn(*size[:2], kernel_size, kernel_size, dtype=torch.float64)
    bias = torch.randn(size[1], dtype=torch.float64)
    expected = dynamic_depthwise_conv2d(x, weight, bias)
    torch.testing.assert_close(shifted_dynamic_depthwise_conv2d(x, weight, bias), expected)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('kernel_size', [1, 3, 7])
@pytest.mark.parametrize('size', SIZES)
def test_inhomogeneous(size, kernel_size, groups):
    x = torch.randn(size, dtype=torch.float64)
    weight = torch.randn(size[0], groups, kernel_size, kernel_size, *size[2:], dtype=torch.float64)
    expected = inhomogeneous_depthwise_conv2d(x, weight)
    torch.testing.assert_close(shifted_inhomogeneous_depthwise_conv2d(x, weight), expected)
