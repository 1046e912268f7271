"""The mini dataset: drawn shapes, the same images as ImageNet folders, COCO JSON and ADE maps.

It stands in for ImageNet, COCO and ADE20K where a run has to finish in minutes, so it is laid out
exactly as those are and read by the stock dataset classes (own construction; the layouts are those
of mmpretrain's CustomDataset, mmdet's CocoDataset and mmseg's BaseSegDataset)::

    root/imagenet/{train,val}/<class>/*.png              class of the image's largest shape
    root/coco/{train2017,val2017}/*.png
    root/coco/annotations/instances_{train,val}2017.json    visible part of every shape
    root/ade/images/{training,validation}/*.png
    root/ade/annotations/{training,validation}/*.png     1 background, 2.. CLASSES; 0 never used
    root/meta.json                                       parameters, counts, hash of all the rest

An image has the same file name in all three. Same seed and parameters give the same bytes, however
many processes draw. (The pixels come from numpy alone; another release of Pillow or zlib may
compress the same pixels to other PNG bytes.)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmdwnet.datasets.masks import encode_mask
from mmdwnet.datasets.scenes import MIN_SIZE, Scene, draw_scene
from mmdwnet.datasets.shapes import SILHOUETTES
from mmdwnet.errors import UserError

CLASSES = tuple(SILHOUETTES)
# One colour per class, for pictures of label maps; SEG_* add the background in front.
PALETTE = (
    (230, 60, 60),
    (60, 130, 240),
    (70, 190, 80),
    (245, 190, 40),
    (160, 80, 220),
    (50, 205, 205),
    (250, 130, 40),
    (240, 100, 180),
    (150, 110, 70),
    (190, 225, 90),
)
SEG_CLASSES = ('background', *CLASSES)
SEG_PALETTE = ((40, 40, 40), *PALETTE)

GENERATOR = 'mmdwnet mini dataset'  # how meta.json says that a folder is ours to replace
VERSION = 1  # raise when the same parameters draw other bytes than before
SPLITS = ('train', 'val')
_ADE_FOLDER = {'train': 'training', 'val': 'validation'}
Progress = Callable[[int, int], None]  # images drawn, images in all
_TOP_LEVEL = {'imagenet', 'coco', 'ade', 'meta.json'}


class Result(NamedTuple):
    """What `generate` found or made: the folder, its meta.json, and whether it was drawn now."""

    root: Path
    meta: dict
    created: bool


def generate(
    root: str | os.PathLike = 'data/mini',
    seed: int = 0,
    size: int = 128,
    num_train: int = 2000,
    num_val: int = 200,
    workers: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Draw the mini dataset into `root`, or leave it alone where it already is.

    The set appears under `root` complete or not at all. A mini dataset with other parameters, or
    one that no longer matches its own content hash, is replaced; any other non-empty folder is not.
    A run that is interrupted leaves what was there before.

    Args:
        root: folder of the set; its parents are created.
        seed: non-negative integer; every image has its own stream, SeedSequence([seed, split, i]).
        size: side of the square images in pixels.
        num_train: images of the training split; the classes take turns as the label.
        num_val: images of the held-out split.
        workers: processes that draw; does not change the result.
        force: draw even if the identical set is there.
        progress: called with (images drawn, images in all) after each image.

    Raises:
        UserError: a parameter is out of range, `root` holds something else, or it cannot be written.
    """
    root = Path(root)
    _check_at_least(seed=(seed, 0), size=(size, MIN_SIZE), workers=(workers, 1))
    # Below one image per class some class folder would be empty.
    _check_at_least(num_train=(num_train, len(CLASSES)), num_val=(num_val, len(CLASSES)))
    parameters = {'seed': seed, 'size': size, 'num_train': num_train, 'num_val': num_val}

    meta = _read_meta(root)
    if not force and _is_current(root, meta, parameters):
        return Result(root, meta, created=False)
    _check_replaceable(root)
    try:
        meta = _write_aside(root.resolve(), parameters, workers, progress)
    except OSError as error:
        raise UserError(
            f'cannot write the mini dataset to {root}: {error}; give a folder that can be written'
        ) from error
    return Result(root, meta, created=True)


# --- The folder ----------------------------------------------------------------------------------


def _check_at_least(**bounds: tuple[int, int]) -> None:
    for name, (value, least) in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f'mini dataset: {name} must be an integer >= {least}, got {value!r}')


def _read_meta(root: Path) -> dict | None:
    """The folder's meta.json if this generator wrote it, else None."""
    try:
        meta = json.loads((root / 'meta.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get('generator') == GENERATOR else None


def _check_replaceable(root: Path) -> None:
    """Only what the generator wrote may be replaced: nothing, an empty folder, a mini dataset."""
    if not root.exists():
        return
    cure = 'give another folder, or move it away'
    if not root.is_dir():
        raise UserError(f'{root} is in the way of the mini dataset: not a folder; {cure}')
    entries = {entry.name for entry in root.iterdir()}
    if entries and _read_meta(root) is None:
        raise UserError(f'{root} is not a mini dataset and will not be overwritten; {cure}')
    if entries - _TOP_LEVEL:
        name = sorted(entries - _TOP_LEVEL)[0]
        raise UserError(f'{root}/{name} is not part of the mini dataset; {cure}')


def _is_current(root: Path, meta: dict | None, parameters: dict) -> bool:
    return (
        meta is not None
        and meta.get('version') == VERSION
        and meta.get('parameters') == parameters
        and meta.get('content_sha256') == content_hash(root)
    )


def content_hash(root: Path) -> str:
    """SHA-256 over the relative path and the bytes of every file but meta.json."""
    total = hashlib.sha256()
    paths = (path for path in root.rglob('*') if path.is_file())
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in paths):
        if name != 'meta.json':
            total.update(f'{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n'.encode())
    return total.hexdigest()


def _write_aside(root: Path, parameters: dict, workers: int, progress: Progress | None) -> dict:
    """Write the set beside `root` and move it there when it is complete; returns its meta.json."""
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = root.with_name(f'.{root.name}.unfinished-{os.getpid()}')
    old = root.with_name(f'.{root.name}.old-{os.getpid()}')
    try:
        meta = _write(unfinished, parameters, workers, progress)
        if root.exists():
            root.rename(old)
        unfinished.rename(root)
    finally:
        if old.exists() and not root.exists():
            old.rename(root)
        for leftover in (unfinished, old):
            shutil.rmtree(leftover, ignore_errors=True)
    return meta


# --- Writing -------------------------------------------------------------------------------------


class _Drawn(NamedTuple):
    """One image as it goes to disk; plain data, so that a worker can send it."""

    label: str
    image_png: bytes
    label_map_png: bytes
    annotations: list[dict]  # COCO, without the ids


def _write(root: Path, parameters: dict, workers: int, progress: Progress | None) -> dict:
    counts = {'train': parameters['num_train'], 'val': parameters['num_val']}
    jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
    _make_folders(root)
    coco = {split: _empty_coco() for split in SPLITS}
    drawn_images = _draw_all(jobs, parameters['seed'], parameters['size'], workers)
    for done, ((split, index), drawn) in enumerate(zip(jobs, drawn_images, strict=True), 1):
        name = f'{split}_{index:06d}.png'
        _write_image(root, split, name, drawn)
        _add_to_coco(coco[split], name, parameters['size'], drawn.annotations)
        if progress is not None:
            progress(done, len(jobs))
    for split in SPLITS:
        path = root / 'coco' / 'annotations' / f'instances_{split}2017.json'
        path.write_text(_to_json(coco[split]), encoding='utf-8')
    meta = {
        'generator': GENERATOR,
        'version': VERSION,
        'parameters': parameters,
        'classes': list(CLASSES),
        'images': counts,
        'instances': {split: len(coco[split]['annotations']) for split in SPLITS},
        'content_sha256': content_hash(root),
    }
    (root / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n', encoding='utf-8')
    return meta


def _make_folders(root: Path) -> None:
    for split in SPLITS:
        for name in CLASSES:
            (root / 'imagenet' / split / name).mkdir(parents=True)
        (root / 'coco' / f'{split}2017').mkdir(parents=True)
        for kind in ('images', 'annotations'):
            (root / 'ade' / kind / _ADE_FOLDER[split]).mkdir(parents=True)
    (root / 'coco' / 'annotations').mkdir()


def _write_image(root: Path, split: str, name: str, drawn: _Drawn) -> None:
    ade = _ADE_FOLDER[split]
    (root / 'imagenet' / split / drawn.label / name).write_bytes(drawn.image_png)
    (root / 'coco' / f'{split}2017' / name).write_bytes(drawn.image_png)
    (root / 'ade' / 'images' / ade / name).write_bytes(drawn.image_png)
    (root / 'ade' / 'annotations' / ade / name).write_bytes(drawn.label_map_png)


def _draw_all(jobs: list, seed: int, size: int, workers: int) -> Iterator[_Drawn]:
    draw = partial(_draw_job, seed, size)
    if workers == 1:
        yield from map(draw, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(draw, jobs, chunksize=8)
        finally:  # when the consumer fails, do not draw the rest before saying so
            pool.shutdown(cancel_futures=True)


def _draw_job(seed: int, size: int, job: tuple[str, int]) -> _Drawn:
    split, index = job
    rng = scene_generator(seed, split, index)
    scene = draw_scene(rng, size, CLASSES[index % len(CLASSES)])
    return _Drawn(
        label=scene.shapes[0],
        image_png=_to_png(scene.image),
        label_map_png=_to_png(_label_map(scene)),
        annotations=[_annotation(scene, k) for k in range(len(scene.shapes))],
    )


def scene_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one image, independent of all others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


# --- Formats -------------------------------------------------------------------------------------


def _label_map(scene: Scene) -> np.ndarray:
    """(H, W) uint8: 1 background, 2.. CLASSES."""
    values = [1] + [2 + CLASSES.index(name) for name in scene.shapes]
    return np.array(values, dtype=np.uint8)[scene.owner]


def _annotation(scene: Scene, k: int) -> dict:
    mask = scene.owner == k + 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        'category_id': 1 + CLASSES.index(scene.shapes[k]),
        'segmentation': encode_mask(mask),
        'area': int(mask.sum()),
        'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'iscrowd': 0,
    }


def _empty_coco() -> dict:
    categories = [{'id': i, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(CLASSES, 1)]
    info = {'description': GENERATOR, 'version': str(VERSION)}
    return {
        'info': info,
        'licenses': [],
        'images': [],
        'annotations': [],
        'categories': categories,
    }


def _add_to_coco(coco: dict, name: str, size: int, annotations: list[dict]) -> None:
    image_id = len(coco['images']) + 1
    coco['images'].append({'id': image_id, 'file_name': name, 'width': size, 'height': size})
    for annotation in annotations:
        ids = {'id': len(coco['annotations']) + 1, 'image_id': image_id}
        coco['annotations'].append({**ids, **annotation})


def _to_json(data: dict) -> str:
    return json.dumps(data, sort_keys=True, separators=(',', ':')) + '\n'


def _to_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='PNG', compress_level=6)
    return buffer.getvalue()
