"""Convolutions, squeeze-and-excitation and spatial MLPs against their formulas, and against each other."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.mixers import (
    Convolution,
    DynamicLightweightConvolution,
    InhomogeneousDynamicDepthwiseConv,
    Involution,
    KernelBankConvolution,
    LightweightConvolution,
    SeparableConvolution,
    SpatialMlp,
    SqueezeExcitation,
)

# float64: sums of some hundred terms of unit size, taken in another order
EXACT = dict(rtol=1e-10, atol=1e-10)


def randomised(mixer, seed=0):
    """Every parameter and statistic random, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in (*mixer.parameters(), *mixer.buffers()):
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator).abs() * 0.3 + 0.05)
                value.mul_(torch.ones(value.shape).bernoulli_(0.5, generator=generator) * 2 - 1)
    for name, value in mixer.named_buffers():
        if name.endswith('running_var'):
            value.abs_()
    return mixer.double().eval()


def random_map(*size):
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(layer, x):
    """A Linear over the channels of a map."""
    out = torch.einsum('oc,bchw->bohw', layer.weight, x)
    return out if layer.bias is None else out + layer.bias[:, None, None]


def neighbours(x, side):
    """(B, C, H, W) -> (B, C, K * K, H, W), zeros outside, by shifting the map."""
    half, (height, width) = side // 2, x.shape[2:]
    padded = F.pad(x, (half,) * 4)
    return torch.stack([padded[:, :, i : i + height, j : j + width] for i in range(side) for j in range(side)], 2)


@torch.no_grad()
def test_convolution_sums_over_neighbours_and_channels():
    mixer, x = randomised(Convolution(6, kernel_size=5)), random_map(2, 6, 7, 4)
    expected = torch.einsum('ock,bckhw->bohw', mixer.conv.weight.flatten(2), neighbours(x, 5))
    torch.testing.assert_close(mixer(x), expected + mixer.conv.bias[:, None, None], **EXACT)


@torch.no_grad()
def test_separable_convolution_sums_over_neighbours_then_over_channels():
    mixer, x = randomised(SeparableConvolution(6, kernel_size=5)), random_map(2, 6, 7, 4)
    kernels, bias = mixer.depthwise.weight.flatten(1), mixer.depthwise.bias
    mixed = torch.einsum('ck,bckhw->bchw', kernels, neighbours(x, 5)) + bias[:, None, None]
    torch.testing.assert_close(mixer(x), linear(mixer.proj, mixed), **EXACT)


def pooled_mlp(layers, image):
    """(C, H, W) -> (out,)"""
    hidden = (layers.fc1.weight @ image.mean((1, 2)) + layers.fc1.bias).clamp(min=0)
    return layers.fc2.weight @ hidden + layers.fc2.bias


@torch.no_grad()
def test_a_kernel_bank_gives_every_image_one_convolution():
    mixer, x = randomised(KernelBankConvolution(8, kernels=3, temperature=0.5)), random_map(2, 8, 5, 9)
    shares = []
    for image, out in zip(x, mixer(x), strict=True):
        shares.append((pooled_mlp(mixer.attention, image) / 0.5).softmax(0))
        weight = sum(share * kernel for share, kernel in zip(shares[-1], mixer.weight, strict=True))
        bias = sum(share * value for share, value in zip(shares[-1], mixer.bias, strict=True))
        torch.testing.assert_close(out, F.conv2d(image, weight, bias, padding=1), **EXACT)
    assert (shares[0] - shares[1]).abs().max() > 1e-3  # or the images' kernels would have been the same


@torch.no_grad()
def test_a_bank_of_equal_kernels_is_a_convolution():
    mixer, plain = randomised(KernelBankConvolution(8)), randomised(Convolution(8))
    mixer.weight.copy_(plain.conv.weight.expand_as(mixer.weight))
    mixer.bias.copy_(plain.conv.bias.expand_as(mixer.bias))
    x = random_map(2, 8, 5, 9)
    torch.testing.assert_close(mixer(x), plain(x), **EXACT)


@pytest.mark.parametrize(('groups', 'expected_groups'), [(None, 2), (1, 1), (4, 4), (32, 32)])
@torch.no_grad()
def test_involution_sums_neighbours_by_kernels_made_at_the_position(groups, expected_groups):
    mixer, x = randomised(Involution(32, 5, groups)), random_map(2, 32, 7, 4)
    made = mixer.aggregate
    hidden = torch.einsum('oc,bchw->bohw', made.reduce.weight[:, :, 0, 0], x) + made.reduce.bias[:, None, None]
    scale = made.bn.weight / (made.bn.running_var + made.bn.eps).sqrt()
    hidden = (hidden - made.bn.running_mean[:, None, None]) * scale[:, None, None] + made.bn.bias[:, None, None]
    kernels = torch.einsum('oc,bchw->bohw', made.expand.weight[:, :, 0, 0], hidden.clamp(min=0))
    kernels = (kernels + made.expand.bias[:, None, None]).unflatten(1, (expected_groups, 25))
    patches = neighbours(x, 5).unflatten(1, (expected_groups, -1))  # (B, G, C / G, K * K, H, W)
    expected = (patches * kernels.unsqueeze(2)).sum(3).flatten(1, 2)
    torch.testing.assert_close(mixer(x), expected, **EXACT)


def test_involution_is_the_middle_of_inhomogeneous_dynamic_convolution():
    ours = Involution(32, 7, groups=8).state_dict()
    theirs = InhomogeneousDynamicDepthwiseConv(32, 7, groups=8).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items() if key.startswith('aggregate')
    }


def gated(mixer, x):
    values, gates = linear(mixer.glu, x).split(x.shape[1], 1)
    return values / (1 + torch.exp(-gates))


@torch.no_grad()
def test_lightweight_convolution_takes_weighted_means_of_neighbours():
    mixer, x = randomised(LightweightConvolution(12, share_channels=4, kernel_size=5)), random_map(2, 12, 7, 4)
    kernels = (mixer.weight.exp() / mixer.weight.exp().sum(1, keepdim=True)).repeat_interleave(4, 0)
    mixed = torch.einsum('ck,bckhw->bchw', kernels, neighbours(gated(mixer, x), 5))
    torch.testing.assert_close(mixer(x), linear(mixer.proj, mixed), **EXACT)


@torch.no_grad()
def test_dynamic_lightweight_convolution_takes_them_by_kernels_made_at_the_position():
    mixer = randomised(DynamicLightweightConvolution(12, share_channels=4, kernel_size=5))
    values = gated(mixer, x := random_map(2, 12, 7, 4))
    kernels = linear(mixer.kernels, values).unflatten(1, (3, 25)).exp()  # (B, G, K * K, H, W)
    kernels = kernels / kernels.sum(2, keepdim=True)
    mixed = (neighbours(values, 5).unflatten(1, (3, 4)) * kernels.unsqueeze(2)).sum(3).flatten(1, 2)
    torch.testing.assert_close(mixer(x), linear(mixer.proj, mixed), **EXACT)


@torch.no_grad()
def test_squeeze_excitation_weighs_the_channels_of_an_image():
    mixer, x = randomised(SqueezeExcitation(8)), random_map(2, 8, 5, 9)
    for image, out in zip(x, mixer(x), strict=True):
        weights = 1 / (1 + torch.exp(-pooled_mlp(mixer.excite, image)))
        torch.testing.assert_close(out, weights[:, None, None] * image, **EXACT)


@torch.no_grad()
def test_a_spatial_mlp_without_hidden_is_one_matrix_over_the_positions():
    mixer, x = randomised(SpatialMlp(4, map_size=(3, 5))), random_map(2, 4, 3, 5)
    expected = x.flatten(2) @ mixer.weight.t() + mixer.bias  # (B, C, N)
    torch.testing.assert_close(mixer(x), expected.view_as(x), **EXACT)


@torch.no_grad()
def test_a_spatial_mlp_with_hidden_is_two_with_a_gelu_between():
    mixer, x = randomised(SpatialMlp(4, hidden=6, map_size=(3, 5))), random_map(2, 4, 3, 5)
    hidden = x.flatten(2) @ mixer.weight_in.t() + mixer.bias_in
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    expected = hidden @ mixer.weight.t() + mixer.bias
    torch.testing.assert_close(mixer(x), expected.view_as(x), **EXACT)


@pytest.mark.parametrize('hidden', [None, 6])
@torch.no_grad()
def test_a_resized_spatial_mlp_does_the_same_to_an_image_of_twice_the_size(hidden):
    """Exactly so at the ends of a map whose weights change at its middle alone."""
    mixer = randomised(SpatialMlp(4, hidden, map_size=(2, 8)))
    first_in_half = torch.arange(16) % 8 // 4 * 4  # the position of row 0 that stands for the half
    if hidden is None:
        mixer.weight.copy_(mixer.weight[first_in_half][:, first_in_half])
    else:
        mixer.weight.copy_(mixer.weight[first_in_half])
        mixer.weight_in.copy_(mixer.weight_in[:, first_in_half])
    mixer.bias.copy_(mixer.bias[first_in_half])
    x = random_map(2, 4, 1, 1).expand(-1, -1, 2, 8)
    larger = mixer(x.repeat(1, 1, 2, 2))
    for side in (slice(0, 1), slice(-1, None)):
        torch.testing.assert_close(larger[:, :, :1, side], mixer(x)[:, :, :1, side], **EXACT)


@pytest.mark.parametrize(
    ('mixer', 'options', 'message'),
    [
        (Convolution, dict(kernel_size=4), 'kernel_size must be an odd positive integer'),
        (SeparableConvolution, dict(kernel_size=0), 'kernel_size must be an odd positive integer'),
        (KernelBankConvolution, dict(kernels=0), 'kernels=0'),
        (KernelBankConvolution, dict(temperature=0), 'temperature=0'),
        (KernelBankConvolution, dict(reduction=64), 'between 1 and the 32 channels .* got 64'),
        (SqueezeExcitation, dict(reduction=0), 'between 1 and the 32 channels .* got 0'),
        (Involution, dict(groups=5), 'groups=5 and 32 channels'),
        (Involution, dict(impl='fast'), "'fast'"),
        (LightweightConvolution, dict(share_channels=5), 'LightweightConvolution: share_channels .* 32 channels'),
        (DynamicLightweightConvolution, dict(kernel_size=2), 'kernel_size must be an odd positive integer'),
        (DynamicLightweightConvolution, dict(impl='fast'), "'fast'"),
        (SpatialMlp, dict(hidden=0), 'hidden must be a positive integer, got 0'),
    ],
)
def test_bad_options_are_named(mixer, options, message):
    with pytest.raises(ValueError, match=message):
        mixer(32, **options)
