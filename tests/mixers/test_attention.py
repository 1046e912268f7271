"""Attention mixers against formulas written out by hand: activations, relative position, windows, tokens."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.mixers import DepthwiseGlobalAttention, DepthwiseWindowAttention, GlobalAttention, WindowAttention
from mmdwnet.mixers.attention import ACTIVATIONS
from mmdwnet.mixers.windows import Windows

# float64: products of some hundred terms of unit size, taken in another order
EXACT = dict(rtol=1e-10, atol=1e-10)


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.double().eval()


def activate(products, width, activation, apart=None):
    """The activation of one query's products with its keys, (M,); what is apart is left out of it."""
    seen = products if apart is None else products[~apart]
    if activation == 'softmax':
        seen = (seen / math.sqrt(width)).softmax(0)
    elif activation.startswith('scaling'):
        seen = seen / width
    elif activation.startswith('layernorm'):
        seen = (seen - seen.mean()) / torch.sqrt(seen.var(unbiased=False) + 1e-5)
    if activation.endswith('relu'):
        seen = seen.clamp(min=0)
    weights = torch.zeros_like(products)
    weights[torch.ones_like(products, dtype=torch.bool) if apart is None else ~apart] = seen
    return weights


def bias_between(table, size, position, other):
    """The entry of a (2H - 1)(2W - 1) table for the offset from one position to another."""
    row, column = position[0] - other[0] + size[0] - 1, position[1] - other[1] + size[1] - 1
    return table[row * (2 * size[1] - 1) + column]


def expected_attention(mixer, tokens, positions, size, apart=None):
    """(N, C) features of one image, their positions (None: a token beside the map) -> (N, C), by loops."""
    count, channels = tokens.shape
    q, k, v = (tokens @ mixer.qkv.weight.t() + mixer.qkv.bias).split(channels, 1)
    width = channels // mixer.heads
    out = torch.zeros_like(tokens)
    for head in range(mixer.heads):
        own = slice(head * width, (head + 1) * width)
        for i in range(count):
            bias = torch.zeros(count, dtype=tokens.dtype)
            if mixer.position is not None and positions[i] is not None:
                table = mixer.position.relative_position_bias_table[:, head]
                for j in range(count):
                    if positions[j] is not None:
                        bias[j] = bias_between(table, size, positions[i], positions[j])
            products = k[:, own] @ q[i, own]
            away = None if apart is None else apart[i]
            if mixer.activation == 'softmax':
                products = products + bias * math.sqrt(width)
                weights = activate(products, width, 'softmax', away)
            else:
                weights = activate(products, width, mixer.activation, away) + bias
                weights = weights if away is None else weights.masked_fill(away, 0)
            out[i, own] = weights @ v[:, own]
    return out @ mixer.proj.weight.t() + mixer.proj.bias


def grid(height, width):
    return [(i, j) for i in range(height) for j in range(width)]


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('activation', list(ACTIVATIONS))
def test_global_attention(activation, relative):
    mixer = randomise(GlobalAttention(12, 4, activation, relative, map_size=(3, 5)))
    x = torch.randn(2, 12, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = mixer(x)
    for image, its_out in zip(x, out, strict=True):
        expected = expected_attention(mixer, image.flatten(1).t(), grid(3, 5), (3, 5))
        torch.testing.assert_close(its_out.flatten(1).t(), expected, **EXACT)


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('activation', list(ACTIVATIONS))
def test_global_attention_with_tokens_beside_the_map(activation, relative):
    """A class token attends like any position, and has no relative position to any."""
    mixer = randomise(GlobalAttention(8, 4, activation, relative, map_size=(2, 9)))
    x = torch.randn(1, 8, 1, 2 + 18, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = mixer.forward_sequence(x, (2, 9))
    expected = expected_attention(mixer, x[0, :, 0].t(), [None, None, *grid(2, 9)], (2, 9))
    torch.testing.assert_close(out[0, :, 0].t(), expected, **EXACT)


def window_parts(height, width, side, shift):
    """For every window its positions, in rolled order, as (row, column) of the rolled, padded map and its part.

    Written by walking over the image: a position belongs to the window that its rolled place falls into, and to
    the part on its side of the seam where the roll put the two ends of the map beside each other.
    """
    rows, columns = -(-height // side) * side, -(-width // side) * side
    windows = {}
    for i in range(rows):
        for j in range(columns):
            source = (i + shift) % rows, (j + shift) % columns
            seam = i + shift >= rows, j + shift >= columns
            windows.setdefault((i // side, j // side), []).append((source, (i % side, j % side), seam))
    return rows, columns, windows


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('activation', list(ACTIVATIONS))
def test_window_attention(activation, shift, relative):
    """On a map that needs padding: what is padded takes part, for it is a position of the padded map."""
    height, width, side = 5, 8, 3
    mixer = randomise(WindowAttention(8, 4, side, shift, activation, relative))
    x = torch.randn(1, 8, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = mixer(x)
    rows, columns, windows = window_parts(height, width, side, side // 2 if shift else 0)
    padded = F.pad(x, (0, columns - width, 0, rows - height))[0]
    expected = torch.zeros_like(padded)
    for members in windows.values():
        tokens = torch.stack([padded[:, i, j] for (i, j), _, _ in members])
        apart = torch.tensor([[mine != other for *_, other in members] for *_, mine in members])
        mixed = expected_attention(mixer, tokens, [place for _, place, _ in members], (side, side), apart)
        for ((i, j), _, _), result in zip(members, mixed, strict=True):
            expected[:, i, j] = result
    torch.testing.assert_close(out[0], expected[:, :height, :width], **EXACT)


@pytest.mark.parametrize('size', [(7, 7), (5, 30), (7, 20)])
def test_a_map_of_one_window_is_not_shifted(size):
    """In either direction, as in Swin's classifiers."""
    plain, shifted = (randomise(WindowAttention(8, 4, 7, shift)) for shift in (False, True))
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(plain(x), shifted(x), rtol=0, atol=0)


@pytest.mark.parametrize('size', [(4, 4), (5, 11), (1, 1), (8, 3)])
@pytest.mark.parametrize('shift', [False, True])
def test_windows_cut_and_joined_are_the_map(size, shift):
    x = torch.randn(2, 3, *size)
    windows = Windows(size, 4, shift)
    assert torch.equal(windows.join(windows.cut(x)), x)


@pytest.mark.parametrize('relative', [False, True])
def test_depthwise_global_attention(relative):
    """The mean of the keys multiplies the query; relative position weighs the keys of the map."""
    mixer = randomise(DepthwiseGlobalAttention(8, 4, relative, map_size=(2, 3)))
    x = torch.randn(1, 8, 1, 1 + 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = mixer.forward_sequence(x, (2, 3))[0, :, 0].t()
    q, k = (x[0, :, 0].t() @ mixer.qk.weight.t() + mixer.qk.bias).split(8, 1)
    mixed = q * k.mean(0)
    if relative:
        for channel in range(8):
            table = mixer.position.relative_position_bias_table[:, channel // 4]
            for i, position in enumerate(grid(2, 3)):
                for j, other in enumerate(grid(2, 3)):
                    mixed[1 + i, channel] += bias_between(table, (2, 3), position, other) * k[1 + j, channel]
    torch.testing.assert_close(out, mixed @ mixer.proj.weight.t() + mixer.proj.bias, **EXACT)


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('shift', [False, True])
def test_depthwise_window_attention(shift, relative):
    height, width, side = 5, 8, 3
    mixer = randomise(DepthwiseWindowAttention(8, 2, side, shift, relative))
    x = torch.randn(1, 8, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows, columns, windows = window_parts(height, width, side, side // 2 if shift else 0)
    padded = F.pad(x, (0, columns - width, 0, rows - height))[0]
    expected = torch.zeros_like(padded)
    for members in windows.values():
        tokens = torch.stack([padded[:, i, j] for (i, j), _, _ in members])
        q, k = (tokens @ mixer.qk.weight.t() + mixer.qk.bias).split(8, 1)
        for n, (own, place, part) in enumerate(members):
            near = [m for m, (*_, other) in enumerate(members) if other == part]
            mixed = q[n] * k[near].mean(0)
            if relative:
                for m in near:
                    table = mixer.position.relative_position_bias_table
                    entry = bias_between(table, (side, side), place, members[m][1])  # one number a head
                    mixed = mixed + entry.repeat_interleave(2) * k[m]
            expected[:, own[0], own[1]] = mixer.proj.weight @ mixed + mixer.proj.bias
    torch.testing.assert_close(mixer(x)[0], expected[:, :height, :width], **EXACT)


@pytest.mark.parametrize('activation', ['identity', 'scaling'])
def test_without_a_non_linearity_the_map_of_all_pairs_is_never_formed(activation):
    """Q (K^T V), which makes these rows of the paper cheaper: 2 N d products a channel instead of 2 N N."""
    from mmdwnet.analysis.complexity import count

    x = torch.zeros(1, 64, 14, 14)
    linear, softmax = (count(GlobalAttention(64, 16, name), x).flops for name in (activation, 'softmax'))
    assert softmax - linear == 2 * 64 * 196 * (196 - 16)


def test_relative_position_is_resized_for_another_map():
    """At its own size it is the table, at another one a table of that size, and gradients reach it."""
    mixer = GlobalAttention(8, 4, relative_position=True, map_size=(4, 4))
    for size in ((4, 4), (6, 3), (1, 1)):
        mixer.zero_grad()
        mixer(torch.randn(1, 8, *size)).square().sum().backward()
        grad = mixer.position.relative_position_bias_table.grad
        assert size == (1, 1) or grad.abs().sum() > 0
    table = mixer.position.relative_position_bias_table.detach()
    constant = torch.full_like(table, 0.7)
    mixer.position.relative_position_bias_table.data = constant
    assert torch.allclose(mixer.position((9, 5)), torch.tensor(0.7), atol=1e-6)


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        (GlobalAttention, dict(head_channels=5), 'head_channels must divide the channels'),
        (WindowAttention, dict(head_channels=0), 'head_channels must divide the channels'),
        (DepthwiseWindowAttention, dict(head_channels=64), 'head_channels must divide the channels'),
        (WindowAttention, dict(activation='relu'), "unknown activation 'relu'.*scaling-relu"),
    ],
)
def test_bad_options_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(16, **{'head_channels': 4, **options})
