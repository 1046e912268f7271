"""The effective receptive field is what a network can see, and how much of it counts."""

import pytest
import torch
from torch import nn

from mmdwnet.analysis.receptive_field import receptive_fields, square_with
from mmdwnet.backbones import DWNet, IsotropicNet
from mmdwnet.errors import UserError
from mmdwnet.mixers.norm import LayerNorm2d

IMAGES = torch.randn(1, 3, 21, 26, generator=torch.Generator().manual_seed(3))


class OneConvolution(nn.Conv2d):
    def forward(self, x):
        return (super().forward(x),)


@pytest.mark.parametrize('random', [False, True])
def test_of_one_convolution_it_is_the_kernel(random):
    torch.manual_seed(0)
    net = OneConvolution(3, 1, (5, 3), padding=(2, 1))
    ((name, (field, centre)),) = receptive_fields(net, IMAGES, samples=3, random=random).items()
    assert name == 'output 0' and centre == (10.5, 13.5)
    expected = torch.zeros(21, 26)
    expected[8:13, 12:15] = net.weight[0].abs().mean(0)
    torch.testing.assert_close(field, expected.detach())
    assert torch.equal(field != 0, expected != 0)


def test_a_norm_over_the_channels_does_not_hide_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), LayerNorm2d(8))
    field, _ = receptive_fields(net, IMAGES, samples=8)['output 0']
    assert (field[8:13, 11:16] > 0.01).all()  # the sum of all channels has gradients of 1e-7 here


def test_of_a_pyramid_it_grows_with_the_stages_by_the_kernels():
    net = DWNet(dict(embed_dims=8, depths=(1, 2)), dict(type='DepthwiseConv', kernel_size=3)).eval()
    seen = []
    fields = receptive_fields(net, torch.randn(1, 3, 96, 96), samples=4, progress=lambda: seen.append(1))
    assert list(fields) == ['stage 0', 'stage 1'] and len(seen) == 4
    # 3 patches of 4 pixels; 5 of 8 pixels, and one of 4 more at each end, which stage 0 adds
    for (field, centre), side in zip(fields.values(), (12, 48), strict=True):
        used = field != 0
        assert [int(used.any(dim).sum()) for dim in (0, 1)] == [side, side]
        middle = [float((used.any(1 - dim).nonzero().double() + 0.5).mean()) for dim in (0, 1)]
        assert middle == list(centre)


@pytest.mark.parametrize('class_token', [False, True])
def test_of_attention_over_all_positions_it_is_the_whole_image(class_token):
    net = IsotropicNet(
        dict(embed_dims=16, depth=6),
        dict(type='GlobalAttention', head_channels=8),
        patch_size=8,
        class_token=class_token,
    ).eval()
    fields = receptive_fields(net, IMAGES, samples=2)
    assert list(fields) == ['block 1', 'block 2', 'block 4', 'block 5']
    for field, centre in fields.values():
        assert field.shape == (21, 26) and (field > 0).all() and centre[0] == 10.5
        largest = divmod(int(field.argmax()), 26)
        assert largest[0] // 8 == 1 and largest[1] // 8 == 2  # the residual path from its own patch counts most


def test_the_square_that_holds_a_share():
    field = torch.zeros(11, 11)
    field[4:7, 4:7] = 1
    field[0, 0] = 1
    assert square_with(field, (5.5, 5.5), 0.9) == 3
    assert square_with(field, (5.5, 5.5), 0.95) == 11
    assert square_with(field, (5.5, 5.5), 0.1) == 1


def test_a_backbone_without_maps_is_named():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 21 * 26, 4))
    with pytest.raises(UserError, match='Sequential returns no maps'):
        receptive_fields(net, IMAGES)
