"""Find out where mixers stand, by measuring: `python tools/analysis_tools/probe_mixer.py --all --out out`.

    WindowAttention                              a registered mixer
    WindowAttention:head_channels=8,shift=True   with options
    package.module.Class:width=16                a module of your own, (B, C, H, W) -> (B, C, H, W)

Prints table 1 of Han et al. (ICLR 2022) with a row per mixer: what an output is connected to, which weights are
shared, and whether they are dynamic. All of it comes from Jacobians on small random inputs, in float64, with
random weights; no code is read. `--out FOLDER` adds table.md, table.json, connectivity.png and relations.png.
"""

import argparse
import json
import logging
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmdwnet.analysis.probe import Place, Subject, probe, registered_mixers, report, subject_of
from mmdwnet.analysis.probe.subjects import CHANNELS
from mmdwnet.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('mixers', nargs='*', metavar='MIXER', help='what to probe')
    parser.add_argument('--all', action='store_true', help='every registered mixer, before those that are named')
    parser.add_argument(
        '--channels', type=int, default=CHANNELS, metavar='C', help=f'of what is probed; default {CHANNELS}'
    )
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='for the table and the pictures')
    args = parser.parse_args()
    if not args.mixers and not args.all:
        parser.error(f'name a mixer or give --all; registered: {", ".join(registered_mixers())}')
    if args.channels < 1:
        parser.error(f'--channels must be 1 or more, got {args.channels}')
    return args


def main() -> None:
    args = parse_args()
    logging.disable(logging.WARNING)
    if args.out:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'--out {args.out}: no folder to write to ({error.strerror}); name another') from error
    specs = (registered_mixers() if args.all else []) + args.mixers
    subjects = [subject_of(spec, args.channels) for spec in dict.fromkeys(specs)]
    places = measure(subjects)
    console = Console(width=None if Console().is_terminal else 200)
    console.print(report.rich_table(places))
    for line in report.legend(places):
        console.print(line, highlight=False, markup=False)
    if args.out:
        write(args.out, subjects, places)


def measure(subjects: list[Subject]) -> list[Place]:
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    places = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task('', total=len(subjects))
        for subject in subjects:
            progress.update(bar, description=subject.name)
            try:
                places.append(probe(subject))
            except ValueError as error:
                raise UserError(str(error)) from error
            progress.advance(bar)
    return places


def write(folder: Path, subjects: list[Subject], places: list[Place]) -> None:
    from mmdwnet.analysis.probe.figures import draw_connectivity  # matplotlib is slow to import
    from mmdwnet.analysis.probe.graph import draw_graph

    (folder / 'table.md').write_text(report.markdown(places), encoding='utf-8')
    (folder / 'table.json').write_text(json.dumps(report.as_json(places), indent=1), encoding='utf-8')
    draw_connectivity(subjects, places, folder / 'connectivity.png')
    draw_graph(places, folder / 'relations.png')
    print(f'wrote table.md, table.json, connectivity.png, relations.png to {folder}')


if __name__ == '__main__':
    run_tool(main)
