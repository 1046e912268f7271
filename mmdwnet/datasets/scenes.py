"""Composition of one picture of the mini dataset: which shapes, where, in which order and colours.

One main shape decides the label, so it is kept clearly the largest; up to two smaller ones stand
beside it, behind it or in front of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mmdwnet.datasets.shapes import (
    BACKGROUNDS,
    SILHOUETTES,
    TEXTURES,
    background_colours,
    coverage,
    outline,
    paint,
    shape_colours,
)

MIN_SIZE = 48  # below that the small shapes' holes and tips are no longer visible
SHAPES_PER_IMAGE = {1: 0.5, 2: 0.3, 3: 0.2}  # number: probability
MAIN_EXTENT = (0.45, 0.75)  # longest side of the whole shape's bounding box / image side
SMALL_EXTENT = (0.20, 0.35)
MIN_VISIBLE = 0.6  # of every shape's own area
MAIN_EXTENT_RATIO = 1.4  # the main shape's extent to that of any other, at least
MAIN_AREA_RATIO = 1.5  # the main shape's visible area to that of any other
_PLACING_ATTEMPTS = 20


class Scene(NamedTuple):
    """A drawn image and what is in it; the main shape comes first.

    Attributes:
        image: (H, W, 3) uint8.
        shapes: class name of each shape.
        owner: (H, W) uint8, which shape is on top: 0 none, k the (k-1)-th of `shapes`.
        full_areas: pixels of each shape, the covered ones included.
    """

    image: np.ndarray
    shapes: tuple[str, ...]
    owner: np.ndarray
    full_areas: tuple[int, ...]


def draw_scene(rng: np.random.Generator, size: int, main: str) -> Scene:
    """One image of `size` x `size` pixels whose largest shape is of class `main`."""
    shapes, layers, order = _compose(rng, size, main)
    background = background_colours(rng)
    image = paint(str(rng.choice(BACKGROUNDS)), rng, size, background)
    colours = []
    for k in order:
        colours.append(shape_colours(rng, background, colours))
        texture = paint(str(rng.choice(TEXTURES)), rng, size, colours[-1])
        alpha = layers[k][..., None] / 255
        image = image * (1 - alpha) + texture * alpha
    return Scene(
        image=np.rint(image * 255).astype(np.uint8),
        shapes=tuple(shapes),
        owner=_owner(layers, order),
        full_areas=tuple(int(_solid(layer).sum()) for layer in layers),
    )


def _compose(rng: np.random.Generator, size: int, main: str):
    """Choose and place the shapes: their names, coverages, and the order of painting."""
    main_extent = rng.uniform(*MAIN_EXTENT)
    shapes, layers, order = [main], [_place(rng, size, main, main_extent)], [0]
    wanted = int(rng.choice(list(SHAPES_PER_IMAGE), p=list(SHAPES_PER_IMAGE.values())))
    largest = min(SMALL_EXTENT[1], main_extent / MAIN_EXTENT_RATIO)
    for _ in range(_PLACING_ATTEMPTS):
        if len(shapes) == wanted:
            break
        name = str(rng.choice(list(SILHOUETTES)))
        layer = _place(rng, size, name, rng.uniform(SMALL_EXTENT[0], largest))
        candidate = list(order)
        candidate.insert(int(rng.integers(len(order) + 1)), len(shapes))
        if _acceptable([*layers, layer], candidate):
            shapes, layers, order = [*shapes, name], [*layers, layer], candidate
    return shapes, layers, order


def _place(rng: np.random.Generator, size: int, name: str, extent: float) -> np.ndarray:
    """Coverage of a shape of random rotation that lies wholly inside the image."""
    loops = outline(name, rng.uniform(0, 2 * math.pi), extent * size)
    reach = np.abs(loops[0]).max(axis=0) + 1  # half the bounding box, and a pixel of margin
    centre = rng.uniform(reach, size - reach)
    return coverage([loop + centre for loop in loops], size)


def _solid(layer: np.ndarray) -> np.ndarray:
    """The pixels that count as the shape's: at least half covered."""
    return layer >= 128


def _owner(layers: list[np.ndarray], order: list[int]) -> np.ndarray:
    owner = np.zeros(layers[0].shape, dtype=np.uint8)
    for k in order:
        owner[_solid(layers[k])] = k + 1
    return owner


def _acceptable(layers: list[np.ndarray], order: list[int]) -> bool:
    """Every shape mostly visible, and the first clearly the largest."""
    owner = _owner(layers, order)
    visible = [int((owner == k + 1).sum()) for k in range(len(layers))]
    mostly = all(v >= MIN_VISIBLE * _solid(m).sum() for v, m in zip(visible, layers, strict=True))
    return mostly and visible[0] >= MAIN_AREA_RATIO * max(visible[1:])
