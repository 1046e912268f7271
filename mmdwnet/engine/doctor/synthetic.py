"""A batch of random images and labels, as the data loader of a task hands it to the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from ..config import task_of
from .settings import head_classes

OBJECTS = 8  # of an image; COCO's have 7.7 on average (Lin et al., "Microsoft COCO", 2014, section 5)


def batch_of(cfg: Config, count: int, size: tuple[int, int]) -> dict[str, Any]:
    """Make a batch.

    Args:
        cfg: the config; its task and the number of classes of its head matter.
        count: images.
        size: their height and width.

    Returns:
        `inputs`, images of (3, H, W) in bytes, and `data_samples`.
    """
    draw = np.random.default_rng(0)
    images = [torch.from_numpy(draw.integers(0, 256, (3, *size), np.uint8)) for _ in range(count)]
    make = dict(cls=_labelled, det=_with_objects, seg=_with_map)[task_of(cfg)]
    samples = [make(draw, size, head_classes(cfg.model) or 2) for _ in range(count)]
    # ImageNet's loaders stack their images, the others keep a list of them
    stacked = 'default_collate' in str(cfg.train_dataloader.get('collate_fn'))
    return dict(inputs=torch.stack(images) if stacked else images, data_samples=samples)


def _labelled(draw: np.random.Generator, size: tuple[int, int], classes: int) -> Any:
    from mmpretrain.structures import DataSample

    return DataSample().set_gt_label(int(draw.integers(classes)))


def _with_objects(draw: np.random.Generator, size: tuple[int, int], classes: int) -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    corners = draw.random((OBJECTS, 2)) * 0.7  # upper left, as parts of the image
    ends = corners + 0.05 + draw.random((OBJECTS, 2)) * 0.25
    boxes = np.concatenate([corners, ends], axis=1) * [width, height, width, height]
    masks = np.zeros((OBJECTS, height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top : bottom + 1, left : right + 1] = 1
    objects = InstanceData(
        bboxes=HorizontalBoxes(torch.from_numpy(boxes).float()),
        labels=torch.from_numpy(draw.integers(0, classes, OBJECTS)),
        masks=BitmapMasks(masks, height, width),
    )
    sample = DetDataSample(gt_instances=objects, ignored_instances=_no_objects(size))
    sample.set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), flip=False, img_id=0))
    return sample


def _no_objects(size: tuple[int, int]) -> InstanceData:
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    return InstanceData(
        bboxes=HorizontalBoxes(torch.zeros(0, 4)),
        labels=torch.zeros(0, dtype=torch.long),
        masks=BitmapMasks(np.zeros((0, *size), np.uint8), *size),
    )


def _with_map(draw: np.random.Generator, size: tuple[int, int], classes: int) -> Any:
    from mmseg.structures import SegDataSample

    # patches of 16 x 16 pixels, as labels are no noise
    coarse = draw.integers(0, classes, (-(-size[0] // 16), -(-size[1] // 16)))
    labels = np.kron(coarse, np.ones((16, 16), np.int64))[: size[0], : size[1]]
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(labels)[None]))  # (1, H, W)
    sample.set_metainfo(dict(img_shape=size, ori_shape=size))
    return sample
