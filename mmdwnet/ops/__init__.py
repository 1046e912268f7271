"""The mathematics: depth-wise convolutions whose kernels are data. Imports torch only.

`depthwise.py` is what one calls; `reference.py` what it means; `tiled.py` and `triton_*.py` how it is fast.
"""

from . import flops as _registers_flop_formulas  # noqa: F401
from .depthwise import (
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
)
from .implementations import available_impls, check_impl
from .library import autocast_off
from .pointwise import is_plain, pointwise_linear, pointwise_mlp

__all__ = [
    'autocast_off',
    'available_impls',
    'check_impl',
    'depthwise_conv2d',
    'dynamic_depthwise_conv2d',
    'generated_depthwise_conv2d',
    'inhomogeneous_depthwise_conv2d',
    'is_plain',
    'pointwise_linear',
    'pointwise_mlp',
]
