"""Backbones, registered in `mmdwnet.registry.MODELS`."""

from .dwnet import DWNet

__all__ = ['DWNet']
