"""COCO JSON with its images: as COCO has it, as Roboflow exports it, or one file beside a folder of images."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import UserError, listed
from .own_data import SPLITS, OwnData, Sample, Split, below, counted, folders_of, split_folders, split_named

EXPECTED = (
    'COCO JSON, as ROOT/annotations/instances_train.json with ROOT/train/, ROOT/train/_annotations.coco.json, or '
    'ROOT/annotations.json with ROOT/images/'
)
# what mmdet and the COCO evaluation read of an annotation, apart from iscrowd, which many exporters leave out
REQUIRED = ('id', 'image_id', 'category_id', 'bbox', 'area')


def looks_alike(root: Path) -> bool:
    """Whether a folder may be of this layout: whether there is a JSON file where one is looked for."""
    return bool(_files(root))


def has_instances(root: Path) -> bool:
    """Whether one of the JSON files of a folder is of instances."""
    return any(_instances(file) is not None for file in _files(root))


def read(root: Path) -> OwnData:
    """Read the JSON files of a folder of this layout and find the images of each.

    Raises:
        UserError: there is no JSON of instances, it is not clear which is of which split, images are missing, or
            the files have other categories.
    """
    contents = {}
    for file in _files(root):
        content = _instances(file)
        if content is not None:
            contents[file] = content
    files = _by_split(root, list(contents))
    coco = {split: contents[file] for split, file in files.items()}
    classes, remarks = _classes(coco, files)
    splits = {split: _split(root, files[split], content, classes) for split, content in coco.items()}
    for split, content in coco.items():
        if split != 'train' and any('iscrowd' not in annotation for annotation in content['annotations']):
            splits[split] = replace(splits[split], listed=f'{split}.json')
            remarks.append(f'no iscrowd in {files[split].name}: 0 in a copy of it beside the config')
    masks, remark = _masks(coco)
    names = ', '.join(split.annotations for split in splits.values())
    remarks += remark
    side = _object_side(coco['train'])
    return OwnData(root, 'det', f'COCO JSON ({names})', classes, splits, masks, side, remarks=tuple(remarks))


def _files(root: Path) -> list[Path]:
    places = [root, root / 'annotations', *split_folders(root).values()]
    return [file for place in places for file in sorted(place.glob('*.json'))]


def _instances(file: Path) -> dict | None:
    """The content of a JSON of instances; None of another one, such as of captions."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f'{file} cannot be read as JSON: {error}') from error
    if not isinstance(content, dict) or not {'images', 'annotations', 'categories'} <= content.keys():
        return None
    if not content['annotations'] and split_named(file.stem) == 'test':
        return None  # a list of images to be scored elsewhere
    try:
        [(image['id'], image['file_name']) for image in content['images']]
        unnamed = [c['id'] for c in content['categories'] if not isinstance(c['name'], str)]
        if unnamed:
            raise UserError(f'{file}: the name of category {unnamed[0]} is no text: expected a string')
        for annotation in content['annotations']:
            missing = [key for key in REQUIRED if key not in annotation]
            if missing:
                number, expected = annotation.get('id'), ', '.join(REQUIRED)
                raise UserError(f'{file}: annotation {number} has no {missing[0]}: expected {expected}')
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{file} is no COCO instance JSON ({type(error).__name__}: {error})') from error
    return content


def _by_split(root: Path, files: list[Path]) -> dict[str, Path]:
    """Which of the files is of which split."""
    if not files:
        there = listed([below(file, root) for file in _files(root)])
        raise UserError(
            f'{root} has {there}, but no JSON with images, annotations and categories: expected {EXPECTED}'
        )
    instances = [file for file in files if 'instances' in file.stem.lower()]  # beside them, COCO has key points
    named: dict[str | None, list[Path]] = {}
    for file in instances or files:
        inside = split_named(file.parent.name) if file.parent != root else None
        named.setdefault(split_named(file.stem) or inside, []).append(file)
    several = next((group for group in named.values() if len(group) > 1), None)
    if several or ('train' not in named and None not in named) or len(named.keys() & {'train', None}) > 1:
        names = listed([below(file, root) for file in several or instances or files])
        raise UserError(
            f'{root} has {names}: expected one file, or one with train and one with val in its name, such as '
            'instances_train.json and instances_val.json'
        )
    named['train'] = named.get('train') or named.pop(None)
    return {split: named[split][0] for split in SPLITS if split in named}


def _classes(coco: dict[str, dict], files: dict[str, Path]) -> tuple[tuple[str, ...], list[str]]:
    """The categories that have annotations, in the order of the file, and what there is to say of the others.

    mmdet numbers the classes of a file in the order in which it lists them, whatever their ids.
    """
    names = _names(coco['train'])
    twice = [name for name, times in Counter(names.values()).items() if times > 1]
    if twice:
        raise UserError(f'{files["train"]} has two categories called {twice[0]}: expected a name of its own each')
    for split, content in coco.items():
        other = _names(content)
        if list(other.items()) != list(names.items()):
            differ = sorted(set(names.values()) ^ set(other.values()))
            what = f'only one has {listed(differ)}' if differ else 'they have other ids or another order'
            raise UserError(f'the categories of {files[split]} are not those of {files["train"]}: {what}')
    used = {annotation['category_id'] for content in coco.values() for annotation in content['annotations']}
    stray = sorted(used - names.keys(), key=str)
    if stray:
        raise UserError(f'{files["train"]} has annotations of a category {stray[0]}, which it does not list')
    if not used:
        raise UserError(f'{files["train"]} has no annotation: expected boxes or polygons of objects')
    unused = [name for number, name in names.items() if number not in used]
    remarks = [f'no annotation is of {listed(unused)}: left out'] if unused else []
    return tuple(name for number, name in names.items() if number in used), remarks


def _names(content: dict) -> dict[Any, str]:
    return {category['id']: category['name'] for category in content['categories']}


def _split(root: Path, file: Path, content: dict, classes: tuple[str, ...]) -> Split:
    folder = _image_folder(root, file, [image['file_name'] for image in content['images']])
    numbers = {key: classes.index(name) for key, name in _names(content).items() if name in classes}
    labels: dict[Any, set[int]] = {image['id']: set() for image in content['images']}
    for annotation in content['annotations']:
        if annotation['image_id'] not in labels:
            raise UserError(f'{file}: annotation {annotation["id"]} is of an image that the file does not list')
        labels[annotation['image_id']].add(numbers[annotation['category_id']])
    samples = (Sample(image['file_name'], tuple(sorted(labels[image['id']]))) for image in content['images'])
    return Split(below(folder, root), tuple(samples), below(file, root))


def _image_folder(root: Path, file: Path, names: list[str]) -> Path:
    """The folder that has all images of a file: one that is called like it, or where images usually are."""
    if not names:
        raise UserError(f'{file} lists no image: expected some')
    words = [name for name in (file.stem.split('_')[-1], split_named(file.stem) or '') if name]
    places = [root / 'images', root]
    places = [place / word for place in places for word in words] + [file.parent, *places]
    split = split_named(file.stem)
    places += [p for base in (root, root / 'images') for s, p in split_folders(base).items() if s == split]
    places += [folder for folder in folders_of(root) if folder not in places]
    found = {}
    for place in dict.fromkeys(place for place in places if place.is_dir()):
        found[place] = sum((place / name).is_file() for name in names)
        if found[place] == len(names):
            return place
    best = max(found, key=found.__getitem__)
    missing = next(name for name in names if not (best / name).is_file())
    raise UserError(
        f'{file} lists {counted(len(names), "image")}, of which {len(names) - found[best]} are not in {best} '
        f'(first: {missing}), and more are missing in every other folder: expected all of them in one'
    )


def _masks(coco: dict[str, dict]) -> tuple[bool, list[str]]:
    """Whether every annotation has a mask; and a remark if only some have."""
    annotations = [annotation for content in coco.values() for annotation in content['annotations']]
    without = sum(not annotation.get('segmentation') for annotation in annotations)
    if 0 < without < len(annotations):
        return False, [f'{without:,} of {counted(len(annotations), "annotation")} have no mask: boxes only']
    return not without, []


def _object_side(content: dict) -> float:
    """The side of the median object, as a part of that of its image; 0 if the file does not have the sizes."""
    sizes = {image['id']: (image.get('width', 0), image.get('height', 0)) for image in content['images']}
    parts = []
    for annotation in content['annotations']:
        width, height = sizes.get(annotation['image_id'], (0, 0))
        box = annotation['bbox']
        if width and height and isinstance(box, list) and len(box) == 4 and min(box[2:]) > 0:
            parts.append(math.sqrt(box[2] * box[3] / (width * height)))
    return median(parts) if parts else 0.0
