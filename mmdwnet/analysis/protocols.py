"""What is counted for a row of the tables: a model from its config, and the pass that the papers count.

| protocol | image | FLOPs and activations of |
|---|---|---|
| imagenet | 224 x 224, or the row's | the backbone, without the classifier |
| coco | 1280 x 800 | backbone, neck, RPN; box heads on 1000 proposals, mask heads on 100 (mmdet 2's get_flops) |
| ade20k | 2048 x 512, or the row's | backbone and decode head, without the auxiliary head |

Parameters are those of the whole model. They reproduce the published values of Swin: 4.508 GFLOPs and 17.054 M
activations for Swin-T (table 3 of "Interpret Vision Transformers as ConvNets with Dynamic Convolutions"), 745,
982, 945 and 1188 GFLOPs downstream (the README of Swin).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

import mmdwnet

from ..compat import require
from ..engine.config import task_of
from ..errors import UserError
from .complexity import Complexity, count, without_weights
from .published import Row

SIZES = {'imagenet': (224, 224), 'coco': (800, 1280), 'ade20k': (512, 2048)}
PROPOSALS, MASKS = 1000, 100


def measure(row: Row, protocol: str) -> Complexity:
    """Build the model of a row without weights and count it.

    Args:
        row: a row with a config or a timm model.
        protocol: imagenet, coco or ade20k.

    Raises:
        UserError: the config is not there, or the library that it needs is not installed.
    """
    model = _timm_model(row.timm) if row.timm else build_model(row.config, row.num_classes)
    image = torch.zeros(1, 3, *(row.size or SIZES[protocol]), device='meta')
    return count(PASSES[protocol](model), image)


def find_config(config: str) -> Path:
    """Return the file of a config, given as a path below the repository or as `package::path`.

    Raises:
        UserError: it is not there, or the package is not installed.
    """
    package, _, path = config.rpartition('::')
    if package:
        spec = find_spec(package)
        if spec is None:
            raise UserError(f'{config} needs {package}, which is not installed: run make setup, or install it')
        places = [Path(spec.origin).parent / '.mim' / 'configs' / path]
    else:
        home = Path(mmdwnet.__file__).parent
        places = [home.parent / config, home / '.mim' / config]  # a checkout; an installed package
    for place in places:
        if place.is_file():
            return place
    raise UserError(f'config {config} not found at {places[0]}: expected one that published.yml may name')


def build_model(config: str, num_classes: int | None = None) -> nn.Module:
    """Build the model of a config without allocating its weights.

    Args:
        config: as `find_config` takes it.
        num_classes: if given, takes the place of every `num_classes` of the model.

    Raises:
        UserError: the config or the library that it needs is not there.
    """
    try:
        cfg = Config.fromfile(find_config(config))
    except ImportError as error:
        raise UserError(f'{config} needs a library that is not installed: {error}; run make setup') from error
    require(task_of(cfg, config))
    settings = copy.deepcopy(cfg.model)
    if num_classes is not None:
        _set_num_classes(settings, num_classes)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), without_weights():
        model = MODELS.build(settings)
    return revert_sync_batchnorm(model)


def _timm_model(name: str) -> nn.Module:
    if find_spec('timm') is None:
        raise UserError(f'the row {name} is a model of timm, which is not installed: pip install timm')
    import timm

    with without_weights():
        return timm.create_model(name, num_classes=1000)


def _set_num_classes(node: Any, num_classes: int) -> None:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    if isinstance(node, dict) and 'num_classes' in node:
        node['num_classes'] = num_classes
    for child in children:
        _set_num_classes(child, num_classes)


class Classification(nn.Module):
    """The backbone of a classifier; of timm's models, what comes before their head."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Any:
        backbone = getattr(self.model, 'backbone', None)
        return backbone(image) if backbone is not None else self.model.forward_features(image)


class Detection(nn.Module):
    """A detector of one or two stages, its heads on a fixed number of regions.

    The features of the regions are zeros: pooling them counts nothing, and which regions they are changes nothing.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        for module in model.modules():
            if type(module).__name__ == 'DeformConv2d':
                _plain_convolution(module)

    def forward(self, image: Tensor) -> None:
        model = self.model
        maps = model.extract_feat(image)
        if not hasattr(model, 'roi_head'):
            model.bbox_head(maps)
            return
        queries = getattr(model.rpn_head, 'init_proposal_features', None)
        if queries is None:
            model.rpn_head(maps)
        head, channels = model.roi_head, maps[0].shape[1]
        for box_head in _as_list(head.bbox_head):
            if queries is None:
                box_head(image.new_zeros(PROPOSALS, channels, 7, 7))
            else:  # Sparse R-CNN: as many regions as it has learned queries, each refining its own
                regions = queries.weight.shape[0]
                box_head(image.new_zeros(regions, channels, 7, 7), queries.weight[None])
        for mask_head in _as_list(head.mask_head) if head.with_mask else ():
            mask_head(image.new_zeros(MASKS, channels, 14, 14))


class Segmentation(nn.Module):
    """Backbone and decode head of a segmentor; in a cascade of heads each sees the result of the one before."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        maps = self.model.extract_feat(image)
        first, *others = _as_list(self.model.decode_head)
        out = first(maps)
        for head in others:
            out = head(maps, out)
        return out


PASSES = {'imagenet': Classification, 'coco': Detection, 'ade20k': Segmentation}


def _as_list(heads: nn.Module) -> Sequence[nn.Module]:
    return heads if isinstance(heads, nn.ModuleList) else [heads]


def _plain_convolution(module: nn.Module) -> None:
    """Let a deformable convolution, which has no meta kernel, run as the plain one of the same multiply-adds."""

    def forward(x: Tensor, offset: Tensor) -> Tensor:
        return F.conv2d(x, module.weight, None, module.stride, module.padding, module.dilation, module.groups)

    module.forward = forward
