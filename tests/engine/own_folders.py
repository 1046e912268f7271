"""Small folders of data in the layouts that people have, for the tests of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def image(path: Path, size: tuple[int, int] = (40, 32)) -> None:
    """Write a picture of noise, which depends on its name only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def class_folders(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 32)) -> Path:
    """`counts`: images by the path of a folder below the root."""
    for folder, number in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(number):
            image(root / folder / f'{i}.png', size)
    return root


def coco(names: list[str], categories: list[tuple[int, str]], masks: bool = True) -> dict:
    """The content of a COCO JSON: every image has two objects, of categories in turn."""
    annotations = []
    for i, _ in enumerate(names):
        for j in range(2):
            annotation = dict(id=len(annotations) + 5, image_id=10 + i, bbox=[2 + 12 * j, 4, 10, 20], area=200)
            annotation.update(category_id=categories[(i + j) % len(categories)][0], iscrowd=0)
            if masks:
                x = 2 + 12 * j
                annotation['segmentation'] = [[x, 4, x + 10, 4, x + 10, 24, x, 24]]
            annotations.append(annotation)
    images = [dict(id=10 + i, file_name=name, width=40, height=32) for i, name in enumerate(names)]
    return dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=number, name=name) for number, name in categories],
    )


def coco_folder(root: Path, file: str, images: str, content: dict) -> Path:
    """Write a COCO JSON and its images, both below the root."""
    for entry in content['images']:
        image(root / images / entry['file_name'])
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    return root


def label_maps(
    root: Path, images: str, maps: str, number: int, values: tuple[int, ...] = (0, 1, 2), end: str = '.png'
) -> Path:
    """Write images, and label maps that have each of the values."""
    for i in range(number):
        image(root / images / f'p{i}.jpg')
        label_map(root / maps / f'p{i}{end}', values)
    return root


def label_map(path: Path, values: tuple[int, ...], size: tuple[int, int] = (40, 32)) -> None:
    """Write a grey label map of stripes of the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.arange(size[0]) * len(values) // size[0]
    Image.fromarray(np.tile(np.array(values, np.uint8)[columns], (size[1], 1))).save(path)
