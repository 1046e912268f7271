"""Linformer's and PVT's attention against plain matrices, torch's own attention, and the one they approximate."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.mixers import GlobalAttention, LinformerAttention, PyramidAttention

# float64: sums of some dozens of terms of unit size, taken in another order
EXACT = dict(rtol=1e-10, atol=1e-10)


def randomised(mixer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return mixer.double().eval()


def random_map(*size):
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_linformer_is_attention_to_projected_keys_and_values():
    mixer = randomised(LinformerAttention(12, head_channels=4, projected=5, map_size=(3, 7)))
    x = random_map(2, 12, 3, 7)
    for image, out in zip(x, mixer(x), strict=True):
        tokens = image.flatten(1).t()  # (N, C)
        q, k, v = (tokens @ mixer.qkv.weight.t() + mixer.qkv.bias).split(12, 1)
        k, v = mixer.of_keys @ k, mixer.of_values @ v  # (5, C)
        heads = [
            (q[:, own] @ k[:, own].t() / 2).softmax(1) @ v[:, own]  # the root of 4 channels
            for own in (slice(0, 4), slice(4, 8), slice(8, 12))
        ]
        expected = torch.cat(heads, 1) @ mixer.proj.weight.t() + mixer.proj.bias
        torch.testing.assert_close(out.flatten(1).t(), expected, **EXACT)


@torch.no_grad()
def test_linformer_that_projects_nothing_is_attention():
    full = randomised(GlobalAttention(12, head_channels=4))
    mixer = LinformerAttention(12, head_channels=4, projected=15, map_size=(3, 5)).double()
    mixer.load_state_dict(full.state_dict() | dict(of_keys=torch.eye(15), of_values=torch.eye(15)))
    x = random_map(2, 12, 3, 5)
    torch.testing.assert_close(mixer(x), full(x), **EXACT)


@pytest.mark.parametrize('size', [(6, 10), (1, 1), (2, 9), (31, 4)])
@torch.no_grad()
def test_linformer_sees_the_same_in_a_uniform_map_of_any_size(size):
    """Resized weights sum to what they sum to at their own size; exactly so where they are equal, as here."""
    mixer = randomised(LinformerAttention(8, head_channels=4, projected=5, map_size=(3, 5)))
    with_equal_rows = torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mixer.of_keys.copy_(with_equal_rows.expand(-1, 15))
    mixer.of_values.copy_(with_equal_rows.flip(0).expand(-1, 15))
    colour = random_map(1, 8, 1, 1)
    expected = mixer(colour.expand(-1, -1, 3, 5))[:, :, :1, :1]
    torch.testing.assert_close(mixer(colour.expand(-1, -1, *size)), expected.expand(-1, -1, *size), **EXACT)


@pytest.mark.parametrize('reduction', [1, 2, 3, 8])
@pytest.mark.parametrize('size', [(6, 12), (7, 5), (1, 1)])
@torch.no_grad()
def test_pyramid_attention_is_multi_head_attention_to_the_reduced_map(reduction, size):
    """torch's own, where the patches at the edges are filled with zeros."""
    mixer = randomised(PyramidAttention(12, head_channels=4, reduction=reduction))
    x = random_map(2, 12, *size)
    reduced = F.pad(x, (0, -size[1] % reduction, 0, -size[0] % reduction))
    if reduction > 1:
        conv, norm = mixer.reduce
        reduced = F.conv2d(reduced, conv.weight, conv.bias, stride=reduction)
        centred = reduced - reduced.mean(1, keepdim=True)
        normed = centred / (reduced.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        reduced = normed * norm.weight[:, None, None] + norm.bias[:, None, None]
    q, kv = x.flatten(2).permute(2, 0, 1), reduced.flatten(2).permute(2, 0, 1)  # (N, B, C), (M, B, C)
    expected, _ = F.multi_head_attention_forward(
        q, kv, kv, 12, 3,
        torch.cat((mixer.q.weight, mixer.kv.weight)), torch.cat((mixer.q.bias, mixer.kv.bias)),
        None, None, False, 0.0, mixer.proj.weight, mixer.proj.bias, training=False,
    )  # fmt: skip
    torch.testing.assert_close(mixer(x).flatten(2).permute(2, 0, 1), expected, **EXACT)


def test_pyramid_attention_weighs_all_values_of_a_patch_alike():
    mixer = randomised(PyramidAttention(8, head_channels=4, reduction=2))
    values, source = mixer.prepare(random_map(1, 8, 4, 6))
    values = values.detach().requires_grad_()
    (weights,) = torch.autograd.grad(mixer.mix(values, source)[0, 3, 1, 2], values)
    patches = weights[0, 3].unflatten(1, (3, 2)).unflatten(0, (2, 2))  # (2, 2, 3, 2)
    torch.testing.assert_close(patches, patches[:, :1, :, :1].expand_as(patches), **EXACT)
    # a softmax, spread over the patches
    torch.testing.assert_close(weights[0, 3].sum(), torch.tensor(1.0, dtype=torch.float64), **EXACT)
    assert weights[0, [0, 1, 2, 4, 5, 6, 7]].abs().max() == 0


@pytest.mark.parametrize(
    ('mixer', 'options', 'message'),
    [
        (LinformerAttention, dict(head_channels=5), 'head_channels=5 and 32 channels'),
        (LinformerAttention, dict(head_channels=8, projected=0), 'projected must be a positive integer, got 0'),
        (PyramidAttention, dict(head_channels=64), 'head_channels=64 and 32 channels'),
        (PyramidAttention, dict(head_channels=8, reduction=1.5), 'reduction must be a positive integer, got 1.5'),
    ],
)
def test_bad_options_are_named(mixer, options, message):
    with pytest.raises(ValueError, match=message):
        mixer(32, **options)
