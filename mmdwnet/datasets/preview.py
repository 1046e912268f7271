"""A contact sheet of the mini dataset: every class, each image beside its label map and boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmdwnet.datasets.mini import CLASSES, PALETTE, SEG_PALETTE

_GAP, _CAPTION = 4, 64  # pixels: between cells, for the class name at the left


def contact_sheet(root: Path, columns: int = 6) -> Image.Image:
    """One row per class with up to `columns` held-out images that carry it as their label.

    Args:
        root: a complete mini dataset.
        columns: images per row; each takes two cells, the image and its annotation.
    """
    names = {
        label: sorted(p.name for p in (root / 'imagenet' / 'val' / label).iterdir())[:columns] for label in CLASSES
    }
    boxes = _boxes(root)
    size = Image.open(root / 'imagenet' / 'val' / CLASSES[0] / names[CLASSES[0]][0]).width
    cell = size + _GAP
    columns = max(len(row) for row in names.values())
    sheet = Image.new('RGB', (_CAPTION + 2 * cell * columns, cell * len(CLASSES)), 'white')
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(CLASSES):
        draw.text((_GAP, row * cell + size // 2), label, fill='black')
        for column, name in enumerate(names[label]):
            left = _CAPTION + 2 * cell * column
            image = Image.open(root / 'imagenet' / 'val' / label / name)
            sheet.paste(image, (left, row * cell))
            sheet.paste(_annotation(root, name, boxes[name]), (left + size, row * cell))
    return sheet


def _boxes(root: Path) -> dict[str, list[tuple[int, list[int]]]]:
    """File name -> (class index, [x, y, w, h]) of each instance, from the COCO file."""
    path = root / 'coco' / 'annotations' / 'instances_val2017.json'
    coco = json.loads(path.read_text(encoding='utf-8'))
    names = {image['id']: image['file_name'] for image in coco['images']}
    boxes: dict[str, list[tuple[int, list[int]]]] = {name: [] for name in names.values()}
    for item in coco['annotations']:
        boxes[names[item['image_id']]].append((item['category_id'] - 1, item['bbox']))
    return boxes


def _annotation(root: Path, name: str, boxes: list[tuple[int, list[int]]]) -> Image.Image:
    """The image's label map (from the ADE layout) in colours, with its boxes (from COCO)."""
    labels = np.asarray(Image.open(root / 'ade' / 'annotations' / 'validation' / name))
    colours = np.array([(0, 0, 0), *SEG_PALETTE], dtype=np.uint8)  # 0: unlabelled
    picture = Image.fromarray(colours[labels])
    draw = ImageDraw.Draw(picture)
    for index, (x, y, w, h) in boxes:
        draw.rectangle((x, y, x + w - 1, y + h - 1), outline=PALETTE[index])
    return picture
