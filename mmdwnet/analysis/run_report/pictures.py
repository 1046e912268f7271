"""Pictures of an image's truth and prediction, small enough to lie in a page by the dozen."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LONG_SIDE = 300
GAP = 6  # white pixels between two panels
Palette = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Objects:
    """What a detector found in an image, or what is annotated there.

    Args:
        boxes: (N, 4), x and y of two corners, in pixels of the image.
        labels: (N,), indices of classes.
        scores: (N,), None for annotations.
        masks: (N, H, W) of the image, None where there are none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None

    def at_least(self, score: float) -> Objects:
        """Those of a score, the highest first."""
        chosen = np.argsort(-self.scores, kind='stable')
        chosen = chosen[self.scores[chosen] >= score]
        masks = None if self.masks is None else self.masks[chosen]
        return Objects(self.boxes[chosen], self.labels[chosen], self.scores[chosen], masks)


def palette_of(classes: int) -> list[list[int]]:
    """A colour for every class, hues that lie far apart; those of a set may be random, or of other classes."""
    golden = 0.618034
    shades = [colorsys.hsv_to_rgb(0.6 + i * golden % 1, 0.7, 0.9 - 0.22 * (i % 2)) for i in range(classes)]
    return [[round(255 * part) for part in shade] for shade in shades]


def classified(image: np.ndarray) -> bytes:
    """An image, (H, W, 3), as JPEG; the words stand beside it."""
    return _jpeg([_fitted(image)])


def detected(image: np.ndarray, truth: Objects, found: Objects, classes: Sequence[str], palette: Palette) -> bytes:
    """Truth, and beside it what was found, as JPEG."""
    return _jpeg([_with_objects(image, objects, classes, palette) for objects in (truth, found)])


def segmented(image: np.ndarray, truth: np.ndarray, found: np.ndarray, palette: Palette) -> bytes:
    """The image, the map of its truth and that of the prediction, as JPEG; what is ignored stays uncoloured."""
    plain = _fitted(image)
    return _jpeg([plain, *(_with_map(plain, labels, palette) for labels in (truth, found))])


def _fitted(image: np.ndarray) -> Image.Image:
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return Image.fromarray(image).resize(size, Image.LANCZOS if scale < 1 else Image.BICUBIC)


def _jpeg(panels: Sequence[Image.Image]) -> bytes:
    width, height = panels[0].size
    sheet = Image.new('RGB', (len(panels) * (width + GAP) - GAP, height), 'white')
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i * (width + GAP), 0))
    file = io.BytesIO()
    sheet.save(file, 'JPEG', quality=82, optimize=True)
    return file.getvalue()


def _with_objects(image: np.ndarray, objects: Objects, classes: Sequence[str], palette: Palette) -> Image.Image:
    panel = _fitted(image)
    colors = [tuple(palette[label]) for label in objects.labels]
    for color, mask in zip(colors, objects.masks, strict=True) if objects.masks is not None else ():
        panel = _tinted(panel, mask > 0, color, 0.45)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(11)
    scale = panel.width / image.shape[1]
    boxes = [[float(side) * scale for side in box] for box in objects.boxes]
    for color, box in zip(colors, boxes, strict=True):
        draw.rectangle([min(box[0], box[2]), min(box[1], box[3]), *box[2:]], outline=color, width=2)
    for i, (color, box) in enumerate(zip(colors, boxes, strict=True)):  # words over all boxes
        text = classes[objects.labels[i]]
        if objects.scores is not None:
            text += f' {objects.scores[i]:.2f}'
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        x = min(max(box[0], 0), max(panel.width - right - 4, 0))
        y = min(max(box[1] - bottom - 3, 0), panel.height - bottom - 3)
        draw.rectangle([x, y, x + right + 4, y + bottom + 3], fill=color)
        dark = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] < 140
        draw.text((x + 2, y + 1), text, 'white' if dark else 'black', font)
    return panel


def _with_map(panel: Image.Image, labels: np.ndarray, palette: Palette) -> Image.Image:
    small = np.asarray(Image.fromarray(labels.astype(np.uint16)).resize(panel.size, Image.NEAREST))
    known = small < len(palette)
    colors = np.asarray(palette, np.float32)[np.where(known, small, 0)]
    mixed = 0.35 * np.asarray(panel, np.float32) + 0.65 * colors
    return Image.fromarray(np.where(known[..., None], mixed, np.asarray(panel)).astype(np.uint8))


def _tinted(panel: Image.Image, mask: np.ndarray, color: Sequence[int], strength: float) -> Image.Image:
    small = Image.fromarray(mask.astype(np.uint8) * round(255 * strength)).resize(panel.size, Image.NEAREST)
    return Image.composite(Image.new('RGB', panel.size, tuple(color)), panel, small)
