"""Local MLP against loops over windows, and against the attention that it is the static version of."""

import pytest
import torch
import torch.nn.functional as F

from mmdwnet.mixers import LocalMlp, WindowAttention

# float64: sums of some dozens of terms of unit size, taken in another order
EXACT = dict(rtol=1e-10, atol=1e-10)


def built(*args, **kwargs):
    torch.manual_seed(0)
    return LocalMlp(*args, **kwargs).double()


def expected(mixer, x, shift):
    """By loops: of the rolled map's windows, and of the pairs in them that no seam of the roll lies between."""
    side, (height, width) = mixer.window_size, x.shape[2:]
    rows, columns = -(-height // side) * side, -(-width // side) * side
    x = F.pad(x, (0, columns - width, 0, rows - height))
    values = torch.einsum('oc,bchw->bohw', mixer.v.weight, x) + mixer.v.bias[:, None, None]
    weights = mixer.weight.repeat_interleave(x.shape[1] // mixer.groups, 0)  # (C, K * K, K * K)
    mixed = torch.zeros_like(values)
    # a place of the rolled map: its window, its place in it, where it comes from, and its side of the seams
    places = [
        ((i // side, j // side), i % side * side + j % side, ((i + shift) % rows, (j + shift) % columns),
         (i + shift >= rows, j + shift >= columns))
        for i in range(rows)
        for j in range(columns)
    ]  # fmt: skip
    for window, n, (i, j), part in places:
        for other_window, m, (row, column), other_part in places:
            if window == other_window and part == other_part:
                mixed[:, :, i, j] += weights[:, n, m] * values[:, :, row, column]
    out = torch.einsum('oc,bchw->bohw', mixer.proj.weight, mixed) + mixer.proj.bias[:, None, None]
    return out[:, :, :height, :width]


@pytest.mark.parametrize(('side', 'shift'), [(3, False), (3, True), (4, True), (1, True)])
@pytest.mark.parametrize('share_channels', [1, 2, 6])
def test_is_the_sum_over_the_window_by_learned_weights(side, shift, share_channels):
    """On a map that needs padding: what is padded takes part, as in window attention."""
    mixer = built(6, share_channels, side, shift)
    x = torch.randn(2, 6, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(mixer(x), expected(mixer, x, side // 2 if shift else 0), **EXACT)


@pytest.mark.parametrize('size', [(7, 7), (5, 30), (7, 20)])
def test_a_map_of_one_window_is_not_shifted(size):
    """In either direction, as window attention."""
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(built(8, 4)(x), built(8, 4, shift=True)(x))


def test_is_window_attention_whose_weights_no_longer_depend_on_the_image():
    """With queries of 0 what is left of attention's weights is the softmax of relative position."""
    torch.manual_seed(0)
    attention = WindowAttention(12, head_channels=4, window_size=3).double()
    with torch.no_grad():
        attention.qkv.weight[:24] = 0
        attention.qkv.bias[:24] = 0
        mlp = built(12, share_channels=4, window_size=3)
        mlp.v.weight.copy_(attention.qkv.weight[24:])
        mlp.v.bias.copy_(attention.qkv.bias[24:])
        mlp.weight.copy_(attention.position((3, 3)).softmax(-1))
        mlp.proj.load_state_dict(attention.proj.state_dict())
        x = torch.randn(2, 12, 7, 5, dtype=torch.float64)
        torch.testing.assert_close(mlp(x), attention(x), **EXACT)


@pytest.mark.parametrize('share_channels', [1, 8, 96])
def test_fewer_channels_that_share_are_more_parameters(share_channels):
    parameters = sum(parameter.numel() for parameter in LocalMlp(96, share_channels).parameters())
    assert parameters == 2 * (96 * 96 + 96) + 96 // share_channels * 49 * 49


@pytest.mark.parametrize('share_channels', [0, 5, 64, 2.0])
def test_channels_that_do_not_divide_are_named(share_channels):
    with pytest.raises(ValueError, match=f'share_channels={share_channels!r} and 32 channels'):
        LocalMlp(32, share_channels)
