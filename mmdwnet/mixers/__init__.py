"""Token mixers, `(B, C, H, W) -> (B, C, H, W)`, registered in `mmdwnet.registry.MODELS`."""

from .attention import GlobalAttention, WindowAttention
from .depthwise import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv
from .depthwise_attention import DepthwiseGlobalAttention, DepthwiseWindowAttention

__all__ = [
    'DepthwiseConv',
    'DepthwiseGlobalAttention',
    'DepthwiseWindowAttention',
    'DynamicDepthwiseConv',
    'GlobalAttention',
    'InhomogeneousDynamicDepthwiseConv',
    'WindowAttention',
]
