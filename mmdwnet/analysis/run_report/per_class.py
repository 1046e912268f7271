"""Results of each class and confusions between classes, from the records of an evaluation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .records import Evaluation


@dataclass(frozen=True)
class ClassRow:
    """A class: the shown numbers in the order of `ClassTable.columns`, the first of which is drawn as a bar."""

    name: str
    color: Sequence[int]
    values: tuple[float, ...]  # nan where a class has none


@dataclass(frozen=True)
class ClassTable:
    """Results of each class.

    Args:
        columns: what the values are; the first are parts of 1, the last `counts` ones are counts.
        counts: how many are.
        rows: in the order of the data set.
        confusion: (truth, found), images or pixels; None for detections.
        mean: of the first column.
    """

    columns: tuple[str, ...]
    counts: int
    rows: list[ClassRow]
    confusion: np.ndarray | None

    @property
    def mean(self) -> float:
        values = np.array([row.values[0] for row in self.rows])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float('nan')


def class_table(evaluation: Evaluation) -> ClassTable:
    """The results of each class of an evaluation."""
    return dict(cls=_of_classes, det=_of_objects, seg=_of_pixels)[evaluation.facts['task']](evaluation)


def confusions(table: ClassTable, most: int = 15) -> list[tuple[str, str, int, float]]:
    """The most frequent: truth, found, how many, and which part of the truth they are."""
    if table.confusion is None:
        return []
    wrong = table.confusion.astype(np.float64)
    np.fill_diagonal(wrong, 0)
    totals = table.confusion.sum(1)
    order = np.argsort(-wrong, axis=None, kind='stable')[:most]
    places = [np.unravel_index(place, wrong.shape) for place in order]
    return [
        (table.rows[i].name, table.rows[j].name, int(wrong[i, j]), wrong[i, j] / totals[i])
        for i, j in places
        if wrong[i, j]
    ]


def _of_classes(evaluation: Evaluation) -> ClassTable:
    classes = len(evaluation.facts['classes'])
    images = evaluation.rows['images']
    table = np.bincount(images['truth'] * classes + images['found'], minlength=classes**2).reshape(
        classes, classes
    )
    right, truth, found = np.diag(table), table.sum(1), table.sum(0)
    columns = _part(right, truth), _part(right, found), truth
    return ClassTable(('accuracy', 'precision', 'images'), 1, _class_rows(evaluation, columns), table)


def _of_pixels(evaluation: Evaluation) -> ClassTable:
    classes = len(evaluation.facts['classes'])
    _, truth, found, counts = evaluation.rows['pixels'].T
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, found), counts)
    right, truth, found = np.diag(table), table.sum(1), table.sum(0)
    columns = _part(right, truth + found - right), _part(right, truth), _part(right, found), truth
    return ClassTable(('IoU', 'accuracy', 'precision', 'pixels'), 1, _class_rows(evaluation, columns), table)


def _of_objects(evaluation: Evaluation) -> ClassTable:
    """Box AP as COCO defines it, of all sizes, by pycocotools."""
    names = evaluation.facts['classes']
    truth, found = evaluation.rows['truth'], evaluation.rows['found']
    counts = np.bincount(truth[truth[:, 2] == 0, 1].astype(int), minlength=len(names))
    precision = _coco_precision(truth, found, len(names), evaluation.facts['images'])  # (10, 101, classes)
    precision = np.where(precision > -1, precision, np.nan)
    with np.errstate(invalid='ignore'):
        columns = [_mean(precision, (0, 1)), _mean(precision[0], 0), _mean(precision[5], 0)]
    return ClassTable(('box AP', 'AP50', 'AP75', 'objects'), 1, _class_rows(evaluation, [*columns, counts]), None)


def _coco_precision(truth: np.ndarray, found: np.ndarray, classes: int, images: int) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        annotated = COCO()
        annotated.dataset = dict(
            images=[dict(id=i) for i in range(images)],
            categories=[dict(id=i, name=str(i)) for i in range(classes)],
            annotations=[dict(_object(row, i + 1), iscrowd=int(row[2])) for i, row in enumerate(truth.tolist())],
        )
        annotated.createIndex()
        predicted = COCO()
        predicted.dataset = dict(
            annotated.dataset,
            annotations=[dict(_object(row, i + 1), score=row[2]) for i, row in enumerate(found.tolist())],
        )
        predicted.createIndex()
        scoring = COCOeval(annotated, predicted, 'bbox')
        scoring.params.areaRng, scoring.params.areaRngLbl = [[0, 1e10]], ['all']
        scoring.params.maxDets = [100]
        scoring.evaluate()
        scoring.accumulate()
    return scoring.eval['precision'][:, :, :, 0, 0]


def _object(row: list[float], number: int) -> dict:
    left, top, right, bottom = row[3:]
    box = [left, top, right - left, bottom - top]
    return dict(id=number, image_id=int(row[0]), category_id=int(row[1]), bbox=box, area=box[2] * box[3])


def _class_rows(evaluation: Evaluation, columns: Sequence[np.ndarray]) -> list[ClassRow]:
    names, palette = evaluation.facts['classes'], evaluation.facts['palette']
    values = np.column_stack([np.asarray(column, np.float64) for column in columns])
    return [
        ClassRow(name, color, tuple(row)) for name, color, row in zip(names, palette, values.tolist(), strict=True)
    ]


def _part(count: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.where(of > 0, count / np.maximum(of, 1), np.nan)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean of what is no nan; nan where nothing is."""
    known = np.isfinite(values)
    total, number = np.where(known, values, 0).sum(axis), known.sum(axis)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
