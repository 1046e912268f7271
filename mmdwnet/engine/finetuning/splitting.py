"""Split a data set without a val split into one to train on and one to validate with; write which is which.

The images stay where they are: a list of them, or a COCO JSON, goes beside the config.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...checkpoints.writing import write_atomically
from ...errors import UserError
from .own_data import OwnData, Sample, Split

SHARE = 0.2  # of the images validate
LISTS = {'cls': '.txt', 'det': '.json', 'seg': '.txt'}


def with_val_split(data: OwnData) -> OwnData:
    """The data with a val split, taken from the train split if there is none.

    Raises:
        UserError: there are fewer than two images.
    """
    if 'val' in data.splits:
        return data
    train = data.splits['train']
    if len(train.samples) < 2:
        raise UserError(f'{data.root} has one image to train on and none to validate with: expected two or more')
    parts = zip(('train', 'val'), split_off(train.samples), strict=True)
    splits = {name: replace(train, samples=samples, listed=name + LISTS[data.task]) for name, samples in parts}
    remark = f'no val split: {len(splits["val"].samples)} of the {len(train.samples)} images validate'
    return replace(data, splits={**data.splits, **splits}, remarks=(*data.remarks, remark))


def split_off(samples: Sequence[Sample], share: float = SHARE) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples so that each class has its share in both parts, as far as it can.

    The rarest class is shared out first (iterative stratification, Sechidis et al., 2011). The order is that of a
    hash of the names, so it does not depend on dates or on the machine; a class of two images or more is in both.

    Args:
        samples: two or more.
        share: of the second part.

    Returns:
        The samples of the two parts, in the order that they came in.
    """
    # the names may have bytes that are no UTF-8
    left = sorted(samples, key=lambda each: hashlib.sha256(each.image.encode(errors='surrogateescape')).digest())
    counts = Counter(label for sample in left for label in sample.labels)
    wanted = {label: max(share * n, 1.0) if n > 1 else 0.0 for label, n in counts.items()}
    by_label: dict[int, list[Sample]] = {label: [] for label in counts}
    for sample in left:
        for label in sample.labels:
            by_label[label].append(sample)
    parts: tuple[set[Sample], set[Sample]] = set(), set()
    have = Counter(), Counter()  # images of each class in the two parts

    def put(sample: Sample, part: int) -> None:
        parts[part].add(sample)
        have[part].update(sample.labels)

    for label in sorted(counts, key=lambda label: (counts[label], label)):
        for sample in by_label[label]:
            if sample not in parts[0] and sample not in parts[1]:
                lacks = [counts[label] - wanted[label] - have[0][label], wanted[label] - have[1][label]]
                put(sample, int(lacks[1] > lacks[0]))
    for sample in left:
        if sample not in parts[0] and sample not in parts[1]:  # without a label
            put(sample, int(len(parts[1]) < share * len(left)))
    if not parts[1]:
        put(left[0], 1)
    return tuple(s for s in samples if s not in parts[1]), tuple(s for s in samples if s in parts[1])


def write_lists(data: OwnData, folder: Path) -> None:
    """Write the files beside the config that say which images are of which split, where splits are to have one.

    Raises:
        UserError: one cannot be written.
    """
    for split in data.splits.values():
        if split.listed:
            text = _text(data, split)
            write_atomically(folder / split.listed, lambda partial, text=text: partial.write_text(text, 'utf-8'))


def _text(data: OwnData, split: Split) -> str:
    if data.task == 'cls':  # as mmpretrain reads it
        return ''.join(f'{sample.image} {sample.labels[0]}\n' for sample in split.samples)
    if data.task == 'seg':  # as mmseg reads it
        return ''.join(f'{sample.image.removesuffix(data.suffixes[0])}\n' for sample in split.samples)
    content = json.loads((data.root / split.annotations).read_bytes())
    names = {sample.image for sample in split.samples}
    images = [image for image in content['images'] if image['file_name'] in names]
    numbers = {image['id'] for image in images}
    annotations = [{'iscrowd': 0, **a} for a in content['annotations'] if a['image_id'] in numbers]
    return json.dumps({**content, 'images': images, 'annotations': annotations})
