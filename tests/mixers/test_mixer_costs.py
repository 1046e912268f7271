"""What a mixer costs on one image: the multiply-adds of its formula, with nothing hidden or done twice."""

import pytest
import torch

from mmdwnet.analysis.complexity import count
from mmdwnet.mixers.building import build_mixer

C, N, TAPS = 64, 14 * 14, 7 * 7
LINEAR = N * C * C
COSTS = {
    # values, windows, behind
    'LocalMlp': LINEAR + N * TAPS * C + LINEAR,
    # queries, keys, values and behind; 64 sums of keys and of values; attention to them
    'LinformerAttention': 4 * LINEAR + 2 * 64 * N * C + 2 * N * 64 * C,
    # queries and behind; a 2 x 2 convolution, its norm, keys and values on a quarter of the map; attention to it
    'PyramidAttention': 2 * LINEAR + N // 4 * (4 * C * C + 5 * C + 2 * C * C) + 2 * N * N // 4 * C,
    'Convolution': 9 * LINEAR,
    'SeparableConvolution': N * TAPS * C + LINEAR,
    # the convolution; the average of four kernels and biases; C -> 16 -> 4 on the pooled map
    'KernelBankConvolution': 9 * LINEAR + 4 * (9 * C * C + C) + 16 * C + 4 * 16,
    # C -> 16, its norm, 16 -> 4 groups of kernels; their use
    'Involution': N * (C * 16 + 2 * 16 + 16 * 4 * TAPS) + N * TAPS * C,
    # values and gates, kernels' use, behind
    'LightweightConvolution': 2 * LINEAR + N * TAPS * C + LINEAR,
    # and 2 groups of kernels at every position
    'DynamicLightweightConvolution': 2 * LINEAR + N * C * 2 * TAPS + N * TAPS * C + LINEAR,
    'SqueezeExcitation': 2 * C * 16,
    'SpatialMlp': N * N * C,
}


@pytest.mark.parametrize(('mixer', 'multiply_adds'), list(COSTS.items()), ids=list(COSTS))
def test_multiply_adds_are_those_of_the_formula(mixer, multiply_adds):
    built = build_mixer(mixer, channels=C, norm_cfg=dict(type='BN'), map_size=(14, 14))
    counts = count(built, torch.zeros(1, C, 14, 14))
    assert (counts.flops, counts.uncounted) == (multiply_adds, ())
