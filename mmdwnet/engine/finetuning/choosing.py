"""Choose the model, the sizes and the length of a fine-tuning by the data, each with the reason for it.

The numbers were tried on small sets of photographs (docs/finetune.md says how far) and are meant to be changed in
the config that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mmengine.config import Config

from ...backbones.archs import PYRAMID_ARCHS, pyramid_arch
from ...errors import UserError
from ...zoo import find_model, list_models
from .own_data import OwnData, counted

# of a backbone that is fine-tuned: arch and mixer are taken, the others are those of the finetune bases
SETTINGS = frozenset(
    ('type', '_scope_', 'arch', 'mixer', 'drop_path_rate', 'out_indices', 'norm_cfg', 'out_norm_cfg')
    + ('window_padding', 'init_cfg')
)
STRIDE = 32  # of the last map of the backbones
SMALL, STANDARD = 'dwnet-nano', 'dwnet-tiny'
SMALL_WIDTH = 64  # backbones narrower than this go with the small heads


@dataclass(frozen=True)
class Recipe:
    """How a task is trained.

    Args:
        lr: for the batch below; with other batches it goes with the square root.
        batch: the largest.
        seen: images that are seen in all, if the least and most passes over the data allow it.
        least: passes.
        most: passes.
        side: of an image, at most.
    """

    lr: float
    batch: int
    seen: int
    least: int
    most: int
    side: int


# by the task and whether the backbone starts from weights
RECIPES = {
    ('cls', False): Recipe(2e-3, 32, 120_000, 10, 100, 128),
    ('cls', True): Recipe(5e-4, 32, 30_000, 5, 30, 224),
    ('det', False): Recipe(2e-3, 8, 16_000, 8, 60, 400),
    ('det', True): Recipe(2e-4, 4, 8_000, 4, 40, 1333),
    ('seg', False): Recipe(3e-3, 8, 16_000, 8, 400, 512),
    ('seg', True): Recipe(2e-4, 4, 8_000, 4, 200, 2048),
}


@dataclass(frozen=True)
class Choices:
    """What a config needs besides the data.

    Args:
        model: the name of the backbone in the zoo.
        backbone: its settings.
        small: whether it goes with the small heads.
        weights: of the backbone, path or URL; None for random ones.
        scale: of the images: the side of a square (cls), or width and height that they are made to fit in.
        crop: seg: the side of the squares to train on.
        batch_size: images of a step.
        lr: the learning rate.
        length: epochs; of a segmentor iterations.
        val_interval: the same from one validation to the next.
        anchor_scale: det: the side of an anchor by the stride of its map; None for that of the heads.
        reasons: why, by what was chosen, in the order to be shown.
    """

    model: str
    backbone: dict[str, Any]
    small: bool
    weights: str | None
    scale: int | tuple[int, int]
    crop: int
    batch_size: int
    lr: float
    length: int
    val_interval: int
    anchor_scale: int | None
    reasons: dict[str, str]


def choose(
    data: OwnData, model: str | None = None, weights: str | None = None, length: int | None = None
) -> Choices:
    """Choose by the data and what the person asked for.

    Args:
        data: the data.
        model: a name of the zoo; None to choose.
        weights: for the backbone; None for random ones.
        length: epochs, or iterations of a segmentor; None to choose.

    Raises:
        UserError: no such model, or it is none of the pyramids.
    """
    recipe, reasons = RECIPES[data.task, weights is not None], {}
    name = model or (STANDARD if weights else SMALL)
    backbone = backbone_named(name, data.task)
    start = f'the weights {weights}' if weights else 'random weights, for no --weights are given'
    reasons['model'] = f'{name}{" as asked for" if model else ""}, from {start}'
    sizes = data.sizes()
    if not sizes:
        raise UserError(f'{data.root}: none of the images that were tried can be read: expected images')
    scale, crop, reasons['image size'] = _sizes(data.task, recipe, sizes)
    images = len(data.splits['train'].samples)
    batch = _batch(images, recipe, data.task)
    lr = recipe.lr * (batch / recipe.batch) ** 0.5
    lr = float(f'{lr:.2g}')
    reasons['batch size'] = f'{batch} of {counted(images, "image")}, with the learning rate {lr:g}'
    chosen, interval, reasons['length'] = _length(data.task, recipe, images, batch, length)
    small = pyramid_arch(backbone['arch']).embed_dims < SMALL_WIDTH
    anchor = _anchor_scale(data, scale, small) if data.task == 'det' else None
    return Choices(name, backbone, small, weights, scale, crop, batch, lr, chosen, interval, anchor, reasons)


def backbone_named(name: str, task: str) -> dict[str, Any]:
    """The arch and the mixer of a model of the zoo; a mixer of None is the arch's own.

    Raises:
        UserError: no such model (the nearest is suggested), or its backbone is no DWNet.
    """
    backbone = Config.fromfile(find_model(name, task).config).model.backbone
    pyramid = backbone.type == 'mmdwnet.DWNet' and backbone.get('arch') in PYRAMID_ARCHS
    if not pyramid or set(backbone) - SETTINGS:
        known = ', '.join(name for name in list_models(task) if 'dwnet' in name and '_' not in name)
        raise UserError(f'model {name} has no backbone that can be fine-tuned here: expected such as {known}')
    return dict(arch=backbone.arch, mixer=backbone.get('mixer'))


def _sizes(task: str, recipe: Recipe, sizes: Sequence[tuple[int, int]]) -> tuple[int | tuple[int, int], int, str]:
    """The scale, the crop (seg), and why."""
    width, height = (round(median(size[i] for size in sizes)) for i in (0, 1))
    theirs = f'the images are {width} x {height}' + (' in the middle' if len(set(sizes)) > 1 else '')
    if task == 'cls':
        # an image of 32 pixels would end in a map of one
        side = min(max(_multiple(min(width, height)), 2 * STRIDE), recipe.side)
        return side, 0, f'{side} x {side}: {theirs}'
    part = min(1.0, recipe.side / max(width, height))
    scale = (max(round(width * part), STRIDE), max(round(height * part), STRIDE))
    if task == 'det':
        return scale, 0, f'within {scale[0]} x {scale[1]}: {theirs}'
    crop = min(max(_multiple(min(scale)), STRIDE), 512 if recipe.side > 512 else 256)
    return scale, crop, f'within {scale[0]} x {scale[1]}, crops of {crop} x {crop}: {theirs}'


def _multiple(side: int) -> int:
    return max(round(side / STRIDE), 1) * STRIDE


def _batch(images: int, recipe: Recipe, task: str) -> int:
    """A power of two, for at least eight steps a pass; two at least, for the sake of the BNs."""
    batch = recipe.batch
    while batch > 2 and batch * 8 > images:
        batch //= 2
    return batch if task == 'seg' else min(batch, images)  # the sampler of a segmentor goes round and round


def _length(task: str, recipe: Recipe, images: int, batch: int, asked: int | None) -> tuple[int, int, str]:
    """Epochs, or iterations of a segmentor; from one validation to the next; and why."""
    passes = min(max(recipe.seen // images, recipe.least), recipe.most)
    length = passes if task != 'seg' else max(-(-passes * images // batch), 1)
    why = f'{counted(images * passes, "image")} seen'
    if asked is not None:
        length, why = asked, 'as asked for'
    interval = max(length // 10, 1)
    unit = 'epoch' if task != 'seg' else 'iteration'
    return length, interval, f'{counted(length, unit)} ({why}), validated every {interval}'


def _anchor_scale(data: OwnData, scale: tuple[int, int], small: bool) -> int | None:
    """What the anchors of the heads are to be in place of their own, whose sides are 16 to 128, or 32 to 512."""
    side = data.object_side * (scale[0] * scale[1]) ** 0.5
    if small:
        return 8 if side > 64 else None
    return 4 if side < 32 else None
