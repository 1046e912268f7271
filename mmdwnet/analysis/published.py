"""The published numbers: reads `published.yml` beside this file, the one place that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

PUBLISHED = Path(__file__).with_name('published.yml')
TASKS = ('imagenet', 'coco', 'ade20k', 'pretrain22k', 'zoo', 'softmax', 'depthwise', 'sharing', 'nat')


@dataclass(frozen=True)
class Metric:
    """A metric of the tables.

    Args:
        label: heading of its columns.
        name: its name in metafiles.
        key: what `tools/test.py` calls it in its file of metrics.
        scale: what makes percent of the value in that file.
    """

    label: str
    name: str
    key: str
    scale: float = 1.0


METRICS = {
    'top1': Metric('top-1', 'Top 1 Accuracy', 'accuracy/top1'),
    'real': Metric('ReaL', 'ReaL Accuracy', 'accuracy/real'),
    'box_ap': Metric('box AP', 'box AP', 'coco/bbox_mAP', 100.0),
    'mask_ap': Metric('mask AP', 'mask AP', 'coco/segm_mAP', 100.0),
    'miou': Metric('mIoU', 'mIoU', 'mIoU'),
    'miou_ms': Metric('mIoU (ms)', 'mIoU (multi-scale)', 'mIoU'),
}


@dataclass(frozen=True)
class Row:
    """A model of a table.

    Args:
        model: its name there.
        config: path below the repository, `package::path` of a stock library, or None.
        timm: name of a model of timm, where no config has it.
        size: height and width of the image that it is counted at, None for the protocol's.
        num_classes: classes to put in the place of the config's, None for those.
        published: quantity (params or activations in millions, flops in 10^9, or a metric in percent) to the
            printed value by source, the table's own source first.
        weights: URL of the released weights.
        missing: why there is no config.
        note: what a reader must know about the published values.
        differ: what is known not to agree with the published values, of params, flops and activations; `note`
            says why.
    """

    model: str
    config: str | None = None
    timm: str | None = None
    size: tuple[int, int] | None = None
    num_classes: int | None = None
    published: dict[str, dict[str, str]] | None = None
    weights: str | None = None
    missing: str | None = None
    note: str | None = None
    differ: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the config without folder and ending, or timm's; what `--results` calls the row."""
        return Path(self.config).stem if self.config else self.timm or self.model

    def printed(self, quantity: str) -> str | None:
        """Return the published value of the table's own source, as printed there."""
        return next(iter(self.published.get(quantity, {}).values()), None)


@dataclass(frozen=True)
class Table:
    """A table: rows counted under one protocol.

    Args:
        title: its heading.
        protocol: imagenet, coco or ade20k: what is counted, and at which size.
        tasks: the tasks of the command line that it belongs to.
        source: the source of its published values, where a row does not name another.
        metrics: keys of `METRICS`.
        rows: its models.
    """

    title: str
    protocol: str
    tasks: tuple[str, ...]
    source: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


def load_tables(task: str | None = None) -> list[Table]:
    """Return the tables of a task, or all of them."""
    data = yaml.safe_load(PUBLISHED.read_text(encoding='utf-8'))
    tables = [_table(table, data) for table in data['tables']]
    return [table for table in tables if task is None or task in table.tasks]


def load_sources() -> dict[str, str]:
    """Return what the short names of the sources stand for."""
    return yaml.safe_load(PUBLISHED.read_text(encoding='utf-8'))['sources']


def _table(table: dict, data: dict) -> Table:
    rows = []
    for row in table['rows']:
        fields = {key: value for key, value in row.items() if key != 'ocr'}
        published = fields.get('published', {})
        fields['published'] = {
            quantity: value if isinstance(value, dict) else {table['source']: value}
            for quantity, value in published.items()
        }
        if 'weights' in fields:
            fields['weights'] = data['weights'] + fields['weights']
        fields['differ'] = tuple(fields.get('differ', ()))
        if 'size' in fields:
            fields['size'] = tuple(fields['size'])
        rows.append(Row(**fields))
    return Table(
        title=table['title'],
        protocol=table['protocol'],
        tasks=tuple(table['tasks']),
        source=table['source'],
        metrics=tuple(table['metrics']),
        rows=tuple(rows),
    )
