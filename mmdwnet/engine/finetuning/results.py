"""What a fine-tuning has reached, in a few lines: read from the metrics and the report of its test."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ...analysis.run_report.collecting import collect
from ...analysis.run_report.per_class import class_table
from .work_dir import METRICS

# what to print of the metrics: key, name, what to multiply by, and the unit
SHOWN = {
    'cls': (('accuracy/top1', 'top-1 accuracy', 1, ' %'),),
    'det': (('coco/bbox_mAP', 'box AP', 100, ''), ('coco/segm_mAP', 'mask AP', 100, '')),
    'seg': (('mIoU', 'mIoU', 1, ' %'), ('aAcc', 'pixel accuracy', 1, ' %')),
}
ALL, SOME = 12, 4  # so many classes are all named; of more, the best and the worst


def metrics_line(task: str, work_dir: Path) -> str:
    """The metrics of the best checkpoint."""
    metrics = json.loads((work_dir / METRICS).read_text(encoding='utf-8'))
    shown = ((name, metrics[key] * by, unit) for key, name, by, unit in SHOWN[task] if key in metrics)
    return ', '.join(f'{name} {value:.1f}{unit}' for name, value, unit in shown)


def classes_line(work_dir: Path) -> str:
    """The classes from the best to the worst, by the first column of the report's table."""
    evaluation = collect(work_dir).evaluation
    if evaluation is None:
        return 'not known: the report has no evaluation'
    table = class_table(evaluation)
    rows = [(row.values[0], row.name) for row in table.rows if math.isfinite(row.values[0])]
    rows.sort(key=lambda row: -row[0])
    words = [f'{name} {100 * value:.0f}' for value, name in rows]
    if len(words) > ALL:
        words = [*words[:SOME], '...', *words[-SOME:]]
    absent = len(table.rows) - len(rows)
    return f'{table.columns[0]} (%): {", ".join(words)}' + (f'; {absent} are in no image' if absent else '')
