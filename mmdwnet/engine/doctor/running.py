"""The whole page, in order."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from . import hardware, software, versions
from .page import Finding, Page, quiet

NO_CONFIG = 'This machine will work'
GOOD = 'This machine and this config will work'


def doctor_parser(usable: bool) -> argparse.ArgumentParser:
    """The options of `tools/doctor.py`; `usable`: mmdwnet can be imported, and with it mmengine."""
    parser = argparse.ArgumentParser(
        description='Say on one page whether this machine, and a config on it, will work. Exit status 1 if not.'
    )
    parser.add_argument('config', nargs='?', help='config file; without it, the machine alone')
    parser.add_argument('--quick', action='store_true', help='do not measure: no training step, no data loading')
    parser.add_argument('--work-dir', help='where the run would write; default work_dirs/<name of the config>')
    parser.add_argument('--amp', action='store_true', help='as of tools/train.py: mixed precision, in bfloat16')
    parser.add_argument('--amp-dtype', choices=('bfloat16', 'float16'), help='--amp, in this type')
    options: dict[str, Any] = {}
    if usable:  # else the config is not looked at
        from mmengine.config import DictAction

        options['action'] = DictAction
    parser.add_argument('--cfg-options', nargs='+', help='settings to override, as of tools/train.py', **options)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the page and its numbers here too')
    return parser


def diagnose(args: argparse.Namespace, import_error: str | None) -> bool:
    """Print the page.

    Args:
        args: of `doctor_parser`.
        import_error: why mmdwnet cannot be imported, None if it can.

    Returns:
        Whether nothing fails.

    Raises:
        UserError: the file of --json cannot be written.
    """
    page = Page(sys.stdout)
    case, problem = None, None
    if args.config and import_error is None:
        from .case import open_case

        with quiet():
            case, problem = open_case(args)
    task = case.task if case else None
    _machine(page, task, not args.config, import_error, Path(args.work_dir or 'work_dirs'))
    if args.config:
        page.section(f'Config {args.config}')
        if import_error is not None:
            text = 'not looked at, for mmdwnet cannot be used here'
            page.look('config', lambda: iter([Finding('fails', 'config', text)]))
        elif case is None:
            page.look('config', lambda: iter([Finding('fails', 'config', problem)]))
        else:
            case.examine(page, quick=args.quick)
    good = page.end(GOOD if args.config else NO_CONFIG)
    if args.json:
        try:
            args.json.write_text(json.dumps(page.as_json(), indent=2), encoding='utf-8')
        except OSError as error:
            raise UserError(
                f'--json {args.json} cannot be written: {error.strerror}; name another file'
            ) from error
    return good


def _machine(page: Page, task: str | None, alone: bool, import_error: str | None, work_dir: Path) -> None:
    """Versions, hardware, and what runs.

    Args:
        page: the page.
        task: of the config, None if there is none or it cannot be read.
        alone: there is no config; then every task should work.
        import_error: why mmdwnet cannot be imported, None if it can.
        work_dir: where a run would write.
    """
    page.section('Versions: here, accepted, tested')
    page.look('Python', versions.python)
    page.look('libraries', lambda: versions.libraries(task, alone))
    page.look('mmdwnet', lambda: versions.package(import_error))
    page.section('Machine')
    page.look('CPU', hardware.processors)
    if alone:  # else they are held against what the config needs
        page.look('/dev/shm', hardware.shared_memory)
        page.look('disk', lambda: hardware.disk(work_dir))
    if page.look('torch', _needs_torch):
        import torch

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        page.look('GPU', software.gpus)
        page.look('kernels', lambda: software.kernels(device))
        page.look('mmcv.ops', lambda: software.compiled_ops(device, task, alone))
        page.look('processes', lambda: software.processes(device))
    page.look('port', hardware.port)
    page.look('Slurm', hardware.slurm)


def _needs_torch() -> Iterator[Finding]:
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        text = f'GPU, kernels and processes are not looked at: {" ".join(str(error).split())}'
        yield Finding('fails', 'torch', text, "pip install 'torch>=2.1', or make setup in a checkout")
