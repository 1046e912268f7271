"""How many multiply-adds the ops take, from the shapes of their arguments: one formula per op for every counter.

Importing this file registers them with `torch.utils.flop_counter` (which counts two operations a multiply-add, and
gradients too). `mmdwnet.analysis.op_counts` hands the same formulas to mmengine's analyzers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

from .cpu import CONVOLUTION, LINEAR
from .library import OPS

try:
    from torch.utils.flop_counter import flop_registry, register_flop_formula
except ImportError:  # torch 2.1 has the table alone, of formulas that take shapes
    from torch.utils.flop_counter import flop_mapping as flop_registry

    def register_flop_formula(op):
        return partial(flop_registry.__setitem__, op)


Shape = Sequence[int]


def static_multiply_adds(x: Shape, kernel_size: int) -> int:
    """Of a depth-wise convolution, whatever makes its kernels: x is (B, C, H, W), on however many axes."""
    return prod(x) * kernel_size**2


def generated_multiply_adds(x: Shape, feature: Shape, generator: Shape, kernel_size: int) -> tuple[int, int]:
    """Of generating the kernels and of applying them: feature (B, R, H, W), generator (G * K * K, R)."""
    batch, _, height, width = feature
    return batch * height * width * prod(generator), static_multiply_adds(x, kernel_size)


def _static(x: Shape, weight: Shape, *args, **kw) -> int:
    return 2 * static_multiply_adds(x, weight[-1])


def _static_backward(grad: Shape, x: Shape, weight: Shape, *args, **kw) -> int:
    return 2 * _static(x, weight)  # that of x and that of the kernels take as much as the forward pass, each


def _inhomogeneous(x: Shape, weight: Shape, *args, **kw) -> int:
    return 2 * static_multiply_adds(x, weight[2])


def _inhomogeneous_backward(grad: Shape, x: Shape, weight: Shape, *args, **kw) -> int:
    return 2 * _inhomogeneous(x, weight)


def _generated(x: Shape, feature: Shape, weight: Shape, bias: Shape, groups: int, side: int, *args, **kw) -> int:
    return 2 * sum(generated_multiply_adds(x, feature, weight, side))


def _generated_backward(
    grad: Shape, x: Shape, feature: Shape, weight: Shape, bias: Shape, groups: int, side: int, *args, **kw
) -> int:
    generating, applying = generated_multiply_adds(x, feature, weight, side)
    return 2 * (3 * generating + 2 * applying)  # generated again, then the gradients of feature and generator


def _fused(x: Shape, weight: Shape, *args, out_shape: Shape, **kw) -> int:
    adds_a_map = len(args[0] or ()) == len(x)  # the form that does has it before the weight
    return 2 * prod(out_shape) * prod((args[0] if adds_a_map else weight)[1:])


def _linear(x: Shape, *args, out_shape: Shape, **kw) -> int:
    return 2 * prod(out_shape) * x[-1]


for _op, _formula in ((CONVOLUTION, _fused), (LINEAR, _linear)):  # torch's own ops, which it counts as nothing
    if _op is not None and _op not in flop_registry:
        register_flop_formula(_op)(_formula)
for _op, _formula in {
    OPS.depthwise_conv2d: _static,
    OPS.depthwise_conv2d_backward: _static_backward,
    OPS.dynamic_depthwise_conv2d: _static,
    OPS.dynamic_depthwise_conv2d_backward: _static_backward,
    OPS.inhomogeneous_depthwise_conv2d: _inhomogeneous,
    OPS.inhomogeneous_depthwise_conv2d_backward: _inhomogeneous_backward,
    OPS.generated_depthwise_conv2d: _generated,
    OPS.generated_depthwise_conv2d_backward: _generated_backward,
}.items():
    register_flop_formula(_op)(_formula)
