"""The nets of the benchmark, by name: this project's, the official code's way to compute, and the peers.

Every one is a classifier of 1000 classes, head included, from random weights: a user's choice is between whole
networks, and the head's cost is the same for all of a size. All nets of a size train with the same drop path,
that of the published recipes of DWNet and Swin (tiny 0.2, base 0.5).

mmpretrain's nets are built as its configs of that name do, timm's by `create_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from typing import Any

from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ...backbones import DWNet
from ...errors import UserError
from .as_published import AsPublished
from .nat import Nat

NUM_CLASSES = 1000
MIXERS = {
    'dwnet': ('DepthwiseConv', 'DWNet'),
    'dynamic-dwnet': ('DynamicDepthwiseConv', 'dynamic DWNet'),
    'idynamic-dwnet': ('InhomogeneousDynamicDepthwiseConv', 'I-dynamic DWNet'),
}
LETTERS = {'nano': 'N', 'tiny': 'T', 'base': 'B'}
DROP_PATH = {'nano': 0.1, 'tiny': 0.2, 'base': 0.5}
WIDTHS = {'tiny': 768, 'base': 1024}  # channels of the last stage, of mmpretrain's nets

OURS, OURS_DEPLOYED, PUBLISHED = 'this project', 'this project, deployed', 'as published'


@dataclass(frozen=True)
class Net:
    """A net that can be measured.

    Args:
        name: what the command line calls it.
        label: what tables and pictures call it.
        family: whose it is: `OURS`, `OURS_DEPLOYED`, `PUBLISHED`, or the library that it comes from.
        build: makes the classifier for images of a side of that many pixels.
        package: the library that it needs, if any; without it the net is skipped.
        optional: whether a failure of it leaves the run a success.
    """

    name: str
    label: str
    family: str
    build: Callable[[int], nn.Module]
    package: str | None = None
    optional: bool = False

    @property
    def trains(self) -> bool:
        return self.family != OURS_DEPLOYED

    @property
    def missing(self) -> str | None:
        """Why it cannot be built here, in a few words; None if it can."""
        if self.package is None or find_spec(self.package) is not None:
            return None
        return f'{self.package} is not installed: skipped'


class Classifier(nn.Module):
    """One of this project's backbones, global average pooling and a linear layer: images to logits."""

    def __init__(self, backbone: DWNet):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.channels[-1], NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def _dwnet(arch: str, mixer: str, deployed: bool, size: int) -> nn.Module:
    backbone = DWNet(arch, mixer, drop_path_rate=DROP_PATH[arch])
    return Classifier(backbone.eval().switch_to_deploy() if deployed else backbone)


def _as_published(arch: str, mixer: str, copies: bool, size: int) -> nn.Module:
    return AsPublished(arch, mixer, NUM_CLASSES, DROP_PATH[arch], copies)


def _mmpretrain(backbone: str, arch: str, pooled: bool, size: int) -> nn.Module:
    import mmpretrain.models  # noqa: F401  registers them

    from ...registry import MODELS

    options: dict[str, Any] = dict(img_size=size) if backbone == 'SwinTransformer' else {}
    net = dict(
        type='ImageClassifier',
        backbone=dict(type=backbone, arch=arch, drop_path_rate=DROP_PATH[arch], **options),
        neck=None if pooled else dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=NUM_CLASSES, in_channels=WIDTHS[arch]),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # for the parts that it builds by itself
        return MODELS.build(net)


def _timm(name: str, arch: str, size: int) -> nn.Module:
    import timm

    options = dict(img_size=size) if name.startswith('swin') else {}
    return timm.create_model(name, num_classes=NUM_CLASSES, drop_path_rate=DROP_PATH[arch], **options)


def _nat(arch: str, size: int) -> nn.Module:
    return Nat(arch, DROP_PATH[arch], NUM_CLASSES)


def _all_nets() -> list[Net]:
    nets = []
    for arch, letter in LETTERS.items():
        for name, (mixer, title) in MIXERS.items():
            nets += _forms(f'{name}-{arch}', f'{title}-{letter}', arch, mixer)
    for arch in ('tiny', 'base'):
        nets += _peers(arch)
    return nets


def _forms(name: str, label: str, arch: str, mixer: str) -> list[Net]:
    """One of this project's nets as it trains, as it is deployed, and as the official code computes it."""
    nets = [
        Net(name, label, OURS, partial(_dwnet, arch, mixer, False)),
        Net(f'{name}-deployed', f'{label} deployed', OURS_DEPLOYED, partial(_dwnet, arch, mixer, True)),
    ]
    # the inhomogeneous mixer was published together with the copies, and for a GPU alone: its sums are unfold's
    forms = [('as-published', 'as published', True), ('first-published', 'as first published', False)]
    if mixer.startswith('Inhomogeneous'):
        forms = [('as-published', 'as published (unfold)', True)]
    for form, title, copies in forms:
        build = partial(_as_published, arch, mixer, copies)
        nets.append(Net(f'{form}-{name}', f'{label} {title}', PUBLISHED, build))
    return nets


def _peers(arch: str) -> list[Net]:
    swin, convnext, nat = (f'{title}-{LETTERS[arch]}' for title in ('Swin', 'ConvNeXt', 'NAT'))
    of = 'mmpretrain', 'timm', 'natten'
    builds = [
        (f'mmpretrain-swin-{arch}', swin, of[0], partial(_mmpretrain, 'SwinTransformer', arch, False)),
        (f'mmpretrain-convnext-{arch}', convnext, of[0], partial(_mmpretrain, 'ConvNeXt', arch, True)),
        (f'timm-swin-{arch}', swin, of[1], partial(_timm, f'swin_{arch}_patch4_window7_224', arch)),
        (f'timm-convnext-{arch}', convnext, of[1], partial(_timm, f'convnext_{arch}', arch)),
        (f'natten-nat-{arch}', nat, of[2], partial(_nat, arch)),
    ]
    return [
        Net(name, f'{label} ({package})', package, build, package, optional=package == 'natten')
        for name, label, package, build in builds
    ]


NETS: dict[str, Net] = {net.name: net for net in _all_nets()}


def find_nets(patterns: Sequence[str]) -> list[str]:
    """Return the names of the nets that match any of the patterns, such as '*-tiny', in the order of the table.

    Raises:
        UserError: a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in NETS):
            raise UserError(
                f'--nets {pattern}: no net of that name: expected names or patterns such as dwnet-tiny or '
                f"'*-tiny*', see --list"
            )
    return [name for name in NETS if any(fnmatchcase(name, pattern) for pattern in patterns)]
