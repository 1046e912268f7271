"""The published way to compute is the same function as this project's: only then can their speeds be compared."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mmdwnet import DWNet
from mmdwnet.analysis.benchmark.as_published import GROUPS, AsPublished, grouped_convolution, unfolded
from mmdwnet.ops import dynamic_depthwise_conv2d, inhomogeneous_depthwise_conv2d

MIXERS = ('DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv')
FORMS = [(mixer, True) for mixer in MIXERS] + [(mixer, False) for mixer in MIXERS[:2]]


@pytest.fixture(params=FORMS, ids=lambda form: form[0] + ('' if form[1] else ', no copies'))
def pair(request):
    """A DWNet with statistics as if it had been trained, and the published form with its weights."""
    mixer, copies = request.param
    torch.manual_seed(0)
    ours, published = DWNet('nano', mixer).double(), AsPublished('nano', mixer, 10, copies=copies).double()
    for module in ours.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias)
    head = {f'head.{name}': value for name, value in published.head.state_dict().items()}
    published.load_state_dict({**ours.state_dict(), **head})  # strict: the same keys and shapes
    return ours, published


def logits(ours, published, images):
    return published.head(ours(images)[-1].mean((2, 3)))


@pytest.mark.parametrize('sides', [(64, 64), (64, 96)])
def test_equal_in_inference(pair, sides):
    ours, published = (net.eval() for net in pair)
    images = torch.randn(2, 3, *sides, dtype=torch.float64)
    torch.testing.assert_close(published(images), logits(ours, published, images), rtol=1e-9, atol=1e-9)


def test_equal_gradients_and_statistics_in_training(pair):
    ours, published = (net.train() for net in pair)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    weights = torch.randn(4, 10, dtype=torch.float64)
    (logits(ours, published, images) * weights).sum().backward()
    published.zero_grad()  # the head's, which both went through
    (published(images) * weights).sum().backward()
    theirs = dict(published.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=1e-6, atol=1e-9)
    theirs = dict(published.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(theirs[name], buffer)


def test_published_forms_of_the_ops_are_the_ops():
    x, bias = torch.randn(2, 64, 5, 9), torch.randn(64)
    weight = torch.randn(2, 64, 7, 7)
    expected = dynamic_depthwise_conv2d(x, weight, bias, impl='reference')
    torch.testing.assert_close(grouped_convolution(x, weight, bias), expected, rtol=1e-4, atol=1e-4)
    weight = torch.randn(2, GROUPS, 7, 7, 5, 9)
    expected = inhomogeneous_depthwise_conv2d(x, weight, impl='reference')
    torch.testing.assert_close(unfolded(x, weight), expected, rtol=1e-4, atol=1e-4)


def test_drop_path_rises_to_its_rate():
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.0)
        for stage in AsPublished('nano', MIXERS[0], drop_path_rate=0.4).stages
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
