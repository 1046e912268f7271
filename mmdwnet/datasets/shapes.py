"""Geometry, patterns and colours from which the mini dataset's pictures are drawn.

Three independent parts: silhouettes (closed outlines, rasterised with anti-aliasing), patterns
(weight maps that mix two colours; textures of shapes and backgrounds alike) and colours with a
guaranteed contrast. Own construction; the heart is the well-known parametric curve of Weisstein,
"Heart Curve", MathWorld.

Every random decision comes from the generator handed in. Array arithmetic is limited to operations
that IEEE 754 rounds exactly (no sin, exp or normal deviates on arrays), so that the same draws give
the same pixels on every processor.
"""

from __future__ import annotations

import math

import numpy as np

SCANLINES = 8  # per row of pixels, behind the anti-aliased edges

# Shapes are light and backgrounds dark. Without that rule a small network that sees a few thousand
# images learns figure from ground too slowly for a set that is to be learnt in minutes.
DARKEST_SHAPE, LIGHTEST_BACKGROUND = 0.5, 0.35  # luma (ITU-R BT.601), of 1
BACKGROUND_RANGE = 0.6  # of each channel
# Distances in RGB with channels in [0, 1]; the cube's diagonal is 1.73.
BACKGROUND_CONTRAST = 0.45  # shape colour to every background colour
SHAPE_CONTRAST = 0.25  # shape colour to the colours of the image's other shapes


# --- Silhouettes ---------------------------------------------------------------------------------


def _arc(radius: float, start: float, stop: float, points: int, cx: float = 0.0) -> np.ndarray:
    """Points (N, 2) on a circle around (cx, 0), angles in turns, both ends included."""
    turns = [start + (stop - start) * i / (points - 1) for i in range(points)]
    return np.array([(cx + radius * math.cos(2 * math.pi * t), radius * math.sin(2 * math.pi * t)) for t in turns])


def _disc():
    return [_arc(1.0, 0, 1, 97)]


def _ring():
    return [_arc(1.0, 0, 1, 97), _arc(0.55, 0, 1, 97)]


def _triangle():
    return [_arc(1.0, 0, 1, 4)]


def _square():
    return [_arc(1.0, 0, 1, 5)]


def _star():
    outer, inner = _arc(1.0, 0, 0.8, 5), _arc(0.42, 0.1, 0.9, 5)
    return [np.stack([outer, inner], axis=1).reshape(10, 2)]  # (5, 2, 2) -> alternating (10, 2)


def _cross():
    a = 0.3
    quarter = [(a, -1.0), (a, -a), (1.0, -a)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return [np.array(corners)]


def _crescent():
    radius, shift = 0.8, 0.45  # of the disc that is taken away from the unit disc
    tip_x = (1 - radius**2 + shift**2) / (2 * shift)
    tip_y = math.sqrt(1 - tip_x**2)
    t_outer = math.atan2(tip_y, tip_x) / (2 * math.pi)
    t_inner = math.atan2(tip_y, tip_x - shift) / (2 * math.pi)
    outer = _arc(1.0, t_outer, 1 - t_outer, 64)
    inner = _arc(radius, 1 - t_inner, t_inner, 64, cx=shift)
    return [np.concatenate([outer, inner])]


def _heart():
    points = []
    for i in range(96):
        t = 2 * math.pi * i / 96
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3, -y))
    return [np.array(points)]


def _arrow():
    shaft, head = 0.2, 0.62  # half widths
    top = [(-1.0, -shaft), (0.15, -shaft), (0.15, -head), (1.0, 0.0)]
    return [np.array(top + [(x, -y) for x, y in top[-2::-1]])]


def _capsule():
    radius = 0.28
    right = _arc(radius, -0.25, 0.25, 33, cx=1 - radius)
    left = _arc(radius, 0.25, 0.75, 33, cx=radius - 1)
    return [np.concatenate([right, left])]


# Name -> outline in any units: one closed loop, or an outer loop and the loop of its hole. In the
# alphabetical order in which mmpretrain numbers class folders: one numbering in all three layouts.
SILHOUETTES = {
    'arrow': _arrow(),
    'capsule': _capsule(),
    'crescent': _crescent(),
    'cross': _cross(),
    'disc': _disc(),
    'heart': _heart(),
    'ring': _ring(),
    'square': _square(),
    'star': _star(),
    'triangle': _triangle(),
}


def outline(name: str, angle: float, extent: float) -> list[np.ndarray]:
    """The silhouette `name`, turned and scaled, its bounding box centred on the origin.

    Args:
        name: a key of SILHOUETTES.
        angle: rotation in radians.
        extent: longest side of the bounding box *after* the rotation, in pixels.

    Returns:
        One (N, 2) array of x, y per loop; a second loop bounds the hole.
    """
    c, s = math.cos(angle), math.sin(angle)
    loops = [np.stack([c * x - s * y, s * x + c * y], axis=1) for x, y in (p.T for p in SILHOUETTES[name])]
    low, high = loops[0].min(axis=0), loops[0].max(axis=0)
    return [(loop - (low + high) / 2) * (extent / (high - low).max()) for loop in loops]


def coverage(loops: list[np.ndarray], size: int) -> np.ndarray:
    """How much of each pixel lies inside the outline.

    Args:
        loops: as from `outline`, moved to its place inside the image; pixel (row i, column j) spans
            x in [j, j+1], y in [i, i+1].
        size: side of the square image.

    Returns:
        (size, size) uint8, 0 outside to 255 inside.
    """
    outer, *holes = (_loop_coverage(loop, size) for loop in loops)
    return np.rint(255 * np.clip(outer - sum(holes), 0, 1)).astype(np.uint8)


def _loop_coverage(loop: np.ndarray, size: int) -> np.ndarray:
    """(size, size) share of each pixel inside one closed loop: exact along x, sampled along y."""
    first, second = loop, np.roll(loop, -1, axis=0)
    y = (np.arange(size * SCANLINES) + 0.5) / SCANLINES
    # Upward or downward crossing of scanline (row) and edge (column), with the x where it happens.
    sign = (first[:, 1] <= y[:, None]).astype(float) - (second[:, 1] <= y[:, None])
    line, edge = np.nonzero(sign)
    (x0, y0), (x1, y1) = first[edge].T, second[edge].T
    x = x0 + (y[line] - y0) / (y1 - y0) * (x1 - x0)
    # All that is right of a crossing lies beyond it: part of its own pixel, all of the next ones.
    column = np.floor(x).astype(int)
    step = np.zeros((size * SCANLINES, size + 1))
    np.add.at(step, (line, column), sign[line, edge] * (column + 1 - x))
    np.add.at(step, (line, column + 1), sign[line, edge] * (x - column))
    winding = np.cumsum(step, axis=1)[:, :size].reshape(size, SCANLINES, size).mean(axis=1)
    return np.abs(winding)  # loops may run either way round


# --- Patterns: (size, size) weights in [0, 1] that mix a first and a second colour ---------------


def _ramp(rng: np.random.Generator, size: int) -> np.ndarray:
    """Position along a random direction, in pixels from the image's centre."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.arange(size) + 0.5 - size / 2
    return axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)


def _bands(position: np.ndarray, period: float) -> np.ndarray:
    """Alternating bands along `position`, with an edge one pixel wide."""
    triangle = np.abs(2 * np.mod(position / period, 1.0) - 1)
    return np.clip((triangle - 0.5) * period / 2 + 0.5, 0, 1)


def _plain(rng, size):
    return np.zeros((size, size))


def _gradient(rng, size):
    return np.clip(_ramp(rng, size) / size + 0.5, 0, 1)


def _stripes(rng, size):
    period = size * rng.uniform(0.06, 0.14)
    return _bands(_ramp(rng, size) + rng.uniform(0, period), period)


def _checks(rng, size):
    period = size * rng.uniform(0.10, 0.18)
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.arange(size) + 0.5
    u = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)
    v = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle)
    a, b = _bands(u, period), _bands(v, period)
    return a * b + (1 - a) * (1 - b)


def _speckle(rng, size):
    cell = max(1, size // 64)
    cells = -(-size // cell)
    dots = rng.random((cells, cells)) < rng.uniform(0.15, 0.4)
    return np.kron(dots, np.ones((cell, cell)))[:size, :size]


def _noise(rng, size):
    """Cloudy: a coarse random grid, smoothly enlarged, with a fine grain."""
    cells = int(rng.integers(4, 11))
    grid = rng.random((cells, cells))
    position = np.linspace(0, cells - 1, size)
    low = np.minimum(position.astype(int), cells - 2)
    weight = position - low
    grid = grid[low] * (1 - weight[:, None]) + grid[low + 1] * weight[:, None]  # (size, cells)
    clouds = grid[:, low] * (1 - weight) + grid[:, low + 1] * weight  # (size, size)
    return np.clip(clouds + rng.uniform(-0.2, 0.2, (size, size)), 0, 1)


def _blobs(rng, size):
    axis = (np.arange(size) + 0.5) / size
    field = np.zeros((size, size))
    for cx, cy, radius in rng.uniform((0, 0, 0.05), (1, 1, 0.2), (int(rng.integers(4, 10)), 3)):
        squared = (axis[None, :] - cx) ** 2 + (axis[:, None] - cy) ** 2
        field = np.maximum(field, 1 / (1 + (squared / radius**2) ** 2))
    return field


PATTERNS = {
    'plain': _plain,
    'gradient': _gradient,
    'stripes': _stripes,
    'checks': _checks,
    'speckle': _speckle,
    'noise': _noise,
    'blobs': _blobs,
}
TEXTURES = ('plain', 'gradient', 'stripes', 'checks', 'speckle')
BACKGROUNDS = ('plain', 'gradient', 'stripes', 'noise', 'blobs')


def paint(kind: str, rng: np.random.Generator, size: int, colours: np.ndarray) -> np.ndarray:
    """(size, size, 3) float picture that mixes two colours (2, 3) by the pattern `kind`."""
    weight = PATTERNS[kind](rng, size)[..., None]
    return colours[0] + weight * (colours[1] - colours[0])


# --- Colours: float RGB in [0, 1] ----------------------------------------------------------------


def _path(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Samples of what a pattern can mix from two colours: (3,) or (N, 3) each -> (..., 5, 3)."""
    weight = np.linspace(0, 1, 5)[:, None]
    return first[..., None, :] * (1 - weight) + second[..., None, :] * weight


def _luma(colours: np.ndarray) -> np.ndarray:
    """(..., 3) -> (...)."""
    return 0.299 * colours[..., 0] + 0.587 * colours[..., 1] + 0.114 * colours[..., 2]


def _colour_pairs(rng: np.random.Generator, spread: float) -> np.ndarray:
    """64 candidates of two colours, the second within `spread` of the first: (64, 2, 3)."""
    first = rng.uniform(0, 1, (64, 3))
    second = np.clip(first + rng.uniform(-spread, spread, (64, 3)), 0, 1)
    return np.stack([first, second], axis=1)


def background_colours(rng: np.random.Generator) -> np.ndarray:
    """Two related dark colours, (2, 3)."""
    while True:
        pairs = BACKGROUND_RANGE * _colour_pairs(rng, 0.3)
        good = (_luma(pairs) <= LIGHTEST_BACKGROUND).all(axis=1)
        if good.any():
            return pairs[np.argmax(good)]


def shape_colours(rng: np.random.Generator, background: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Two light colours (2, 3) for a shape that stands out from everything around it.

    Whatever a pattern mixes from them is at least BACKGROUND_CONTRAST away from whatever the
    background mixes from its own two, and SHAPE_CONTRAST from each of `others` (colour pairs).
    For backgrounds of `background_colours` and two others there always is such a pair.
    """
    while True:
        pairs = _colour_pairs(rng, 0.4)
        mixes = _path(pairs[:, 0], pairs[:, 1])  # (64, 5, 3)
        good = (_luma(pairs) >= DARKEST_SHAPE).all(axis=1)
        good &= _distance(mixes, background) >= BACKGROUND_CONTRAST
        for pair in others:
            good &= _distance(mixes, pair) >= SHAPE_CONTRAST
        if good.any():
            return pairs[np.argmax(good)]


def _distance(mixes: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Smallest distance of each candidate's mixes (N, 5, 3) to those of `pair` (2, 3): (N,)."""
    gap = mixes[:, :, None] - _path(pair[0], pair[1])  # (N, 5, 5, 3)
    return np.sqrt((gap**2).sum(-1)).min(axis=(1, 2))
