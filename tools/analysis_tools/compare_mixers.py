"""Train nets with different mixers for the same time: `python tools/analysis_tools/compare_mixers.py --minutes 3`.

Without a config it takes six of the mini dataset, one per kind of mixer. Prints a table, and draws the convergence
curves together: loss and accuracy against epochs and against minutes of training.
"""

import argparse
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmdwnet.analysis import convergence
from mmdwnet.analysis.benchmark.machine import describe_machine, headline
from mmdwnet.engine.tool_runs import make_mini_dataset
from mmdwnet.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[2]
# static, dynamic, attention in windows, learned weights in windows, attention among neighbours, global attention
NETS = ('dwnet-nano', 'dynamic-dwnet-nano', 'swin-nano', 'local-mlp-nano', 'nat-nano', 'deit-nano')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='*', type=Path, metavar='CONFIG', help=f'default those of {", ".join(NETS)}')
    add('--minutes', type=float, default=3.0, help='training time of each, without validation; default 3')
    add('--out', type=Path, default=Path('work_dirs/compare_mixers'), help='folder; default %(default)s')
    add('--overwrite', action='store_true', help='train again what --out has already')
    add(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='as of tools/train.py',
    )
    args = parser.parse_args()
    if not 0 < args.minutes < math.inf:
        parser.error(f'--minutes must be more than 0, got {args.minutes}')
    return args


def main() -> None:
    args = parse_args()
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f'--out {args.out} is a file: expected a folder')
    out = args.out.resolve()
    configs = [config.resolve() for config in args.configs]
    progress = Console(stderr=True)
    if not any(option.startswith('data_root=') for option in args.cfg_options):
        make_mini_dataset(ROOT, progress)
    configs = configs or [ROOT / f'configs/mini/{net}_cls_mini.py' for net in NETS]
    runs = convergence.compare(ROOT, configs, args.minutes, out, progress, args.cfg_options, args.overwrite)
    show(runs, out)


def show(runs: list[convergence.Run], out: Path) -> None:
    from mmdwnet.analysis import convergence_chart as chart  # matplotlib is slow to import

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table('net', *(f'[right]{name}' for name in chart.COLUMNS))
    for row in chart.rows(runs):
        table.add_row(*row)
    console.print(table)
    machine = headline(describe_machine('cpu'))
    (out / 'convergence.md').write_text(chart.markdown(runs, machine), encoding='utf-8')
    picture = chart.draw(runs, machine, out / 'convergence.png')
    console.print(f'curves: {picture}; the table: convergence.md beside it', soft_wrap=True)


if __name__ == '__main__':
    run_tool(main)
