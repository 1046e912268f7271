"""Draw the mini dataset: `python tools/dataset_tools/make_mini_dataset.py [ROOT] [--preview PNG]`.

A set that is there already, with the same parameters, is left alone.
"""

from __future__ import annotations

import argparse
import inspect
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mmdwnet.datasets.mini import Result, generate
from mmdwnet.datasets.preview import contact_sheet
from mmdwnet.errors import UserError, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    default = {name: p.default for name, p in inspect.signature(generate).parameters.items()}
    parser = argparse.ArgumentParser(description='Draw the mini dataset.')
    parser.add_argument(
        'root', nargs='?', default=default['root'], help='folder of the set (default: %(default)s)'
    )
    for name, text in (
        ('seed', 'of the generator'),
        ('size', 'side of the square images in pixels'),
        ('num_train', 'training images'),
        ('num_val', 'held-out images'),
        ('workers', 'processes that draw; the result does not depend on it'),
    ):
        parser.add_argument(
            '--' + name.replace('_', '-'),
            type=int,
            default=default[name],
            metavar='N',
            help=f'{text} (default: %(default)s)',
        )
    parser.add_argument('--force', action='store_true', help='draw even if the set is there')
    parser.add_argument('--preview', metavar='PNG', help='also save a contact sheet to this file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = vars(parse_args(argv))
    preview = options.pop('preview')
    if preview is not None:
        _check_preview(preview)
    started = time.perf_counter()
    console = Console(stderr=True)
    # No bar where nobody sees it, such as a log file.
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task('mini dataset', total=None)
        result = generate(**options, progress=lambda n, total: bar.update(task, completed=n, total=total))
    print(_summary(result, time.perf_counter() - started))
    if preview is not None:
        contact_sheet(result.root).save(preview)
        print(f'preview: {preview}')


def _check_preview(preview: str) -> None:
    """Before the work, not after it."""
    path = Path(preview)
    if path.suffix.lower() != '.png' or not path.parent.is_dir():
        raise UserError(f'--preview {preview}: expected a .png file in a folder that exists')


def _summary(result: Result, seconds: float) -> str:
    images, instances = result.meta['images'], result.meta['instances']
    parts = ', '.join(f'{n} {split} ({instances[split]} shapes)' for split, n in images.items())
    how = f'drawn in {seconds:.1f} s' if result.created else 'already there'
    return f'{result.root}: {parts} images, {how}'


if __name__ == '__main__':
    run_tool(main)
