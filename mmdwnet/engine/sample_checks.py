"""What makes a sample bad: a file that cannot be read, sizes that do not fit, an annotation outside its image.

The same checks run beforehand (`data_checks.py`, `dataset_check.py`) and, as a part of the loading steps of a
pipeline, whenever a sample is loaded. They look at what the stock libraries pass over in silence: older OpenCVs
(4.10 was tried, 4.12 does not) return a truncated JPEG with grey in the place of what is missing, mmdet drops
annotations that lie outside their image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

# kinds of bad samples
IMAGE = 'unreadable image'
IMAGE_SIZE = 'image of another size'
MAP = 'unreadable label map'
MAP_SIZE = 'label map of another size'
MAP_VALUE = 'value that is no class'
ANNOTATION = 'unreadable annotation'
OUTSIDE = 'annotation outside its image'
TWICE = 'listed twice'

ORIENTATION = 0x0112  # the EXIF tag


class Fault(NamedTuple):
    """What is wrong with a sample.

    Attributes:
        file: the image or label map that is bad, as an absolute path; for annotations, the image they are of.
        kind: one of the kinds above.
        reason: a clause that names the file.
    """

    file: str
    kind: str
    reason: str


class BadSample(Exception):
    """A sample that cannot be loaded, or must not be used; its message is a `Fault`'s reason.

    It is made from its message alone where a loader process hands it on.
    """

    def __init__(self, reason: str, file: str = '', kind: str = ''):
        super().__init__(reason)
        self.fault = Fault(file, kind, reason)


class LoadingStopped(BadSample):
    """Bad samples can be skipped no more, for a reason that the message gives."""


def fault_of(file: str | Path, kind: str, reason: str) -> Fault:
    """A fault with an absolute path, and a reason in one line."""
    return Fault(os.path.abspath(file), kind, ' '.join(reason.split()))


def cut_off(path: str | Path) -> str | None:
    """Why a JPEG is cut off; None if it is not, or is no JPEG, or not a local file.

    Only a file that does not end as a JPEG does is decoded, for some go on behind their end.
    """
    try:
        with open(path, 'rb') as file:
            if file.read(2) != b'\xff\xd8':
                return None
            file.seek(-2, os.SEEK_END)
            if file.read() == b'\xff\xd9':
                return None
    except OSError:
        return None
    return undecodable(path)


def undecodable(path: str | Path) -> str | None:
    """Why a file cannot be decoded to its end; None if it can."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # a broken file can make a decoder raise anything
        return said(error)
    return None


def size_of(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as it is loaded, turned as its EXIF says; only its header is read.

    Raises:
        OSError: it cannot be read.
    """
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)  # by a quarter
    return (height, width) if turned else (width, height)


def image_fault(path: str | Path, why: str) -> Fault:
    """An image that cannot be read."""
    return fault_of(path, IMAGE, f'image {path} cannot be read: {why}')


def map_fault(path: str | Path, why: str) -> Fault:
    """A label map that cannot be read."""
    return fault_of(path, MAP, f'label map {path} cannot be read: {why}')


def size_fault(path: str | Path, stated: tuple[int, int], found: tuple[int, int]) -> Fault | None:
    """An image that is not of the size (width, height) that its annotations state."""
    if stated == found:
        return None
    reason = (
        f'the annotations say that {path} has {stated[0]} x {stated[1]} pixels, but it has {found[0]} x '
        f'{found[1]}: expected the images that they were made for'
    )
    return fault_of(path, IMAGE_SIZE, reason)


def map_size_fault(path: str | Path, labels: np.ndarray, image: tuple[int, int]) -> Fault | None:
    """A label map that is not of the size (height, width) of its image."""
    if labels.shape == tuple(image):
        return None
    reason = (
        f'label map {path} has the shape {labels.shape}, but its image has {tuple(image)} (height, width): '
        'expected one number a pixel, in a grey or palette PNG'
    )
    return fault_of(path, MAP_SIZE, reason)


def map_value_fault(
    path: str | Path, labels: np.ndarray, classes: int, shifted: bool = False, ignored: int = 255
) -> Fault | None:
    """A label map with a value that is no class.

    Args:
        path: of the label map.
        labels: its values.
        classes: how many there are.
        shifted: the values count classes from 1, and 0 is ignored too.
        ignored: a value that is ignored.
    """
    highest = classes if shifted else classes - 1
    wrong = (labels > highest) & (labels != ignored)
    if not wrong.any():
        return None
    reason = (
        f'label map {path} has the value {labels[wrong][0]}, but the dataset has {classes} classes: expected 0 to '
        f'{highest}, or {ignored} for ignored pixels'
    )
    return fault_of(path, MAP_VALUE, reason)


def box_fault(path: str | Path, name: str, box: Sequence[float], width: int, height: int) -> Fault | None:
    """A box that is not finite, or has nothing in common with its image.

    Args:
        path: of the image.
        name: what to call the annotation.
        box: x, y, width, height, as in COCO.
        width: of the image.
        height: of the image.
    """
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        return fault_of(path, ANNOTATION, f'{name} has the box {box}: expected four finite numbers')
    if x < width and y < height and x + w > 0 and y + h > 0:
        return None
    where = f'box {box} (x, y, width, height) in {width} x {height} pixels'
    return fault_of(path, OUTSIDE, f'{name} lies outside its image {path}: {where}')


def mask_fault(path: str | Path, name: str, mask: Any, width: int, height: int) -> Fault | None:
    """Polygons that all lie outside their image, or run lengths of another size; arguments as `box_fault`."""
    if isinstance(mask, dict):
        if list(mask.get('size') or ()) in ([], [height, width]):
            return None
        reason = f'{name} of {path} has a mask of the size {mask["size"]}, but the image has {[height, width]}'
        return fault_of(path, IMAGE_SIZE, f'{reason} (height, width)')
    polygons = [polygon for polygon in mask if len(polygon) >= 6 and len(polygon) % 2 == 0]
    for polygon in polygons:
        corners = np.asarray(polygon, float).reshape(-1, 2)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        if left < width and top < height and right > 0 and bottom > 0:
            return None
    if not polygons:
        return None  # mmdet gives such an instance no weight
    return fault_of(
        path, OUTSIDE, f'{name} lies outside its image {path}: no polygon is in {width} x {height} pixels'
    )


def said(error: Exception) -> str:
    """An exception in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'


def parts_of(dataset: Dataset) -> Iterator[Dataset]:
    """The datasets that load samples, those inside wrappers."""
    inner = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for part in inner:
        yield from parts_of(part)
    if not inner:
        yield dataset


def load_image(step: Any, results: dict, image: str) -> dict:
    """Load an image by a step of a pipeline, to its end.

    Args:
        step: such as a LoadImageFromFile.
        results: what the step takes.
        image: the file.

    Raises:
        BadSample: it cannot be read.
    """
    try:
        results = step(results)
    except Exception as error:  # what a broken file makes of a decoder, and of what comes behind it
        raise _bad(image_fault(image, undecodable(image) or said(error))) from error  # Pillow says more
    if results is None:
        raise _bad(image_fault(image, 'the loading step returned nothing'))
    reason = cut_off(image)
    if reason is not None:
        raise _bad(image_fault(image, reason))
    return results


class CheckedStep:
    """A loading step of a pipeline, which raises `BadSample` for what it cannot load and for what does not fit.

    Args:
        step: a transform whose name begins with Load.
        dataset: whose pipeline it is of.
        listed: the faults that are known already, by file; such a sample is not loaded.
    """

    def __init__(self, step: Any, dataset: Dataset, listed: dict[str, Fault]):
        self.step = step
        self.listed = listed
        shifts = hasattr(dataset, 'reduce_zero_label')  # a dataset of mmseg, whose maps hold its classes
        self.classes = len(dataset.metainfo.get('classes') or ()) if shifts else 0
        self.ignored = getattr(dataset, 'ignore_index', 255)

    def __call__(self, results: dict) -> dict:
        image, label_map = str(results.get('img_path')), results.get('seg_map_path')
        for file in (image, label_map) if self.listed else ():
            fault = self.listed.get(os.path.abspath(file)) if file else None
            if fault is not None:
                raise _bad(fault)
        if 'img' not in results:
            return self._load_image(results, image)
        return self._load_annotations(results, image, label_map)

    def _load_image(self, results: dict, image: str) -> dict:
        results = load_image(self.step, results, image)
        if results.get('instances') is not None and 'width' in results and 'ori_shape' in results:
            stated, (height, width) = (results['width'], results['height']), results['ori_shape'][:2]
            _refuse(size_fault(image, stated, (width, height)))
        return results

    def _load_annotations(self, results: dict, image: str, label_map: str | None) -> dict:
        try:
            if getattr(self.step, 'with_mask', False):
                height, width = results['ori_shape'][:2]
                for instance in results.get('instances') or ():
                    _refuse(mask_fault(image, 'an annotation', instance.get('mask') or [], width, height))
            results = self.step(results)
        except BadSample:
            raise
        except Exception as error:  # as above
            if label_map:
                raise _bad(map_fault(label_map, said(error))) from error
            reason = f'the annotations of {image} cannot be read: {said(error)}'
            raise _bad(fault_of(image, ANNOTATION, reason)) from error
        labels = results.get('gt_seg_map')
        if labels is not None and label_map:
            _refuse(map_size_fault(label_map, labels, results['ori_shape'][:2]))
            if self.classes:
                _refuse(map_value_fault(label_map, labels, self.classes, ignored=self.ignored))
        return results


def check_loading(dataset: Dataset, listed: dict[str, Fault] | None = None) -> None:
    """Have the loading steps of a dataset raise `BadSample`, in place.

    Args:
        dataset: or a wrapper of datasets.
        listed: the faults that are known already, by file.
    """
    for part in parts_of(dataset):
        steps = getattr(getattr(part, 'pipeline', None), 'transforms', None) or []
        for number, step in enumerate(steps):
            if type(step).__name__.startswith('Load'):
                steps[number] = CheckedStep(step, part, {} if listed is None else listed)


def _refuse(fault: Fault | None) -> None:
    if fault is not None:
        raise _bad(fault)


def _bad(fault: Fault) -> BadSample:
    return BadSample(fault.reason, fault.file, fault.kind)
