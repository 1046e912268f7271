"""Backbones, registered in `mmdwnet.registry.MODELS`."""

from .dwnet import DWNet
from .isotropic import IsotropicNet

__all__ = ['DWNet', 'IsotropicNet']
