"""Look at every sample of a config's data before a run does: `python tools/dataset_tools/check_dataset.py CONFIG`.

Images that cannot be read to their end, label maps of another size or with values that are no class, annotations
outside their image, images that are listed twice; class names and counts against the config. Exit status 0 when
all is well, 1 when something is bad, 2 when it could not look.
"""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

try:
    from mmdwnet.checkpoints.writing import check_target, write_atomically
    from mmdwnet.engine.bad_samples import write_faults
    from mmdwnet.engine.config import load_config
    from mmdwnet.engine.dataset_check import (
        SPLITS,
        SplitReport,
        check_dataset,
        faults_by_kind,
        lines_of,
        splits_of,
    )
    from mmdwnet.errors import UserError, run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look at every sample of a config's data sets before a run does.")
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=[*SPLITS, 'all'], default='all', help='default: all that it has')
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--workers', type=int, default=cores, metavar='N', help='processes that load (default: %(default)s)'
    )
    parser.add_argument('--out', help='a .txt file for all bad samples: file, kind, reason, as in bad_samples.txt')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.workers < 0:
        raise UserError(f'--workers {args.workers}: expected 0 or more')
    out = check_target(args.out, '.txt', (args.config,), force=True) if args.out else None
    cfg = load_config(args.config, args.cfg_options)
    splits = splits_of(cfg, args.split)
    console = Console(stderr=True)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # No bar where nobody sees it, such as a log file.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {split: bar.add_task(split, total=None) for split in splits}
        reports = check_dataset(
            cfg,
            splits,
            args.workers,
            lambda split, done, total: bar.update(tasks[split], completed=done, total=total),
        )
    faults = [fault for report in reports for fault in report.faults.values()]
    Console().print(_table(reports))
    for line in lines_of(reports):
        print(line)
    if out is not None:
        write_atomically(out, lambda partial: write_faults(partial, faults))
        print(f'{len(faults)} bad samples are listed in {out}')
    if not all(report.clean for report in reports):
        raise SystemExit(1)
    print('all is well')


def _table(reports: list[SplitReport]) -> Table:
    table = Table('', *(report.split for report in reports))
    table.add_row('images', *(str(report.images) for report in reports))
    table.add_row('does not fit the config', *(str(len(report.problems)) for report in reports))
    for kind, by_split in faults_by_kind(reports).items():
        table.add_row(kind, *(str(len(faults)) for faults in by_split.values()))
    table.add_row('remarks', *(str(len(report.remarks)) for report in reports))
    return table


if __name__ == '__main__':
    run_tool(main)
