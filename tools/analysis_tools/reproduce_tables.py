"""Rebuild the benchmark tables, measured beside published: `python tools/analysis_tools/reproduce_tables.py`.

Counts parameters, FLOPs and activations of every row; metrics are those of the files given with `--results`, which
`python tools/test.py CONFIG CHECKPOINT --out FILE.json --out-item metrics` writes.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmdwnet.analysis import metafiles, tables
from mmdwnet.analysis.published import TASKS, load_tables
from mmdwnet.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Rebuild the benchmark tables, measured beside published.')
    parser.add_argument('--task', choices=TASKS, help='the tables of one task; default all')
    parser.add_argument(
        '--results',
        nargs='+',
        default=[],
        metavar='NAME=FILE.json',
        help='metrics written by tools/test.py; NAME is that of the config without .py; or a folder of NAME.json',
    )
    parser.add_argument('--out', type=Path, help='folder for tables.md, tables.json and the figures')
    parser.add_argument(
        '--update',
        action='store_true',
        help='write the counts into model-index.yml and configs/*/metafile.yml, and from those the tables of '
        'README.md and docs/model-zoo.md',
    )
    args = parser.parse_args()
    if args.update and (args.task or args.results or args.out):
        parser.error('--update takes all tables, and no results: give it alone')
    return args


def main() -> None:
    args = parse_args()
    # the libraries warn about their own stock configs while they build them
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')
    asked = load_tables(args.task)
    results = tables.read_results(args.results, asked)
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f'--out {args.out} is a file: expected a folder')
    measured = measure(asked, results)
    if args.update:
        for path in metafiles.update(measured):
            print(f'wrote {path}')
        return
    text = '\n'.join([tables.explanation(), *(tables.markdown(*pair) for pair in measured)])
    print(text)
    if args.out:
        write(args.out, text, measured)


def measure(asked: list, results: dict) -> list:
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task('', total=sum(len(table.rows) for table in asked))
        measured = []
        for table in asked:
            progress.update(bar, description=table.title)
            measured.append((table, tables.measure_table(table, results, lambda: progress.advance(bar))))
    return measured


def write(folder: Path, text: str, measured: list) -> None:
    from mmdwnet.analysis.figures import draw  # matplotlib is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tables.md').write_text(text, encoding='utf-8')
    (folder / 'tables.json').write_text(json.dumps(tables.as_json(measured), indent=1), encoding='utf-8')
    figures = [path for pair in measured for path in draw(*pair, folder)]
    names = ', '.join(['tables.md', 'tables.json', *(path.name for path in figures)])
    print(f'wrote {names} to {folder}')


if __name__ == '__main__':
    run_tool(main)
