"""The mathematics: depth-wise convolutions whose kernels are data, neighbourhood attention. Imports torch only.

`depthwise.py` and `neighbourhood.py` are what one calls; `reference.py` is what the first means; `tiled.py` and
`triton_*.py` are how it is fast, and `neighbourhood_strips.py` how the second needs little memory.
"""

from . import flops as _registers_flop_formulas  # noqa: F401
from .autocast import autocast_enabled, autocast_off
from .depthwise import (
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
)
from .implementations import available_impls, check_impl
from .neighbourhood import neighbourhood_attention
from .pointwise import is_plain, linear_of_few_rows, pointwise_linear, pointwise_mlp

__all__ = [
    'autocast_enabled',
    'autocast_off',
    'available_impls',
    'check_impl',
    'depthwise_conv2d',
    'dynamic_depthwise_conv2d',
    'generated_depthwise_conv2d',
    'inhomogeneous_depthwise_conv2d',
    'is_plain',
    'linear_of_few_rows',
    'neighbourhood_attention',
    'pointwise_linear',
    'pointwise_mlp',
]
