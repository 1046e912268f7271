"""The Linear over channels: what `F.linear` and `F.gelu` compute, fused or not."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.ops import pointwise_linear


def plain(x, weight, bias, gelu):
    out = F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.gelu(out) if gelu else out


def inputs(dtype=torch.float32, size=(2, 6, 5, 7)):
    gen = torch.Generator().manual_seed(0)
    shapes = (size, (11, size[1]), (11,))
    x, weight, bias = (torch.randn(shape, generator=gen).to(dtype) for shape in shapes)
    return x.contiguous(memory_format=torch.channels_last), weight, bias


# float32: another order of 6 products, another erf. Half precision: its rounding, before and after the GELU
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('gelu', [True, False])
def test_equals_linear_and_gelu(gelu, with_bias, dtype):
    x, weight, bias = inputs(dtype)
    bias = bias if with_bias else None
    expected = plain(x.double(), weight.double(), None if bias is None else bias.double(), gelu)
    for grad in (True, False):
        weight = weight.requires_grad_(grad)
        out = pointwise_linear(x, weight, bias, gelu)
        assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(
            out.double(), expected, rtol=0, atol=TOLERANCES[dtype] * expected.abs().max().item()
        )


@pytest.mark.parametrize('gelu', [True, False])
def test_gradients(gelu):
    x, weight, bias = (tensor.requires_grad_() for tensor in inputs(torch.float64, (2, 3, 2, 3)))
    assert torch.autograd.gradcheck(lambda *args: pointwise_linear(*args, gelu=gelu), (x, weight, bias))


def test_autocast_and_an_empty_batch():
    x, weight, bias = inputs()
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
        out = pointwise_linear(x, weight, bias, gelu=True)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), plain(x, weight, bias, True), rtol=0, atol=5e-2)
    with torch.no_grad():
        assert pointwise_linear(x[:0], weight, bias, gelu=True).shape == (0, 11, 5, 7)
