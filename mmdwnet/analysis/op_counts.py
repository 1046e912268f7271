"""mmengine's counting rules for the ops of this package: multiply-adds and activations.

`register` adds them to what mmengine's analyzers know by default, so that the `get_flops.py` of the stock
libraries counts this package's networks too; `mmdwnet` calls it when it is imported.
"""

from __future__ import annotations

from math import prod
from typing import Any

from mmengine.analysis import complexity_analysis
from mmengine.analysis.jit_handles import generic_activation_jit, get_shape

from ..ops.flops import generated_multiply_adds, static_multiply_adds


def _static_flops(inputs: list[Any], outputs: list[Any]) -> int:
    return static_multiply_adds(get_shape(inputs[0]), get_shape(inputs[1])[-1])


def _inhomogeneous_flops(inputs: list[Any], outputs: list[Any]) -> int:
    return static_multiply_adds(get_shape(inputs[0]), get_shape(inputs[1])[2])


def _generated_flops(inputs: list[Any], outputs: list[Any]) -> int:
    x, feature, generator = (get_shape(value) for value in inputs[:3])
    return sum(generated_multiply_adds(x, feature, generator, inputs[5].toIValue()))


def _generated_activations(inputs: list[Any], outputs: list[Any]) -> int:
    """The kernels, which the 1x1 convolution that makes them would return, and the result."""
    batch, _, height, width = get_shape(inputs[1])
    return batch * height * width * get_shape(inputs[2])[0] + prod(get_shape(outputs[0]))


FLOPS = {
    'mmdwnet::depthwise_conv2d': _static_flops,
    'mmdwnet::dynamic_depthwise_conv2d': _static_flops,
    'mmdwnet::inhomogeneous_depthwise_conv2d': _inhomogeneous_flops,
    'mmdwnet::generated_depthwise_conv2d': _generated_flops,
}
ACTIVATIONS = {
    **dict.fromkeys(FLOPS, generic_activation_jit()),
    'mmdwnet::generated_depthwise_conv2d': _generated_activations,
}


def register() -> None:
    """Add the rules to mmengine's defaults."""
    complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS.update(FLOPS)
    complexity_analysis._DEFAULT_SUPPORTED_ACT_OPS.update(ACTIVATIONS)
