"""Token mixers, `(B, C, H, W) -> (B, C, H, W)`, registered in `mmdwnet.registry.MODELS`."""

from .depthwise import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv

__all__ = ['DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv']
