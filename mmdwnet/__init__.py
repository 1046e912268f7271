"""mmdwnet: DWNet and its token mixers for mmpretrain, mmdetection and mmsegmentation."""

from mmengine.config.utils import MODULE2PACKAGE

from .backbones import DWNet
from .version import __version__

# mmengine resolves `_base_ = 'mmdwnet::imagenet/...'` for the packages of this table only
MODULE2PACKAGE.setdefault('mmdwnet', 'mmdwnet')

__all__ = ['DWNet', '__version__']
