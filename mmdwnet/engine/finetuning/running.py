"""The command line of `tools/finetune.py`, and the whole way: recognise, choose, write, check, train, test."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ...checkpoints.reading import is_url
from ...errors import UserError
from ..bad_samples import budget, write_faults
from ..checkpoint_checks import check_checkpoints
from ..config import load_config, task_of
from ..dataset_check import SHARED_NAMES, SplitReport, check_dataset, lines_of, splits_of
from ..preflight import check_model, check_training
from ..run_report_hook import PAGE
from ..tool_runs import lines_of as lines_of_tool
from ..tool_runs import train_with_progress
from .choosing import choose
from .own_data import OwnData, counted
from .recognising import TASKS, recognise
from .results import classes_line, metrics_line
from .splitting import with_val_split
from .work_dir import METRICS, TRAINING_LOG, best_checkpoint, check_work_dir, default_work_dir, place_config

RANDOM = 'none'  # in place of weights
INTERRUPTED = 130  # the status of a program that Ctrl-C ended
ALONE = 500  # so many images are checked without loader processes, which take longer to start


def finetune_parser() -> argparse.ArgumentParser:
    """The options of `tools/finetune.py`."""
    parser = argparse.ArgumentParser(
        description='Fine-tune on a folder of your own data: class folders, COCO JSON, or images and label maps.'
    )
    parser.add_argument('data', metavar='DATA_DIR', help='folder of the data, which is only read')
    parser.add_argument('--task', choices=TASKS, help='needed only where the folder can be read in several ways')
    parser.add_argument('--model', help='a backbone of the zoo; default dwnet-nano, with --weights dwnet-tiny')
    parser.add_argument(
        '--weights',
        default=RANDOM,
        help='checkpoint that the backbone starts from, path or URL, ours or an official one; its head is '
        'not used; default "none", for random weights',
    )
    parser.add_argument('--epochs', type=int, help='length of the training, of a classifier or detector')
    parser.add_argument('--iters', type=int, help='length of the training, of a segmentor')
    parser.add_argument('--work-dir', help='where all of it goes; default by the name of the data')
    parser.add_argument('--dry-run', action='store_true', help='write and check the config, and do not train')
    parser.add_argument('--verbose', action='store_true', help='show the traceback of an error')
    return parser


def finetune(args: argparse.Namespace, root: Path, console: Console) -> None:
    """Fine-tune as the command line says.

    Args:
        args: of `finetune_parser`.
        root: the repository, whose tools train and test.
        console: where progress and results go, bound to a file of its own.

    Raises:
        UserError: the data, an option or the work directory cannot be used, or a step failed; one line.
    """
    for name in ('epochs', 'iters'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)}: expected 1 or more')
    work_dir = Path(args.work_dir or default_work_dir(args.data)).expanduser().resolve()
    check_work_dir(work_dir)
    with _bar(console, 'read label maps') as progress:
        data = with_val_split(recognise(args.data, args.task, progress))
    _say_data(console, data)
    choices = choose(data, args.model, _weights(args.weights), _length(args, data.task))
    asked = any((args.model, args.epochs, args.iters, args.weights != RANDOM))
    config, edited = place_config(work_dir, data, choices, asked)
    if edited:
        _say(console, 'config', f'{config} as it stands: it was edited, or made by other options')
    else:
        for name, reason in choices.reasons.items():
            _say(console, name, reason)
        _say(console, 'config', f'{config}, to be read and edited')
    with redirect_stdout(io.StringIO()):  # libraries print while they are imported
        cfg = load_config(str(config))
        cfg.work_dir = str(work_dir)
        _check(cfg, config, sum(len(split.samples) for split in data.splits.values()), console)
    if args.dry_run:
        _say(
            console, 'not trained', 'for --dry-run: the same command without it trains by the config as it stands'
        )
        return
    try:
        _train(root, cfg, config, work_dir, console)
        _test(root, config, work_dir, console)
    except KeyboardInterrupt:
        console.print('interrupted: the same command goes on from the last checkpoint')
        raise SystemExit(INTERRUPTED) from None
    _say_results(root, task_of(cfg), config, work_dir, console)


def _weights(asked: str) -> str | None:
    if asked == RANDOM:
        return None
    if is_url(asked):
        return asked
    file = Path(asked).expanduser().resolve()
    if not file.is_file():
        raise UserError(f'--weights {asked}: no such file; expected a checkpoint, or none for random weights')
    return str(file)


def _length(args: argparse.Namespace, task: str) -> int | None:
    right, wrong = ('iters', 'epochs') if task == 'seg' else ('epochs', 'iters')
    if getattr(args, wrong) is not None:
        raise UserError(f'--{wrong} is not for the task {task}, which counts {right}: give --{right}')
    return getattr(args, right)


def _check(cfg: Config, config: Path, images: int, console: Console) -> None:
    """Check the model and its weights, and look at every sample.

    Raises:
        UserError: something is wrong that the run would not pass over.
    """
    backbone = check_model(cfg, 'train')
    check_training(cfg, world_size=1)
    check_checkpoints(cfg, backbone, 'train')
    splits = splits_of(cfg, 'all')
    with _bar(console, 'check') as progress:
        workers = len(os.sched_getaffinity(0)) if images > ALONE else 0
        reports = check_dataset(cfg, splits, workers, lambda split, done, total: progress(done, total))
    faults = [fault for report in reports for fault in report.faults.values()]
    for line in lines_of(reports):
        if task_of(cfg) != 'cls' or SHARED_NAMES not in line:  # folders of classes often count from 0 each
            _say(console, 'check', line)
    problem = next((problem for report in reports for problem in report.problems), None)
    if problem:
        raise UserError(problem)
    _refuse(reports, faults, config)
    _say(console, 'check', f'{counted(images, "image")} looked at, {counted(len(faults), "bad one")}')


def _refuse(reports: list[SplitReport], faults: list, config: Path) -> None:
    """Only in training may samples be bad, and only a few."""
    for report in reports:
        allowed = budget(report.images, None) if report.split == 'train' else 0
        if len(report.faults) > allowed:
            file = config.parent / 'bad_samples.txt'
            write_faults(file, faults)
            first = next(iter(report.faults.values()))
            raise UserError(
                f'{report.split} has {counted(len(report.faults), "bad sample")}, and {allowed} may be: repair or '
                f'remove them (first: {first.reason}; all: {file})'
            )


def _train(root: Path, cfg: Config, config: Path, work_dir: Path, console: Console) -> None:
    arguments = [str(config), '--work-dir', str(work_dir)]
    if list(work_dir.glob('*.pth')):
        _say(console, 'training', 'goes on from the last checkpoint')
        arguments.append('--resume')
    epochs = cfg.train_cfg.get('max_epochs', 1)
    seconds = train_with_progress(root, arguments, epochs, work_dir / TRAINING_LOG, 'training', console)
    _say(console, 'training', f'{seconds / 60:.1f} minutes')


def _test(root: Path, config: Path, work_dir: Path, console: Console) -> None:
    command = ['tools/test.py', str(config), str(best_checkpoint(work_dir)), '--work-dir', str(work_dir)]
    command += ['--out', str(work_dir / METRICS), '--out-item', 'metrics']
    with console.status('test the best checkpoint'):
        for _ in lines_of_tool(root, command, work_dir / 'test.log'):
            pass


def _say_data(console: Console, data: OwnData) -> None:
    counts = ', '.join(f'{counted(len(split.samples), "image")} ({name})' for name, split in data.splits.items())
    _say(console, 'data', f'{data.root}: {data.layout}')
    _say(console, '', f'{TASKS[data.task]}: {counted(len(data.classes), "class")}, {counts}')
    for remark in data.remarks:
        _say(console, '', remark)


def _say_results(root: Path, task: str, config: Path, work_dir: Path, console: Console) -> None:
    best, page = best_checkpoint(work_dir), work_dir / PAGE
    _say(console, 'best', metrics_line(task, work_dir))
    _say(console, 'classes', classes_line(work_dir))
    _say(console, 'checkpoint', _near(best))
    _say(console, 'report', _near(page) if page.is_file() else f'none was made: see {work_dir / "test.log"}')
    command = f'python {_near(root / "tools/predict.py")} IMAGE --model {_near(config)} --weights {_near(best)}'
    _say(console, 'predict', command)


def _near(path: Path) -> str:
    """A path as seen from here, if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(console: Console, name: str, text: str) -> None:
    # a path or a command that is cut is of no use
    console.print(f'{name:<14}{text}', soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Callable[[int, int], object]]:
    """A bar that appears with the first call, and is gone at the end."""
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
