"""Checks of a data loader's files against its config: folders, annotations, class counts.

For the stock dataset types that the configs of this package use; of any other type only the root is checked.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..errors import UserError
from .config import datasets_of

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.webp')
LABEL_MAPS_READ = 50  # the others are read while training; checking all of ADE20K would take minutes


def check_dataloader(cfg: Config, name: str, task: str) -> None:
    """Check the datasets of one data loader.

    Args:
        cfg: the whole config.
        name: key of the data loader in it, such as 'train_dataloader'.
        task: 'cls', 'det' or 'seg'.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    check = dict(cls=_check_folders, det=_check_instances, seg=_check_label_maps)[task]
    for dataset in datasets_of(cfg[name]):
        root = dataset.get('data_root') or ''
        if root and not Path(root).is_dir():
            raise UserError(
                f'{name}: data_root {root} not found: expected the dataset there; put it or a link to it there, '
                'or say where it is with --cfg-options data_root=DIR'
            )
        check(cfg.model, dataset, name)


def _check_folders(model: dict, dataset: dict, name: str) -> None:
    """ImageNet layout: one folder per class, none empty, as many as the head has classes."""
    if dataset.get('ann_file') or dataset['type'].split('.')[-1] not in ('ImageNet', 'CustomDataset'):
        return
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    folder = Path(dataset['data_root'], prefix.get('img_path', '') if isinstance(prefix, dict) else prefix)
    classes = sorted(entry.name for entry in _listed(folder, name) if entry.is_dir())
    if not classes:
        raise UserError(f'{name}: {folder} has no folders: expected one folder of images per class')
    for class_name in classes:
        images = (entry for entry in os.scandir(folder / class_name) if _is_image(entry.name) or entry.is_dir())
        if next(images, None) is None:
            raise UserError(
                f'{name}: class folder {folder / class_name} has no image: add images '
                f'({", ".join(IMAGE_SUFFIXES)}) or remove the folder'
            )
    expected = model['head'].get('num_classes')
    if expected is not None and len(classes) != expected:
        raise UserError(
            f'{name}: {folder} has {len(classes)} class folders, but model.head.num_classes={expected}: set '
            f'--cfg-options num_classes={len(classes)} or give the right data_root'
        )


def _check_instances(model: dict, dataset: dict, name: str) -> None:
    """COCO layout: the annotation file, its images, and its categories against the classes of the heads."""
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    file, folder = root / dataset.get('ann_file', ''), root / prefix.get('img', '')
    if not file.is_file():
        raise UserError(f'{name}: annotation file {file} not found: expected COCO instance JSON')
    try:
        coco = json.loads(file.read_bytes())
        images = {image['id']: image['file_name'] for image in coco['images']}
        categories = {category['id']: category['name'] for category in coco['categories']}
        annotations = coco['annotations']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{name}: {file} is no COCO instance JSON ({type(error).__name__}: {error})') from error
    _listed(folder, name)
    absent = [image for image in images.values() if not (folder / image).is_file()]
    if absent:
        raise UserError(
            f'{name}: {len(absent)} of the {len(images)} images of {file} are not in {folder} (first: '
            f'{absent[0]}): expected the images that the annotations were made for; check data_root'
        )
    stray = [a['id'] for a in annotations if a['image_id'] not in images or a['category_id'] not in categories]
    if stray:
        raise UserError(
            f'{name}: {len(stray)} annotations of {file} name an image or a category that the file does not have '
            f'(first: annotation {stray[0]})'
        )
    classes = _class_names(dataset)
    unknown = [c for c in classes if c not in categories.values()]
    if unknown:
        raise UserError(
            f'{name}: class {unknown[0]!r} of the config is no category of {file}, which has '
            f'{sorted(categories.values())[:10]}: set --cfg-options "metainfo.classes=(...)"'
        )
    for where, expected in _num_classes(model.get('roi_head', model), 'model'):
        _compare_classes(name, len(classes), where, expected)


def _check_label_maps(model: dict, dataset: dict, name: str) -> None:
    """ADE20K layout: a label map for every image, and the classes of the heads."""
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    defaults = _defaults(dataset)
    img_suffix = dataset.get('img_suffix') or defaults.get('img_suffix', '.jpg')
    map_suffix = dataset.get('seg_map_suffix') or defaults.get('seg_map_suffix', '.png')
    images = _stems(root / prefix.get('img_path', ''), img_suffix, name)
    maps = _stems(root / prefix.get('seg_map_path', ''), map_suffix, name)
    if not images:
        raise UserError(
            f'{name}: no image *{img_suffix} in {root / prefix.get("img_path", "")}: check data_root, or set '
            '--cfg-options img_suffix=.jpg'
        )
    unlabelled = sorted(images - maps)
    if unlabelled:
        raise UserError(
            f'{name}: {len(unlabelled)} of {len(images)} images have no label map *{map_suffix} in '
            f'{root / prefix.get("seg_map_path", "")} (first: {unlabelled[0]})'
        )
    classes = len(_class_names(dataset))
    for stem in sorted(images)[:LABEL_MAPS_READ]:
        _check_values(root / prefix.get('seg_map_path', '') / (stem + map_suffix), dataset, classes, name)
    for part in ('decode_head', 'auxiliary_head'):
        for where, expected in _num_classes(model.get(part) or {}, f'model.{part}'):
            _compare_classes(name, classes, where, expected)


def _check_values(file: Path, dataset: dict, classes: int, name: str) -> None:
    shifted = dataset.get('reduce_zero_label', _defaults(dataset).get('reduce_zero_label', False))
    allowed = range(classes + 1) if shifted else range(classes)  # shifted: 0 is ignored, classes count from 1
    values = np.unique(mmcv.imread(file, flag='unchanged', backend='pillow'))
    wrong = [int(value) for value in values if value not in allowed and value != 255]
    if wrong:
        raise UserError(
            f'{name}: label map {file} has the value {wrong[0]}, but the dataset has {classes} classes: expected '
            f'0 to {allowed[-1]}, or 255 for ignored pixels'
        )


def _compare_classes(name: str, found: int, where: str, expected: int) -> None:
    if found != expected:
        raise UserError(
            f'{name}: the dataset has {found} classes, but {where}.num_classes={expected}: set --cfg-options '
            f'num_classes={found}, or the classes with "metainfo.classes=(...)"'
        )


def _num_classes(node: object, where: str) -> Iterator[tuple[str, int]]:
    """Every `num_classes` in a part of the model's config, with its place."""
    if isinstance(node, dict):
        if isinstance(node.get('num_classes'), int):
            yield where, node['num_classes']
        for key, value in node.items():
            yield from _num_classes(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _num_classes(value, f'{where}.{i}')


def _class_names(dataset: dict) -> tuple[str, ...]:
    metainfo = dataset.get('metainfo') or {}
    return tuple(metainfo.get('classes') or DATASETS.get(dataset['type']).METAINFO['classes'])


def _defaults(dataset: dict) -> dict:
    parameters = inspect.signature(DATASETS.get(dataset['type'])).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def _listed(folder: Path, name: str) -> list[os.DirEntry]:
    if not folder.is_dir():
        raise UserError(f'{name}: folder {folder} not found: check data_root and data_prefix')
    return list(os.scandir(folder))


def _stems(folder: Path, suffix: str, name: str) -> set[str]:
    """Paths below a folder, as mmseg pairs images and label maps: with the suffix taken off."""
    if not folder.is_dir():
        raise UserError(f'{name}: folder {folder} not found: check data_root and data_prefix')
    return {str(path.relative_to(folder))[: -len(suffix)] for path in folder.rglob(f'*{suffix}')}


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
