"""ImageNet ReaL accuracy: top-1 against the re-assessed labels of the validation images.

From Beyer et al., "Are we done with ImageNet?", arXiv:2006.07159, section 3, and the file format of
google-research/reassessed-imagenet: `real.json` is a list of 50,000 lists of class numbers, in the order of
ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG; the list of an image without a label is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric

from ..errors import UserError
from ..registry import METRICS

NUM_IMAGES = 50_000
NUM_CLASSES = 1000
# copies of the set exist that append the class, ILSVRC2012_val_00000001_n01751748.JPEG
IMAGE_NAME = re.compile(r'(?:.*_)?val_(\d{8})(?:_n\d{8})?')


@METRICS.register_module()
class ReaLAccuracy(BaseMetric):
    """The share of images, in percent, whose predicted class is among their ReaL labels.

    Images without a label are left out. An image is found by the number in its file name, whatever the folder
    and the order of the dataset. Reported as `accuracy/real`, beside `accuracy/top1` of mmpretrain's Accuracy.

    Args:
        labels: path of the published `real.json`. None reports nothing: so the ImageNet configs hold the metric,
            until `--cfg-options test_evaluator.1.labels=FILE` turns it on.
        collect_device: 'cpu' or 'gpu', where the results of several processes are gathered.
        prefix: what stands before the name of the result; default 'accuracy'.

    Raises:
        UserError: the file is missing or is not the published one; later, a prediction does not tell its image
            or is not over the 1000 classes, or no image evaluated has a label.
    """

    default_prefix = 'accuracy'

    def __init__(self, labels: str | None = None, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.labels = None if labels is None else _read_labels(labels)

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Note for each sample whether it is right, or None where the image has no label.

        One entry per image, because the gathering cuts what samplers padded off by the length of the dataset.
        """
        if self.labels is None:
            return
        for sample in data_samples:
            valid = self.labels[_image_number(sample) - 1]
            self.results.append(_predicted_class(sample) in valid if valid else None)

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather and compute as every metric does; without labels there is nothing to report."""
        return {} if self.labels is None else super().evaluate(size)

    def compute_metrics(self, results: list[bool | None]) -> dict[str, float]:
        """Return `{'real': percent}`."""
        judged = [right for right in results if right is not None]
        if not judged:
            raise UserError(
                f'none of the {len(results)} images evaluated has a ReaL label: expected images of the ImageNet '
                'validation set; check the data_root of the test data'
            )
        return {'real': 100 * sum(judged) / len(judged)}


def _read_labels(path: str) -> list[frozenset[int]]:
    """Read `real.json` into one set of classes per image, in the order of their numbers."""
    expected = 'expected the published real.json (github.com/google-research/reassessed-imagenet)'
    if not Path(path).is_file():
        raise UserError(f'ReaL labels {path} not found: {expected}; say where it is, as `labels` of the metric')
    try:
        labels = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise UserError(f'ReaL labels {path} are no JSON ({error}): {expected}') from error
    if not isinstance(labels, list) or len(labels) != NUM_IMAGES:
        found = f'{len(labels)} entries' if isinstance(labels, list) else f'a {type(labels).__name__}'
        raise UserError(f'ReaL labels {path} hold {found}, not a list of {NUM_IMAGES}: {expected}')
    for number, valid in enumerate(labels, start=1):
        if not isinstance(valid, list) or not all(_is_class(label) for label in valid):
            raise UserError(
                f'ReaL labels {path}: image {number} has {str(valid)[:60]}, not a list of classes from 0 to '
                f'{NUM_CLASSES - 1}: {expected}'
            )
    return [frozenset(valid) for valid in labels]


def _is_class(label: object) -> bool:
    return type(label) is int and 0 <= label < NUM_CLASSES  # bool is an int too


def _image_number(sample: dict) -> int:
    """The number, from 1, in the name of a sample's image."""
    path = sample.get('img_path')
    if path is None:
        raise UserError(
            "ReaL accuracy needs the path of every image, but a prediction has no 'img_path': expected it among "
            'the meta_keys of PackInputs'
        )
    match = IMAGE_NAME.fullmatch(Path(path).stem)
    number = int(match[1]) if match else 0
    if not 1 <= number <= NUM_IMAGES:
        raise UserError(
            f'ReaL accuracy: {path} does not tell its number: expected an image of the ImageNet validation set '
            f'with its own name, ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{NUM_IMAGES:08d}.JPEG'
        )
    return number


def _predicted_class(sample: dict) -> int:
    scores = sample.get('pred_score')
    if scores is None:
        return int(sample['pred_label'])
    if scores.numel() != NUM_CLASSES:
        raise UserError(
            f'ReaL accuracy: the model scores {scores.numel()} classes, but the labels are of the {NUM_CLASSES} '
            'of ImageNet-1K: leave the metric out, or test a model of those classes'
        )
    return int(scores.argmax())
