"""Run the tools of the repository as processes of their own, each with a log and with progress made from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..datasets import mini
from ..errors import UserError

# 'Epoch(train) [3][ 50/125]' and 'Iter(train) [ 50/1500]', and what the line says after it
STEP = re.compile(
    r'(?:Epoch\(train\)\s+\[(\d+)\])?(?:Iter\(train\) )?\s*\[\s*(\d+)/(\d+)\].*?eta: (\S+).*? loss: (\S+)'
)


def make_mini_dataset(root: Path, console: Console) -> None:
    """Make the mini dataset where the configs under `configs/mini` expect it, or leave the one that is there."""
    with Progress(TextColumn('{task.description}'), BarColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task('mini dataset')
        mini.generate(
            root / 'data' / 'mini',
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
        progress.update(bar, completed=100, total=100)


def train_with_progress(
    root: Path, arguments: Sequence[str], epochs: int, log: Path, title: str, console: Console
) -> float:
    """Train by `tools/train.py` with a progress bar made from its log; return the seconds it took.

    Args:
        root: the repository.
        arguments: of the tool.
        epochs: of the training; 1 for one that counts iterations.
        log: where the tool's output goes.
        title: what the bar calls the training.
        console: where the bar goes; where that is no terminal, a line for every line about losses.

    Raises:
        UserError: the training failed.
    """
    started = time.monotonic()
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.fields[state]}'),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=1, state='starting')
        for line in lines_of(root, ['tools/train.py', *arguments], log):
            step = STEP.search(line)
            if not step:
                continue
            epoch, done, total, eta, loss = step.groups()
            share = (int(epoch or 1) - 1 + int(done) / int(total)) / epochs
            state = f'loss {loss}, {eta} left'
            progress.update(bar, completed=share, state=state)
            if not console.is_terminal:
                console.print(f'{title}: {share:.0%}, {state}')
        progress.update(bar, completed=1, state='done')
    return time.monotonic() - started


def lines_of(root: Path, command: Sequence[str], log: Path) -> Iterator[str]:
    """Run a tool, keep its output in a log, and yield it line by line.

    Args:
        root: the repository, where it runs.
        command: the tool's path below `root`, and its arguments.
        log: file; its folder is made.

    Raises:
        UserError: it failed; the message has its last line and names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    last = ''
    with log.open('w') as file:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with subprocess.Popen([sys.executable, *command], cwd=root, env=environment, **pipes) as process:
            for line in process.stdout:
                file.write(line)
                last = line.strip() or last
                yield line
    if process.returncode:
        raise UserError(f'{" ".join(command[:2])} failed: {last} (all of it: {log})')
