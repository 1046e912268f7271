"""mmdwnet: DWNet and its token mixers for mmpretrain, mmdetection and mmsegmentation."""

from .compat import check_core

check_core()  # before anything imports mmengine or mmcv: one line instead of a stack trace

from importlib import import_module  # noqa: E402
from typing import Any  # noqa: E402

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

from .analysis import op_counts  # noqa: E402
from .backbones import DWNet, IsotropicNet  # noqa: E402
from .checkpoints import register_loaders  # noqa: E402
from .version import __version__  # noqa: E402

# mmengine resolves `_base_ = 'mmdwnet::imagenet/...'` for the packages of this table only. It takes a name that is
# a distribution to lie in site-packages, where an editable one does not; a module's file it finds anywhere.
MODULE2PACKAGE.setdefault('mmdwnet', 'mmdwnet.version')
register_loaders()
op_counts.register()

# of zoo.py, which reads the config tree: imported when one of them is first asked for
ZOO = ('find_model', 'list_models', 'load_model', 'register_models')

__all__ = ['DWNet', 'IsotropicNet', '__version__', *ZOO]


def __getattr__(name: str) -> Any:
    if name in ZOO:
        return getattr(import_module('.zoo', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
