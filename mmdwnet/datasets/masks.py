"""Binary masks as COCO segmentations: exact polygons, or uncompressed run lengths.

The format is that of pycocotools (cocodataset/cocoapi, PythonAPI/pycocotools/mask.py): polygons
[x1, y1, x2, y2, ...] in pixel-corner coordinates; run lengths down the columns, background first.
"""

from __future__ import annotations

import numpy as np

Edge = tuple[tuple[int, int], tuple[int, int]]  # corner (x, y) it leaves, unit direction


def encode_mask(mask: np.ndarray) -> list[list[int]] | dict:
    """COCO `segmentation` of a non-empty mask (H, W) of bool.

    Returns:
        [polygon] for a single 4-connected piece without a hole, else {'size', 'counts'}.
    """
    loops = trace_outlines(mask)
    if len(loops) == 1:
        return [[coordinate for corner in loops[0] for coordinate in corner]]
    return run_lengths(mask)


def trace_outlines(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Every closed boundary of the mask (H, W) of bool, along the pixel edges.

    One loop per 4-connected piece and one per hole; pixels that touch at a corner only do not
    connect.

    Returns:
        Loops of corners (x, y), only those where the boundary turns.
    """
    edges = dict.fromkeys(_boundary_edges(mask))  # an ordered set: the result is reproducible
    loops = []
    while edges:
        first = next(iter(edges))
        loop = [first]
        while (edge := _following(edges, loop[-1])) != first:
            loop.append(edge)
        for edge in loop:
            del edges[edge]
        before = [loop[-1], *loop[:-1]]
        loops.append([e[0] for e, last in zip(loop, before, strict=True) if e[1] != last[1]])
    return loops


def _following(edges: dict[Edge, None], edge: Edge) -> Edge:
    """The boundary edge after `edge`: at a crossing the right turn, which stays on the pixel."""
    (x, y), (dx, dy) = edge
    corner = (x + dx, y + dy)
    for direction in ((-dy, dx), (dx, dy), (dy, -dx)):  # right, straight on, left
        if (corner, direction) in edges:
            return corner, direction
    raise AssertionError(f'the boundary is open at {corner}')


def _boundary_edges(mask: np.ndarray) -> list[Edge]:
    """Unit edges between mask and background, directed with the mask on their right hand."""
    padded = np.pad(mask, 1)
    sides = (  # the neighbour across the edge, the edge's direction, its first corner's offset
        (padded[:-2, 1:-1], (1, 0), (0, 0)),
        (padded[1:-1, 2:], (0, 1), (1, 0)),
        (padded[2:, 1:-1], (-1, 0), (1, 1)),
        (padded[1:-1, :-2], (0, -1), (0, 1)),
    )
    return [
        ((x + dx, y + dy), direction)
        for neighbour, direction, (dx, dy) in sides
        for y, x in np.argwhere(mask & ~neighbour).tolist()
    ]


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed COCO RLE of a mask (H, W): run lengths in column-major order, zeros first."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = [0, *changes.tolist(), flat.size]
    counts = [stop - start for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    return {'size': list(mask.shape), 'counts': [0, *counts] if flat[0] else counts}
