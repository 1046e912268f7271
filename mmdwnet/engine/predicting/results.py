"""What the predictions become: an entry of a JSON file per image or frame, with detections as COCO has them.

The file is written at the end, all at once under its name; until then the entries wait on disk, not in memory.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...checkpoints.writing import write_atomically

TOP = 5  # classes of an image that are listed
DIGITS = 6  # of scores, shares and boxes
# a file's name may have bytes that are no UTF-8: Python holds each as a surrogate, JSON has \udcXX for it
ENCODING = dict(encoding='utf-8', errors='backslashreplace')
SHOWN_SHARE = 0.005  # classes of a smaller share are left out of a summary


class ResultsFile:
    """A JSON object of some settings and some lists, which can be longer than memory.

    Args:
        path: the file.
        lists: names of the lists.
    """

    def __init__(self, path: Path, lists: Sequence[str]):
        self.path = path
        self.counts: Counter[str] = Counter()
        self._spools: dict[str, IO[str]] = {
            name: tempfile.TemporaryFile('w+', **ENCODING, dir=path.parent)  # noqa: SIM115  (see close)
            for name in lists
        }

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Append an entry to a list."""
        separator = ',\n' if self.counts[name] else ''
        self._spools[name].write(separator + json.dumps(entry, ensure_ascii=False))
        self.counts[name] += 1

    def write(self, header: dict[str, Any]) -> None:
        """Write the file: the settings, then the lists."""
        write_atomically(self.path, lambda file: self._save(file, header))

    def _save(self, path: Path, header: dict[str, Any]) -> None:
        with path.open('w', **ENCODING) as file:
            file.write('{')
            for key, value in header.items():
                file.write(f'\n{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},')
            for i, (name, spool) in enumerate(self._spools.items()):
                file.write(',' * bool(i) + f'\n{json.dumps(name)}: [\n')
                spool.seek(0)
                for line in spool:
                    file.write(line)
                file.write('\n]')
            file.write('\n}\n')

    def close(self) -> None:
        """Let go of the entries."""
        for spool in self._spools.values():
            spool.close()


def class_names(dataset_meta: dict[str, Any], count: int) -> list[str]:
    """The names of a model's classes; their numbers where it has none."""
    names = dataset_meta.get('classes') or ()
    return [str(name) for name in names] if len(names) >= count else [str(i) for i in range(count)]


def classified(sample: Any, names: Sequence[str]) -> dict[str, Any]:
    """The entry of a classified image: its class and the scores of the best ones."""
    scores = sample.pred_score.float()
    best = scores.topk(min(TOP, len(scores)))
    top = [
        {'label': label, 'class': names[label], 'score': round(score, DIGITS)}
        for label, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return {**top[0], 'top5': top}


def detected(sample: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """The annotations of an image, as COCO has them, without their ids."""
    import pycocotools.mask as rle

    found = sample.pred_instances.cpu().numpy()
    annotations = []
    for i, (box, score, label) in enumerate(zip(found.bboxes, found.scores, found.labels, strict=True)):
        x, y, right, bottom = (round(float(side), 2) for side in box)
        width, height = round(right - x, 2), round(bottom - y, 2)
        annotation = dict(
            category_id=int(label) + 1,
            category_name=names[int(label)],
            bbox=[x, y, width, height],
            area=round(width * height, 2),
            score=round(float(score), DIGITS),
            iscrowd=0,
        )
        if 'masks' in found:
            encoded = rle.encode(np.asfortranarray(found.masks[i], dtype=np.uint8))
            annotation.update(
                segmentation=dict(size=list(encoded['size']), counts=encoded['counts'].decode('ascii')),
                area=float(rle.area(encoded)),
            )
        annotations.append(annotation)
    return annotations


def label_map(sample: Any) -> np.ndarray:
    """The classes of a segmented image's pixels, (H, W)."""
    labels = sample.pred_sem_seg.data[0].cpu().numpy()
    return labels.astype(np.uint8 if labels.max() < 256 else np.uint16)


def class_shares(labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Which part of the pixels each class has that is there, the largest first."""
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return {names[found[i]]: round(counts[i] / labels.size, DIGITS) for i in order}


def in_words(task: str, entry: dict[str, Any], annotations: Sequence[dict], threshold: float) -> str:
    """An entry for people, in a line."""
    if task == 'cls':
        return ', '.join(f'{best["class"]} {best["score"]:.2f}' for best in entry['top5'][:3])
    if task == 'seg':
        return ', '.join(f'{name} {share:.0%}' for name, share in entry['shares'].items() if share >= SHOWN_SHARE)
    counts = Counter(found['category_name'] for found in annotations if found['score'] >= threshold)
    shown = ', '.join(f'{count} {name}' for name, count in counts.most_common())
    return shown or f'nothing of a score of {threshold:g} or more'
