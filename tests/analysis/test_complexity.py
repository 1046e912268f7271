"""Counting: known operations against their formula, whole networks against mmengine's own jit analyzers."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from torch import nn

import mmdwnet
from mmdwnet.analysis.complexity import RecordedFlops, Recording, count, without_weights
from mmdwnet.ops import dynamic_depthwise_conv2d, inhomogeneous_depthwise_conv2d


class Call(nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def flops_and_activations(function, *shapes):
    counts = count(Call(function), *(torch.zeros(shape) for shape in shapes))
    assert not counts.uncounted
    return counts.flops, counts.activations


@pytest.mark.parametrize('batch', [1, 3])
def test_dynamic_convolution_counts_every_tap_of_every_channel(batch):
    counts = flops_and_activations(dynamic_depthwise_conv2d, (batch, 6, 9, 5), (batch, 6, 7, 7))
    assert counts == (batch * 6 * 49 * 9 * 5, batch * 6 * 9 * 5)


@pytest.mark.parametrize('groups', [1, 2, 6])
def test_inhomogeneous_convolution_counts_as_the_dynamic_one(groups):
    counts = flops_and_activations(inhomogeneous_depthwise_conv2d, (2, 6, 9, 5), (2, groups, 3, 3, 9, 5))
    assert counts == (2 * 6 * 9 * 9 * 5, 2 * 6 * 9 * 5)


def test_products_without_patches_are_free():
    assert flops_and_activations(
        lambda x, y: F.unfold(x, 3).sum() + (x * y).sum(), (1, 2, 8, 8), (1, 2, 8, 8)
    ) == (0, 0)


def attention_by_hand(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@pytest.mark.parametrize('device', ['meta', 'cpu'])
def test_attention_counts_both_of_its_products(device):
    """On the meta device and where a fused kernel hides them: the recording sees what each device runs."""
    shapes = (2, 3, 10, 8), (2, 3, 7, 8), (2, 3, 7, 8)
    by_hand = flops_and_activations(attention_by_hand, *shapes)
    assert by_hand == (2 * 3 * 10 * 7 * (8 + 8), 2 * 3 * 10 * (7 + 8))
    inputs = tuple(torch.zeros(shape, device=device) for shape in shapes)
    recording = Recording(Call(F.scaled_dot_product_attention), inputs)
    assert RecordedFlops(recording).total() == by_hand[0]


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


def test_multihead_attention_is_not_one_opaque_operation():
    counts = count(SelfAttention(), torch.zeros(1, 10, 8))
    assert not counts.uncounted
    assert counts.flops == 10 * 8 * 24 + 2 * 10 * 10 * (4 + 4) + 10 * 8 * 8


@pytest.mark.parametrize('name', ['resnet18', 'convnext_tiny', 'vit_b_16'])
def test_agrees_with_mmengines_jit_analyzers(name):
    """All but adaptive pooling, which mmengine counts and this project does not."""
    model = torchvision.models.get_model(name).eval()
    image = torch.zeros(1, 3, 224, 224)
    flops, activations = FlopAnalyzer(model, image), ActivationAnalyzer(model, image)
    for analyzer in (flops, activations):
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    if name == 'vit_b_16':  # the trace does not see the products inside the fused attention
        attention = 12 * 12 * 197 * 197 * 64
        expected = flops.total() + 2 * attention, activations.total() + 12 * 12 * 197 * (197 + 64)
    else:
        expected = flops.total() - flops.by_operator()['adaptive_avg_pool2d'], activations.total()
    counts = count(model, image)
    assert (counts.flops, counts.activations) == expected
    assert not counts.uncounted


def test_unknown_operations_are_named():
    counts = count(
        Call(lambda x: torch.fft.rfft(x) @ torch.zeros(5, 2, dtype=torch.cfloat, device='meta')), torch.zeros(3, 8)
    )
    assert dict(counts.uncounted) == {'aten::_fft_r2c': 1}
    assert counts.flops == 3 * 5 * 2


def test_new_modules_have_no_weights():
    with without_weights():
        model = mmdwnet.DWNet('base', mixer='DynamicDepthwiseConv', drop_path_rate=0.5)
    assert all(param.is_meta for param in model.parameters())
    assert sum(param.numel() for param in model.parameters()) > 160e6
    assert not torch.zeros(1).is_meta


def test_counts_belong_to_the_modules_that_ran_them():
    with without_weights():
        model = mmdwnet.DWNet('nano')
    flops = RecordedFlops(Recording(model, (torch.zeros(1, 3, 64, 64, device='meta'),))).by_module()
    assert flops['patch_embed'] == 48 * 32 * 16 * 16 + 5 * 32 * 16 * 16  # convolution and LayerNorm
    parts = ['patch_embed', 'norm_ln3', *(f'stages.{i}.downsample' for i in range(4))]
    parts += [f'stages.{i}.blocks.{j}' for i, depth in enumerate(model.depths) for j in range(depth)]
    assert flops[''] == sum(flops[name] for name in parts)
