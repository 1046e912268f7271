"""Look at every sample of a config's data sets beforehand, as training and testing would load it.

Every sample goes through the loading steps of its pipeline, with the checks that a run makes (`sample_checks.py`),
in loader processes; classes and counts are compared with the config (`data_checks.py`), and what the stock
libraries leave out or keep without a word is counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError, listed
from .config import DATALOADERS, datasets_of, task_of
from .data_checks import check_dataloader, check_evaluator
from .sample_checks import TWICE, BadSample, CheckedStep, Fault, check_loading, fault_of, said

SPLITS = tuple(name.removesuffix('_dataloader') for name in DATALOADERS)
SHARED_NAMES = 'file names are those of several images'
Progress = Callable[[str, int, int], object]


@dataclass
class SplitReport:
    """What was found in one data set.

    Attributes:
        split: 'train', 'val' or 'test'.
        images: how many were looked at.
        problems: lines about the set as a whole, which does not fit the config.
        faults: bad samples, by their file.
        remarks: lines about what is no fault, but may be a mistake.
        names: the images.
        classes: their names.
    """

    split: str
    images: int = 0
    problems: list[str] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    classes: tuple[str, ...] | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.faults

    def note(self, fault: Fault) -> None:
        """Take in a fault; the first of a file counts."""
        self.faults.setdefault(fault.file, fault)


def splits_of(cfg: Config, wanted: str) -> list[str]:
    """The splits to look at: the one that is wanted, or for 'all' every one, a test set that is the val set once.

    Raises:
        UserError: the config does not have it.
    """
    there = [split for split in SPLITS if cfg.get(f'{split}_dataloader')]
    if wanted != 'all':
        if wanted not in there:
            raise UserError(f'--split {wanted}: the config has no {wanted}_dataloader, only {", ".join(there)}')
        return [wanted]
    if {'val', 'test'} <= set(there) and cfg.val_dataloader.dataset == cfg.test_dataloader.dataset:
        there.remove('test')
    return there


def check_dataset(
    cfg: Config, splits: Sequence[str], workers: int = 0, progress: Progress = lambda split, done, total: None
) -> list[SplitReport]:
    """Look at every sample of some splits.

    Args:
        cfg: the config.
        splits: see `splits_of`.
        workers: processes that load; 0 for this one.
        progress: is called with the split, and how many images are done of how many.
    """
    reports = [_check_split(cfg, split, workers, progress) for split in splits]
    for report in reports[1:]:
        first = reports[0]
        if report.classes is not None and first.classes is not None and report.classes != first.classes:
            report.problems.append(_classes_differ(report, first))
        both = len(set(report.names) & set(first.names))
        if both:
            report.remarks.append(f'{both} images of {report.split} are in {first.split} too')
    return reports


def _check_split(cfg: Config, split: str, workers: int, progress: Progress) -> SplitReport:
    name, task = f'{split}_dataloader', task_of(cfg)
    report = SplitReport(split)
    try:
        check_dataloader(cfg, name, task, report.note)
        check_evaluator(cfg, split)
    except UserError as error:
        report.problems.append(str(error))
    datasets = []
    for config in datasets_of(cfg[name]):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints
                datasets.append(DATASETS.build(config))
        except Exception as error:  # the stock classes raise anything at what they cannot read
            if not report.problems:
                report.problems.append(f'{name}: {config["type"]} cannot be built: {said(error)}')
    total = sum(map(len, datasets))
    for dataset in datasets:
        samples = _Samples(dataset)
        if not samples.steps:
            report.problems.append(f'{name}: the pipeline has no loading step, whose name begins with Load')
        labels: dict[str, set[Any]] = {}
        seen: Counter[str] = Counter()
        for batch in DataLoader(samples, batch_size=8, num_workers=workers, collate_fn=list):
            for image, label, fault in batch:
                seen[image] += 1
                labels.setdefault(image, set()).add(label)
                if fault is not None:
                    report.note(fault)
            report.images += len(batch)
            progress(split, report.images, total)
        report.names += seen
        report.classes = tuple(dataset.metainfo.get('classes') or ()) or None
        _look_for_repetitions(report, seen, labels, task)
        if task == 'det':
            report.remarks += _what_mmdet_leaves_out(dataset)
        if task == 'cls':
            report.problems += _folders_in_another_order(name, dataset)
    return report


class _Samples(Dataset):
    """A data set of image, label and fault instead of what the pipeline makes."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        check_loading(dataset)
        self.steps = [step for step in dataset.pipeline.transforms if isinstance(step, CheckedStep)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, Any, Fault | None]:
        results = self.dataset.get_data_info(index)
        image, label, fault = str(results.get('img_path')), results.get('gt_label'), None
        try:
            for step in self.steps:
                results = step(results)
        except BadSample as bad:
            fault = bad.fault
        return os.path.abspath(image), str(label), fault


def _look_for_repetitions(report: SplitReport, seen: Counter, labels: dict[str, set], task: str) -> None:
    """Images that are listed more than once, and file names that several have."""
    again = [image for image, times in seen.items() if times > 1]
    for image in again:
        if task == 'det':
            report.note(fault_of(image, TWICE, f'{image} is {seen[image]} images of the annotation file'))
        elif len(labels[image]) > 1:
            report.note(
                fault_of(image, TWICE, f'{image} is listed with the labels {", ".join(sorted(labels[image]))}')
            )
    same = [image for image in again if image not in report.faults]
    if same:
        report.remarks.append(f'{len(same)} images are listed more than once: {listed(same)}')
    names = Counter(os.path.basename(image) for image in seen)
    shared = [name for name, times in names.items() if times > 1]
    if shared:
        report.remarks.append(f'{len(shared)} {SHARED_NAMES}: {listed(shared)}')


def _what_mmdet_leaves_out(dataset: Dataset) -> Iterator[str]:
    """Annotations that mmdet's CocoDataset drops or keeps without a word; one line for each kind."""
    coco = json.loads(Path(dataset.ann_file).read_bytes())
    sizes = {image['id']: (image['width'], image['height']) for image in coco['images']}
    known = {category['id'] for category in coco['categories'] if category['name'] in dataset.metainfo['classes']}
    other, tiny, pointless, beyond = [], [], [], []
    for annotation in coco['annotations']:
        width, height = sizes[annotation['image_id']]
        x, y, w, h = annotation['bbox']
        mask = annotation.get('segmentation')
        if annotation['category_id'] not in known:
            other.append(annotation['id'])
        elif annotation.get('area', 1) <= 0 or w < 1 or h < 1:
            tiny.append(annotation['id'])
        elif isinstance(mask, list) and mask and all(len(p) < 6 or len(p) % 2 for p in mask):
            pointless.append(annotation['id'])
        elif min(x, y) < -1 or x + w > width + 1 or y + h > height + 1:
            beyond.append(annotation['id'])
    for found, what in (
        (other, 'are of categories that are no class of the config: mmdet leaves them out'),
        (tiny, 'are smaller than a pixel: mmdet leaves them out'),
        (pointless, 'have polygons of fewer than three points: mmdet gives them no weight'),
        (beyond, 'reach more than a pixel beyond their image: they are trained on as they are'),
    ):
        if found:
            yield f'{len(found)} annotations {what} (ids {listed([str(number) for number in found])})'
    if len(sizes) > len(dataset):
        yield f'{len(sizes) - len(dataset)} images have no annotation of these classes: mmdet leaves them out'


def _folders_in_another_order(name: str, dataset: Dataset) -> Iterator[str]:
    """Class names of a config that are the folders' in another order: the labels' numbers follow the folders."""
    folders = sorted(getattr(dataset, 'folder_to_idx', {}))
    classes = list(dataset.metainfo.get('classes') or ())
    if folders and folders != classes and folders == sorted(classes):
        yield (
            f'{name}: the classes of the config are the folders of {dataset.img_prefix} in another order: '
            f'label 0 is called {classes[0]}, and is that of the folder {folders[0]}'
        )


def _classes_differ(report: SplitReport, first: SplitReport) -> str:
    here, there = set(report.classes) - set(first.classes), set(first.classes) - set(report.classes)
    what = '; '.join(
        f'only {split} has {listed(sorted(names))}'
        for split, names in ((report.split, here), (first.split, there))
        if names
    )
    return f'{report.split} and {first.split} have different classes: {what or "they are in another order"}'


def faults_by_kind(reports: Sequence[SplitReport]) -> dict[str, dict[str, list[Fault]]]:
    """All faults by kind and split; the kinds in the order of how many there are."""
    kinds = Counter(fault.kind for report in reports for fault in report.faults.values())
    return {
        kind: {r.split: [fault for fault in r.faults.values() if fault.kind == kind] for r in reports}
        for kind, _ in kinds.most_common()
    }


def lines_of(reports: Sequence[SplitReport], most: int = 3) -> Iterator[str]:
    """What was found, in words: problems, the first few faults of each kind, and remarks."""
    for report in reports:
        yield from (f'does not fit: {problem}' for problem in report.problems)
    for kind, by_split in faults_by_kind(reports).items():
        for split, faults in by_split.items():
            yield from (f'{kind} ({split}): {fault.reason}' for fault in islice(faults, most))
            if len(faults) > most:
                yield f'{kind} ({split}): and {len(faults) - most} more'
    for report in reports:
        yield from (f'remark ({report.split}): {remark}' for remark in report.remarks)
