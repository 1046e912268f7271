"""The benchmark tables, measured beside published, as Markdown and as JSON.

Sizes and costs are counted here. Metrics come from files that `tools/test.py --out FILE.json --out-item metrics`
wrote, and from nowhere else: where there is none the cell says `not run`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .complexity import Complexity
from .protocols import measure
from .published import METRICS, Row, Table, load_sources

NOT_RUN = 'not run'
# quantity, heading, factor to the unit of the table, digits of the measured value
SIZES = (
    ('params', 'params (M)', 1e-6, 3),
    ('flops', 'FLOPs (G)', 1e-9, 3),
    ('activations', 'activations (M)', 1e-6, 3),
)


@dataclass(frozen=True)
class Measured:
    """What was measured of a row.

    Args:
        row: the row.
        complexity: its counts, None where it has no config.
        metrics: keys of `METRICS` to percent, of those that a file of results has.
    """

    row: Row
    complexity: Complexity | None
    metrics: dict[str, float]

    def value(self, quantity: str) -> float | None:
        """Return a size in the unit of its column, or a metric in percent; None where not measured."""
        for name, _, factor, _ in SIZES:
            if name == quantity:
                return None if self.complexity is None else getattr(self.complexity, name) * factor
        return self.metrics.get(quantity)

    def difference(self, quantity: str) -> float | None:
        """Return measured over published, minus 1, where there are both."""
        value, printed = self.value(quantity), self.row.printed(quantity)
        return None if value is None or printed is None else value / float(printed) - 1

    def agrees(self, quantity: str) -> bool | None:
        """Whether the measured value, at the printed digits, is the published one; None where one lacks."""
        value, printed = self.value(quantity), self.row.printed(quantity)
        if value is None or printed is None:
            return None
        return f'{value:.{len(printed.partition(".")[2])}f}' == printed


def measure_table(
    table: Table, results: dict[str, dict[str, float]], advance: Callable[[], object] = lambda: None
) -> list[Measured]:
    """Count every row of a table, and take its metrics from the results.

    Args:
        table: the table.
        results: metrics by the name of a row, as `read_results` returns them.
        advance: called after every row.
    """
    measured = []
    for row in table.rows:
        complexity = measure(row, table.protocol) if row.config or row.timm else None
        measured.append(Measured(row, complexity, _metrics(row, table, results)))
        advance()
    return measured


def read_results(items: Sequence[str], tables: Sequence[Table]) -> dict[str, dict[str, float]]:
    """Read the files of metrics given on the command line.

    Args:
        items: `NAME=FILE.json`, or a folder of `NAME.json`; NAME is a config's without folder and ending.
        tables: the tables that are asked for; every name must be one of their rows'.

    Returns:
        The metrics by name, as `tools/test.py` wrote them.

    Raises:
        UserError: a file is missing or is not of that form, or no row has that name.
    """
    names = {row.name for table in tables for row in table.rows}
    files: dict[str, Path] = {}
    for item in items:
        if Path(item).is_dir():
            found = {path.stem: path for path in sorted(Path(item).glob('*.json'))}
            if not found:
                raise UserError(f'--results {item}: the folder has no .json file, expected <config name>.json')
        else:
            name, equals, path = item.partition('=')
            if not equals:
                raise UserError(f'--results {item}: expected NAME=FILE.json or a folder of NAME.json files')
            found = {name: Path(path)}
        for name in found:
            if name not in names:
                raise UserError(
                    f'--results: no row is called {name!r}: expected the file name of a config of the tables '
                    'asked for, without .py'
                )
        files.update(found)
    return {name: _read_metrics(path) for name, path in files.items()}


def _read_metrics(path: Path) -> dict[str, float]:
    try:
        metrics = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(
            f'--results: {path} cannot be read ({error.strerror}): expected a file of metrics'
        ) from error
    except ValueError as error:
        raise UserError(f'--results: {path} is no JSON file: {error}') from error
    known = {metric.key for metric in METRICS.values()}
    if not isinstance(metrics, dict) or not known & set(metrics):
        raise UserError(
            f'--results: {path} has none of the metrics {sorted(known)}: expected what tools/test.py writes with '
            '--out FILE.json --out-item metrics'
        )
    for key in known & set(metrics):
        if isinstance(metrics[key], bool) or not isinstance(metrics[key], (int, float)):
            raise UserError(f'--results: {path}: {key} must be a number, got {metrics[key]!r}')
    return metrics


def _metrics(row: Row, table: Table, results: dict[str, dict[str, float]]) -> dict[str, float]:
    found = results.get(row.name, {}) if row.config or row.timm else {}
    wanted = {name: METRICS[name] for name in table.metrics}
    return {name: found[m.key] * m.scale for name, m in wanted.items() if m.key in found}


def markdown(table: Table, measured: Sequence[Measured]) -> str:
    """Return a table as Markdown, its columns aligned, with its notes below.

    What no row has a published value of stands without the columns to compare with.
    """
    header = ['model']
    for name, label, _, _ in SIZES:
        header += [label, *(['published', 'difference'] if _is_published(table, name) else [])]
    for name in table.metrics:
        header += [f'{METRICS[name].label} (%)', *(['published'] if _is_published(table, name) else [])]
    notes: list[str] = []
    lines = [header] + [_cells(table, item, notes) for item in measured]
    text = f'### {table.title}\n\n{aligned(lines)}'
    return text + ''.join(f'\n[{number}] {note}.' for number, note in enumerate(notes, 1)) + '\n' * bool(notes)


def _cells(table: Table, item: Measured, notes: list[str]) -> list[str]:
    row = item.row
    marks = ''
    for note in _notes(item):
        if note not in notes:
            notes.append(note)
        marks += f' [{notes.index(note) + 1}]'
    cells = [row.model + marks]
    for name, _, _, digits in SIZES:
        value = item.value(name)
        cells.append('-' if value is None else f'{value:.{digits}f}')
        if _is_published(table, name):
            cells += [_published(table, row, name), _difference(item, name)]
    for name in table.metrics:
        value = item.metrics.get(name)
        cells.append(NOT_RUN if value is None else f'{value:.2f}')
        if _is_published(table, name):
            cells.append(_published(table, row, name))
    return cells


def _is_published(table: Table, quantity: str) -> bool:
    return any(row.printed(quantity) for row in table.rows)


def _difference(item: Measured, quantity: str) -> str:
    difference = item.difference(quantity)
    if difference is None:
        return '-'
    return '=' if item.agrees(quantity) else f'{difference:+.2%}'


def _notes(item: Measured) -> list[str]:
    notes = [note for note in (item.row.note, item.row.missing) if note]
    if item.complexity is not None and item.complexity.uncounted:
        operations = ', '.join(f'{name} ({times})' for name, times in item.complexity.uncounted)
        notes.append(f'a lower bound, for no rule counts {operations}')
    return notes


def _published(table: Table, row: Row, quantity: str) -> str:
    return named_values([*row.published.get(quantity, {}).items()], table.source)


def named_values(values: Sequence[tuple[str, object]], source: str) -> str:
    """Return values of several sources as one cell: the first, and those that differ from it in brackets.

    Args:
        values: (source, value) pairs.
        source: the source that needs no name.
    """
    if not values:
        return '-'
    (first_source, first), *others = values
    cell = f'{first}' if first_source == source else f'{first} {first_source}'
    differing = [f'{name} {value}' for name, value in others if value != first]
    return cell + (f' ({", ".join(differing)})' if differing else '')


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return cells, the header first, as a Markdown table with aligned columns, all but the first to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    rule = [('-' * (width - 1) + ':') if column else '-' * width for column, width in enumerate(widths)]
    header, *rows = padded
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in [header, rule, *rows])


def explanation() -> str:
    """Return what stands above the tables: whose numbers they are, and how they were counted."""
    sources = ''.join(f'- {name}: {text}\n' for name, text in load_sources().items())
    return (
        '# Measured beside published\n\n'
        'Columns called "published" are numbers of other people; all others were measured by this project. '
        'A metric is measured only where a file of results was given. FLOPs are multiply-adds: ImageNet at 224 x '
        '224 of the backbone, COCO at 1280 x 800 with 1000 proposals and 100 masks, ADE20K at 2048 x 512 without '
        'the auxiliary head. Activations are the elements of the results of convolutions and matrix products. A '
        'difference of "=": the same at the digits that are printed.\n\n'
        f'Sources of the published values; one that is not the main source of its table is named:\n\n{sources}'
    )


def as_json(tables: Sequence[tuple[Table, Sequence[Measured]]]) -> list[dict]:
    """Return the tables as plain data: whole counts, metrics as measured or None, published values as printed."""
    return [
        dict(
            title=table.title,
            protocol=table.protocol,
            rows=[
                dict(
                    model=item.row.model,
                    name=item.row.name,
                    config=item.row.config,
                    timm=item.row.timm,
                    measured=dict(
                        params=item.complexity and item.complexity.params,
                        flops=item.complexity and item.complexity.flops,
                        activations=item.complexity and item.complexity.activations,
                        **{name: item.metrics.get(name) for name in table.metrics},
                    ),
                    published=item.row.published,
                    notes=_notes(item),
                )
                for item in measured
            ],
        )
        for table, measured in tables
    ]
