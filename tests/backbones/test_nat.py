"""The pyramid with neighbourhood attention is NAT: its published sizes, and that it runs, compiles and learns."""

import pytest
import torch
from torch import nn

import mmdwnet
from mmdwnet.analysis.complexity import count, without_weights


class Classifier(nn.Module):
    def __init__(self, arch):
        super().__init__()
        self.backbone = mmdwnet.DWNet(arch)
        self.head = nn.Linear(self.backbone.channels[-1], 1000)

    def forward(self, x):
        return self.head(self.backbone(x)[-1].mean((2, 3)))


# the parameters in millions and GFLOPs at 224 x 224 of Hassani et al. (CVPR 2023), at the digits that they print
@pytest.mark.parametrize(
    ('arch', 'millions', 'gflops'),
    [('mini', 20, 2.7), ('tiny', 28, 4.3), ('small', 51, 7.8), ('base', 90, 13.7)],
)
def test_sizes_are_the_published_ones(arch, millions, gflops):
    with without_weights():
        model = Classifier(f'nat-{arch}')
    counts = count(model, torch.zeros(1, 3, 224, 224))
    assert round(counts.params / 1e6) == millions
    assert round(counts.flops / 1e9, 1) == gflops
    assert counts.uncounted == ()


def parameters_by_hand(width, depths, ratio, scaled):
    """Of the network of SHI-Labs/Neighborhood-Attention-Transformer@3cf9a29 with a head of 1000 classes."""
    stem = 3 * width // 2 * 9 + width // 2 + width // 2 * width * 9 + width + 2 * width
    total = stem
    for i, depth in enumerate(depths):
        channels = width * 2**i
        attention = 4 * channels * channels + 4 * channels + channels // 32 * 13**2
        mlp = 2 * channels * ratio * channels + ratio * channels + channels
        total += depth * (attention + mlp + 4 * channels + 2 * channels * scaled)
        if i < len(depths) - 1:
            total += channels * 2 * channels * 9 + 4 * channels
    last = width * 2 ** (len(depths) - 1)
    return total + 2 * last + last * 1000 + 1000


@pytest.mark.parametrize(
    ('arch', 'sizes'),
    [
        ('mini', (64, (3, 4, 6, 5), 3, False)),
        ('tiny', (64, (3, 4, 18, 5), 3, False)),
        ('small', (96, (3, 4, 18, 5), 2, True)),
        ('base', (128, (3, 4, 18, 5), 2, True)),
    ],
)
def test_parameters_to_the_last_one(arch, sizes):
    with without_weights():
        model = Classifier(f'nat-{arch}')
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters_by_hand(*sizes)


def test_a_training_step_on_an_odd_image():
    """61 x 45: the maps of the last two stages are smaller than a neighbourhood."""
    torch.manual_seed(0)
    net = mmdwnet.DWNet('nat-nano', out_indices=(0, 1, 2, 3)).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    image = torch.randn(2, 3, 61, 45)
    losses = []
    for _ in range(3):
        maps = net(image)
        loss = sum((features - 1).square().mean() for features in maps)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert [tuple(features.shape[1:]) for features in maps] == [(32, 16, 12), (64, 8, 6), (128, 4, 3), (256, 2, 2)]
    assert losses[0] > losses[1] > losses[2]


def test_checkpointing_of_blocks_changes_nothing():
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = mmdwnet.DWNet('nat-nano', with_cp=with_cp).train()
        net(torch.randn(1, 3, 45, 61))[-1].square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-7)


def test_compiles_in_one_graph():
    torch._dynamo.reset()
    net = mmdwnet.DWNet('nat-nano').eval()
    image = torch.randn(1, 3, 90, 75)
    with torch.no_grad():
        compiled = torch.compile(net, backend='aot_eager', fullgraph=True)(image)
        torch.testing.assert_close(compiled[0], net(image)[0], rtol=1e-4, atol=1e-5)
