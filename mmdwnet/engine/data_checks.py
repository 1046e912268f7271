"""Checks of a data loader's files against its config: folders, annotations, sizes, class counts.

For the stock dataset types that the configs of this package use, and those derived from them; of any other type
only the root is checked. Everything that is listed is compared by name and count; of label maps, and of images
named in a JSON, the first FILES_READ are opened too. What is wrong with a single sample is reported apart from
what is wrong with the set: a training run may skip some.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import mmcv
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..errors import UserError
from .config import datasets_of
from .image_files import files_below
from .sample_checks import (
    Fault,
    box_fault,
    image_fault,
    map_fault,
    map_size_fault,
    map_value_fault,
    said,
    size_fault,
    size_of,
)

FILES_READ = 50  # the others are read while training; opening all of ADE20K would take minutes


Report = Callable[[Fault], object]


def check_dataloader(cfg: Config, name: str, task: str, report: Report | None = None) -> int:
    """Check the datasets of one data loader.

    Args:
        cfg: the whole config.
        name: key of the data loader in it, such as 'train_dataloader'.
        task: 'cls', 'det' or 'seg'.
        report: is called with what is wrong with single samples; None to raise the first.

    Returns:
        How many images were found; 0 where that is not known.

    Raises:
        UserError: the first thing found wrong, in one line.
    """
    library, base, check = dict(
        cls=('mmpretrain.datasets', 'CustomDataset', _check_folders),
        det=('mmdet.datasets', 'CocoDataset', _check_instances),
        seg=('mmseg.datasets', 'BaseSegDataset', _check_label_maps),
    )[task]

    def refuse(fault: Fault) -> None:
        raise UserError(f'{name}: {fault.reason}')

    found = 0
    for dataset in datasets_of(cfg[name]):
        root = dataset.get('data_root') or ''
        if root and not Path(root).is_dir():
            raise UserError(
                f'{name}: data_root {root} not found: expected the dataset there; put it or a link to it there, '
                'or say where it is with --cfg-options data_root=DIR'
            )
        if issubclass(_class_of(dataset, name), getattr(importlib.import_module(library), base)):
            found += check(cfg.model, dataset, name, report or refuse)
    return found


def check_evaluator(cfg: Config, name: str) -> None:
    """An evaluator's annotation file must exist and be the one of its data loader's images.

    Raises:
        UserError: it is not.
    """
    evaluators = cfg.get(f'{name}_evaluator')
    datasets = datasets_of(cfg.get(f'{name}_dataloader'))
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        file = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
        if not file:
            continue
        if not Path(file).is_file():
            raise UserError(f'{name}_evaluator: ann_file {file} not found: expected the file of {name}_dataloader')
        read = [Path(d.get('data_root') or '', d['ann_file']).resolve() for d in datasets if d.get('ann_file')]
        if len(datasets) == 1 and read and Path(file).resolve() not in read:
            raise UserError(
                f'{name}_evaluator: ann_file {file} is not the one that {name}_dataloader reads, {read[0]}: '
                'predictions would be scored against other images'
            )


def _check_folders(model: dict, dataset: dict, name: str, report: Report) -> int:
    """ImageNet layout: one folder per class, none empty, as many as the head has classes; or a list file."""
    expected = (model.get('head') or {}).get('num_classes')
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
    folder = Path(dataset.get('data_root') or '', prefix)
    list_file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or f'meta/{dataset.get("split")}.txt')
    if dataset.get('ann_file') or list_file.is_file():  # mmpretrain's ImageNet takes meta/<split>.txt by itself
        return _check_list(list_file, folder, expected, name)
    classes = sorted(entry.name for entry in _listed(folder, name) if entry.is_dir())
    if not classes:
        raise UserError(f'{name}: {folder} has no folders: expected one folder of images per class')
    images, types = 0, tuple(_option(dataset, 'extensions', name))
    for class_name in classes:
        found = sum(file.lower().endswith(types) for _, _, files in os.walk(folder / class_name) for file in files)
        if not found:
            raise UserError(
                f'{name}: class folder {folder / class_name} has no image: add images '
                f'({", ".join(types)}) or remove the folder'
            )
        images += found
    fixed = _class_names(dataset)
    if fixed and len(fixed) != len(classes):
        raise UserError(
            f'{name}: {folder} has {len(classes)} class folders, but {dataset["type"]} has {len(fixed)} classes: '
            'for classes of your own use a CustomDataset, as configs/mini/dwnet-nano_cls_mini.py does'
        )
    if expected is not None and len(classes) != expected:
        raise UserError(
            f'{name}: {folder} has {len(classes)} class folders, but model.head.num_classes={expected}: set '
            f'--cfg-options num_classes={len(classes)} or give the right data_root'
        )
    return images


def _check_list(file: Path, folder: Path, expected: int | None, name: str) -> int:
    """A list file of mmpretrain: an image path and a class index a line."""
    if not file.is_file():
        raise UserError(f'{name}: ann_file {file} not found: expected a list of images and class indices')
    lines = [line.rsplit(maxsplit=1) for line in file.read_text('utf-8').splitlines() if line.strip()]
    bad = [line for line in lines if len(line) == 2 and not line[1].isdigit()]
    if bad or not lines:
        raise UserError(
            f'{name}: {file}: expected lines of an image path and a class index, got {bad[:1] or "none"}'
        )
    for image, *_ in lines[:FILES_READ]:
        if not (folder / image).is_file():
            raise UserError(f'{name}: {file} lists {image}, which is not in {folder}')
    highest = max((int(line[1]) for line in lines if len(line) == 2), default=0)
    if expected is not None and highest >= expected:
        raise UserError(
            f'{name}: {file} has the class index {highest}, but model.head.num_classes={expected}: expected 0 to '
            f'{expected - 1}'
        )
    return len(lines)


def _check_instances(model: dict, dataset: dict, name: str, report: Report) -> int:
    """COCO layout: the annotation file, its images, and its categories against the classes of the heads."""
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    file, folder = root / dataset.get('ann_file', ''), root / prefix.get('img', '')
    if not file.is_file():
        raise UserError(f'{name}: annotation file {file} not found: expected COCO instance JSON')
    masks = bool((model.get('roi_head') or {}).get('mask_head'))
    try:
        coco = json.loads(file.read_bytes())
        images = {image['id']: (image['file_name'], image['width'], image['height']) for image in coco['images']}
        categories = {category['id']: category['name'] for category in coco['categories']}
        annotations = [(a['id'], a['image_id'], a['category_id'], _four(a)) for a in coco['annotations']]
        shapeless = [a['id'] for a in coco['annotations'] if masks and not a['segmentation']]
        unscored = [a['id'] for a in coco['annotations'] if 'iscrowd' not in a]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{name}: {file} is no COCO instance JSON ({type(error).__name__}: {error})') from error
    if not images or not annotations:
        raise UserError(
            f'{name}: {file} has {len(images)} images and {len(annotations)} annotations: expected some'
        )
    _listed(folder, name)
    absent = [image for image, *_ in images.values() if not (folder / image).is_file()]
    if absent:
        raise UserError(
            f'{name}: {len(absent)} of the {len(images)} images of {file} are not in {folder} (first: '
            f'{absent[0]}): expected the images that the annotations were made for; check data_root'
        )
    stray = [a for a, image, category, _ in annotations if image not in images or category not in categories]
    if stray:
        raise UserError(
            f'{name}: {len(stray)} annotations of {file} name an image or a category that the file does not have '
            f'(first: annotation {stray[0]})'
        )
    if shapeless:
        raise UserError(
            f'{name}: {len(shapeless)} annotations of {file} have no segmentation, which the mask head needs '
            f'(first: annotation {shapeless[0]})'
        )
    if unscored and name != 'train_dataloader':  # mmdet can train without
        raise UserError(
            f'{name}: {len(unscored)} annotations of {file} have no iscrowd, which the COCO evaluation needs '
            f'(first: annotation {unscored[0]}): add "iscrowd": 0, or 1 where one is of a crowd'
        )
    _check_sizes(images, annotations, folder, file, report)
    classes = _class_names(dataset)
    unknown = [c for c in classes if c not in categories.values()]
    if unknown:
        raise UserError(
            f'{name}: class {unknown[0]!r} of the config is no category of {file}, which has '
            f'{sorted(categories.values())[:10]}: set --cfg-options "metainfo.classes=(...)"'
        )
    part = 'roi_head' if 'roi_head' in model else 'bbox_head'
    for where, expected in _num_classes(model.get(part) or {}, f'model.{part}'):
        _compare_classes(name, len(classes), where, expected)
    return len(images)


def _four(annotation: dict) -> list[float]:
    box = [float(value) for value in annotation['bbox']]
    if len(box) != 4:
        raise ValueError(f'annotation {annotation["id"]} has the box {box}')
    return box


def _check_sizes(images: dict, annotations: list, folder: Path, file: Path, report: Report) -> None:
    """Sizes in the JSON against the image files, and boxes against the sizes."""
    for image, width, height in list(images.values())[:FILES_READ]:
        fault = _header_fault(folder / image, (width, height))
        if fault is not None:
            report(fault)
    for annotation, image, _, box in annotations:
        name, width, height = images[image]
        fault = box_fault(folder / name, f'annotation {annotation} of {file}', box, width, height)
        if fault is not None:
            report(fault)


def _header_fault(image: Path, stated: tuple[int, int]) -> Fault | None:
    try:
        return size_fault(image, stated, size_of(image))
    except OSError as error:
        return image_fault(image, said(error))


def _check_label_maps(model: dict, dataset: dict, name: str, report: Report) -> int:
    """ADE20K layout: a label map of the size of every image, and the classes of the heads; or a list of images."""
    root, prefix = Path(dataset.get('data_root') or ''), dataset.get('data_prefix') or {}
    img_suffix, map_suffix = (_option(dataset, key, name) for key in ('img_suffix', 'seg_map_suffix'))
    image_folder, map_folder = root / prefix.get('img_path', ''), root / prefix.get('seg_map_path', '')
    images, maps = _stems(image_folder, img_suffix, name), _stems(map_folder, map_suffix, name)
    if dataset.get('ann_file'):
        images = _listed_stems(root / dataset['ann_file'], images, image_folder, img_suffix, name)
    if not images:
        there = sorted({path.suffix for path in image_folder.rglob('*') if path.is_file()})
        raise UserError(
            f'{name}: no image *{img_suffix} in {image_folder}, which has {", ".join(there) or "no files"}: check '
            'data_root, or set --cfg-options img_suffix=SUFFIX'
        )
    unlabelled = sorted(images - maps)
    if unlabelled:
        raise UserError(
            f'{name}: {len(unlabelled)} of {len(images)} images have no label map *{map_suffix} in {map_folder} '
            f'(first: {unlabelled[0]})'
        )
    classes = len(_class_names(dataset))
    shifted = bool(_option(dataset, 'reduce_zero_label', name))
    for stem in sorted(images)[:FILES_READ]:
        image, label_map = image_folder / (stem + img_suffix), map_folder / (stem + map_suffix)
        fault = _label_map_fault(image, label_map, classes, shifted)
        if fault is not None:
            report(fault)
    for part in ('decode_head', 'auxiliary_head'):
        for where, expected in _num_classes(model.get(part) or {}, f'model.{part}'):
            _compare_classes(name, classes, where, expected)
    return len(images)


def _listed_stems(file: Path, there: set[str], folder: Path, suffix: str, name: str) -> set[str]:
    """A list file of mmseg: an image a line, without its suffix."""
    if not file.is_file():
        raise UserError(f'{name}: ann_file {file} not found: expected a list of images, without their suffix')
    stems = {line.strip() for line in file.read_text(encoding='utf-8').splitlines() if line.strip()}
    missing = sorted(stems - there)
    if missing or not stems:
        what = f'{missing[0]}{suffix}, which is not in {folder}' if missing else 'nothing'
        raise UserError(f'{name}: {file} lists {what}: expected images of that folder, without their suffix')
    return stems


def _label_map_fault(image: Path, file: Path, classes: int, shifted: bool) -> Fault | None:
    try:
        labels = mmcv.imread(file, flag='unchanged', backend='pillow')
    except (OSError, SyntaxError, ValueError) as error:  # as Pillow's decoders raise
        return map_fault(file, said(error))
    try:
        size = size_of(image)
    except OSError as error:
        return image_fault(image, said(error))
    return map_size_fault(file, labels, size[::-1]) or map_value_fault(file, labels, classes, shifted)


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


def _class_of(dataset: dict, name: str) -> type:
    """The dataset class, looked up in the scope of the config's library."""
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as registry:
        found = registry.get(dataset['type'])
        near = difflib.get_close_matches(dataset['type'], registry.module_dict, 1)
    if found is None:
        raise UserError(
            f'{name}: unknown dataset type {dataset["type"]!r}' + (f': did you mean {near[0]}?' if near else '')
        )
    return found


def _class_names(dataset: dict) -> tuple[str, ...]:
    metainfo = dataset.get('metainfo') or {}
    return tuple(metainfo.get('classes') or _class_of(dataset, '').METAINFO.get('classes') or ())


def _option(dataset: dict, key: str, name: str) -> object:
    """A dataset's option, or its class's default."""
    if dataset.get(key) is not None:
        return dataset[key]
    kind = _class_of(dataset, name)
    return next(
        (p[key].default for c in kind.__mro__ if key in (p := inspect.signature(c.__init__).parameters)), None
    )


def _listed(folder: Path, name: str) -> list[os.DirEntry]:
    if not folder.is_dir():
        raise UserError(f'{name}: folder {folder} not found: check data_root and data_prefix')
    return list(os.scandir(folder))


def _stems(folder: Path, suffix: str, name: str) -> set[str]:
    """Paths below a folder, links followed, as mmseg pairs images and label maps: with the suffix taken off."""
    _listed(folder, name)
    return {file[: -len(suffix)] for file in files_below(folder) if file.endswith(suffix)}
