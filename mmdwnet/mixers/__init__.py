"""Token mixers, `(B, C, H, W) -> (B, C, H, W)`, registered in `mmdwnet.registry.MODELS`."""

from .attention import GlobalAttention, WindowAttention
from .convolutions import Convolution, Involution, KernelBankConvolution, SeparableConvolution
from .depthwise import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv
from .depthwise_attention import DepthwiseGlobalAttention, DepthwiseWindowAttention
from .lightweight import DynamicLightweightConvolution, LightweightConvolution
from .local_mlp import LocalMlp
from .low_rank import LinformerAttention, PyramidAttention
from .neighbourhood import NeighbourhoodAttention
from .spatial_mlp import SpatialMlp
from .squeeze_excitation import SqueezeExcitation

__all__ = [
    'Convolution',
    'DepthwiseConv',
    'DepthwiseGlobalAttention',
    'DepthwiseWindowAttention',
    'DynamicDepthwiseConv',
    'DynamicLightweightConvolution',
    'GlobalAttention',
    'InhomogeneousDynamicDepthwiseConv',
    'Involution',
    'KernelBankConvolution',
    'LightweightConvolution',
    'LinformerAttention',
    'LocalMlp',
    'NeighbourhoodAttention',
    'PyramidAttention',
    'SeparableConvolution',
    'SpatialMlp',
    'SqueezeExcitation',
    'WindowAttention',
]
