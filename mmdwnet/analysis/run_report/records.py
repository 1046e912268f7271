"""What is kept of an evaluation: a record of every image, and pictures of the worst and of some others.

Each process sees its part of the set (`Records.add`); the first puts the parts together (`merged`) and writes them
to one file, from which the page is made, once or again.
"""

from __future__ import annotations

import heapq
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from torch import Tensor

from ...checkpoints.writing import write_atomically
from .pictures import Objects, classified, detected, palette_of, segmented

SAMPLES = 12  # pictures from all over the set
WORST = 12
SCORE = 0.3  # from which on a detection is drawn, and is false if it fits nothing
OVERLAP = 0.5  # IoU from which on it fits
LEAST_SCORE = 0.01  # of the detections that are kept
IGNORED = 255  # in label maps
IMAGE = [('image', 'i4'), ('truth', 'i4'), ('found', 'i4'), ('score', 'f4')]  # a row of a classified one


@dataclass(frozen=True)
class Picture:
    """A picture of an image.

    Args:
        index: of the image in the set.
        badness: how wrong the prediction is; 0 is right.
        name: the image's file.
        words: what the page says beside it.
        jpeg: the picture.
    """

    index: int
    badness: float
    name: str
    words: str
    jpeg: bytes


@dataclass(frozen=True)
class Verdict:
    """What a task says of an image: its rows of each table, how wrong it is, the words, and how to draw it."""

    rows: dict[str, np.ndarray]
    badness: float
    words: str
    draw: Callable[[np.ndarray], bytes]


class Records:
    """What one process keeps of an evaluation.

    Args:
        task: 'cls', 'det' or 'seg'.
        meta: `metainfo` of the data set.
        images: in the set.
        rank: of this process.
        processes: that share the set, each every so manieth image.
    """

    def __init__(self, task: str, meta: dict[str, Any], images: int, rank: int, processes: int):
        self.classes = [str(name) for name in meta.get('classes') or ()]
        self.palette = palette_of(len(self.classes))
        self._judge = dict(cls=_judge_class, det=_judge_objects, seg=_judge_map)[task]
        self.images, self._rank, self._processes = images, rank, processes
        self._shown = set(np.linspace(0, max(images - 1, 0), min(SAMPLES, images)).round().astype(int).tolist())
        self._seen = 0
        self._rows: dict[str, list[np.ndarray]] = {}
        self._samples: list[Picture] = []
        self._worst: list[tuple[float, int, Picture]] = []

    def add(self, inputs: Sequence[Tensor | None], samples: Sequence[Any]) -> None:
        """Take in a batch: the images as the model was given them, and its data samples."""
        if len(inputs) != len(samples):  # several augmented views of each
            inputs = [None] * len(samples)
        for image, sample in zip(inputs, samples, strict=True):
            index = self._seen * self._processes + self._rank
            self._seen += 1
            if index < self.images:  # behind it a sampler fills up with images that came before
                self._take(index, image, sample)

    def parts(self) -> dict[str, Any]:
        """What this process has kept, to be sent to the first."""
        rows = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        return dict(rows=rows, samples=self._samples, worst=[picture for _, _, picture in self._worst])

    def _take(self, index: int, image: Tensor | None, sample: Any) -> None:
        verdict = self._judge(index, sample, self.classes, self.palette)
        for name, rows in verdict.rows.items():
            self._rows.setdefault(name, []).append(rows)
        is_worse = verdict.badness > 0 and (len(self._worst) < WORST or verdict.badness > self._worst[0][0])
        if not is_worse and index not in self._shown:
            return
        path = sample.metainfo.get('img_path')
        pixels = _pixels(path, image)
        if pixels is None:
            return
        name = Path(path).name if path else f'image {index}'
        picture = Picture(index, verdict.badness, name, verdict.words, verdict.draw(pixels))
        if index in self._shown:
            self._samples.append(picture)
        if is_worse:
            change = heapq.heappush if len(self._worst) < WORST else heapq.heapreplace
            change(self._worst, (verdict.badness, -index, picture))


@dataclass(frozen=True)
class Evaluation:
    """What is kept of an evaluation of a whole set.

    Args:
        facts: 'task', 'phase', 'classes', 'palette', 'images', 'step', 'epoch', 'metrics'.
        rows: tables of the task, a row for an image, object or pair of classes.
        samples: pictures from all over the set.
        worst: the worst ones, the worst first.
    """

    facts: dict[str, Any]
    rows: dict[str, np.ndarray]
    samples: list[Picture]
    worst: list[Picture]

    def save(self, path: Path) -> None:
        """Write it to an .npz file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        pictures = dict(samples=self.samples, worst=self.worst)
        words = {
            kind: [[each.index, each.badness, each.name, each.words] for each in found]
            for kind, found in pictures.items()
        }
        arrays = dict(self.rows, about=np.array(json.dumps(dict(facts=self.facts, pictures=words))))
        for kind, found in pictures.items():
            for i, each in enumerate(found):
                arrays[f'{kind}_{i}'] = np.frombuffer(each.jpeg, np.uint8)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomically(path, lambda partial: partial.write_bytes(content.getvalue()))

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            ValueError, OSError, KeyError: the file is something else, or broken.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
        except zipfile.BadZipFile as error:
            raise ValueError(f'{path} is cut off or no record') from error
        about = json.loads(str(content.pop('about')))
        pictures = {
            kind: [Picture(*words, content.pop(f'{kind}_{i}').tobytes()) for i, words in enumerate(found)]
            for kind, found in about['pictures'].items()
        }
        return cls(about['facts'], content, **pictures)


def merged(parts: Sequence[dict[str, Any] | None], facts: dict[str, Any]) -> Evaluation | None:
    """The evaluation that all processes together have seen; None if one of them could keep nothing."""
    if any(part is None for part in parts):
        return None
    names = sorted({name for part in parts for name in part['rows']})
    rows = {name: np.concatenate([part['rows'][name] for part in parts if name in part['rows']]) for name in names}
    samples = sorted((each for part in parts for each in part['samples']), key=lambda each: each.index)
    worst = sorted(
        (each for part in parts for each in part['worst']), key=lambda each: (-each.badness, each.index)
    )
    return Evaluation(facts, rows, samples, worst[:WORST])


def _pixels(path: str | None, image: Tensor | None) -> np.ndarray | None:
    """The image for people, RGB (H, W, 3): its file, or, of a set without files, what the model was given."""
    if path:
        try:
            return mmcv.imread(path, channel_order='rgb')
        except (OSError, AttributeError):  # the latter of mmcv, of a file that is no image
            return None
    if image is None or image.dtype != torch.uint8 or image.shape[0] not in (1, 3):
        return None
    return image.permute(1, 2, 0).expand(-1, -1, 3).cpu().numpy()


def _judge_class(index: int, sample: Any, classes: Sequence[str], palette: Sequence) -> Verdict:
    """A classified image: wrong as far as its wrong class had a higher score than the right one."""
    if sample.gt_label.numel() != 1:
        raise ValueError('images of several classes each are not shown')
    truth, scores = int(sample.gt_label), sample.pred_score.float().cpu()
    found = int(scores.argmax())
    confidence = float(scores[found])
    row = np.array([(index, truth, found, confidence)], IMAGE)
    words = f'{classes[found]}, {confidence:.0%}' + f'; truth: {classes[truth]}' * (found != truth)
    badness = 0.0 if found == truth else confidence
    return Verdict(dict(images=row), badness, words, classified)


def _judge_objects(index: int, sample: Any, classes: Sequence[str], palette: Sequence) -> Verdict:
    """An image with objects: wrong by the number that was missed or false."""
    truth, found = _objects(sample.gt_instances), _objects(sample.pred_instances)
    kept, counted = found.at_least(LEAST_SCORE), found.at_least(SCORE)
    fits = _fits(truth, counted)
    missed, false = len(truth.labels) - fits, len(counted.labels) - fits
    annotated = [_rows(index, truth, np.zeros(len(truth.labels)))]
    if 'ignored_instances' in sample:
        crowds = _objects(sample.ignored_instances)
        annotated.append(_rows(index, crowds, np.ones(len(crowds.labels))))
    rows = dict(found=_rows(index, kept, kept.scores), truth=np.concatenate(annotated))
    count = len(truth.labels)
    words = f'{count} object{"s" * (count != 1)}, {missed} missed, {false} false'

    def draw(pixels: np.ndarray) -> bytes:  # masks are large: only those of a picture are looked at
        both = _objects(sample.gt_instances, True), _objects(sample.pred_instances, True).at_least(SCORE)
        return detected(pixels, *both, classes, palette)

    return Verdict(rows, float(missed + false), words, draw)


def _rows(index: int, objects: Objects, scores: np.ndarray) -> np.ndarray:
    """(N, 7): image, class, score and box of each object; of the truth, 1 in place of a score is a crowd."""
    return np.column_stack([np.full(len(scores), index), objects.labels, scores, objects.boxes]).astype(np.float32)


def _objects(instances: Any, with_masks: bool = False) -> Objects:
    boxes = instances.bboxes
    boxes = getattr(boxes, 'tensor', boxes)  # of annotations mmdet has a class for boxes
    masks = instances.masks if with_masks and 'masks' in instances else None
    if masks is not None:
        masks = masks.cpu().numpy() if isinstance(masks, Tensor) else masks.to_ndarray()
    scores = instances.scores.float().cpu().numpy() if 'scores' in instances else None
    return Objects(boxes.float().cpu().numpy().reshape(-1, 4), instances.labels.cpu().numpy(), scores, masks)


def _fits(truth: Objects, found: Objects) -> int:
    """How many of the truth were found: each by one of its class, those of a higher score first."""
    free = np.ones(len(truth.labels), bool)
    for box, label in zip(found.boxes, found.labels, strict=True):
        overlaps = np.where(free & (truth.labels == label), _overlaps(box, truth.boxes), 0)
        if len(overlaps) and overlaps.max() >= OVERLAP:
            free[overlaps.argmax()] = False
    return int((~free).sum())


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    corner, far = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (far - corner).clip(0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return common / np.maximum(areas - common, 1e-9)


def _judge_map(index: int, sample: Any, classes: Sequence[str], palette: Sequence) -> Verdict:
    """A segmented image: wrong by what its mean IoU, over the classes that are in one of its maps, lacks to 1."""
    truth, found = (getattr(sample, name).data.squeeze(0) for name in ('gt_sem_seg', 'pred_sem_seg'))
    truth = truth.to(found.device)
    known = (truth != IGNORED) & (truth < len(classes))
    pairs = truth[known].long() * len(classes) + found[known].long()
    counts = torch.bincount(pairs, minlength=len(classes) ** 2).cpu().numpy()
    (chosen,) = counts.nonzero()
    images, (right_ones, found_ones) = np.full(len(chosen), index), divmod(chosen, len(classes))
    rows = np.column_stack([images, right_ones, found_ones, counts[chosen]])
    table = counts.reshape(len(classes), len(classes))
    right, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    mean = float((right[union > 0] / union[union > 0]).mean()) if union.any() else 1.0
    maps = truth.cpu().numpy(), found.cpu().numpy()

    def draw(pixels: np.ndarray) -> bytes:
        return segmented(pixels, *maps, palette)

    return Verdict(dict(pixels=rows.astype(np.int64)), 1 - mean, f'mean IoU {mean:.1%}', draw)
