"""The whole way in one go: make the mini dataset, train and test a nano DWNet on three tasks, show what came out.

Each training and test is the command line that a person would type, run as a process of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from .tool_runs import lines_of, make_mini_dataset, train_with_progress


@dataclass(frozen=True)
class Task:
    """One task of the demo.

    Args:
        title: what the table calls it.
        config: its config under configs/mini/, without suffix.
        metrics: key in the tool's metrics, the name to print, and what is expected at least, in the key's unit.
    """

    title: str
    config: str
    metrics: tuple[tuple[str, str, float], ...]


TASKS = (
    Task('classification', 'dwnet-nano_cls_mini', (('accuracy/top1', 'top-1 (%)', 95.0),)),
    Task(
        'instance segmentation',
        'dwnet-nano_mask-rcnn_mini',
        (('coco/bbox_mAP', 'box AP', 0.40), ('coco/segm_mAP', 'mask AP', 0.40)),
    ),
    Task('semantic segmentation', 'dwnet-nano_upernet_mini', (('mIoU', 'mIoU (%)', 70.0),)),
)


def run_demo(root: Path, work_dir: Path, console: Console) -> bool:
    """Run the demo and print its table.

    Args:
        root: the repository: `tools/`, `configs/`, and `data/`, where the dataset goes.
        work_dir: where logs, checkpoints and pictures go, one folder per task.
        console: where progress and the table go.

    Returns:
        Whether every metric reached what is expected.

    Raises:
        UserError: a training or test failed; the message names its log.
    """
    make_mini_dataset(root, console)
    table = Table('task', 'metric', 'reached', 'expected', 'training')
    pictures = []
    reached_all = True
    started = time.monotonic()
    for task in TASKS:
        folder = work_dir / task.config
        seconds = _train(root, task, folder, console)
        metrics = _test(root, task, folder, console)
        pictures.append(contact_sheet(folder / 'pictures', work_dir / f'{task.config}.png'))
        for key, name, expected in task.metrics:
            reached_all &= metrics[key] >= expected
            mark = '' if metrics[key] >= expected else '  too low'
            minutes = f'{seconds / 60:.1f} min'
            table.add_row(task.title, name, f'{metrics[key]:.4g}{mark}', f'>= {expected:g}', minutes)
    console.print(table)
    console.print('pictures, the ground truth and beside it the prediction:')
    for picture in pictures:
        console.print(f'  {picture}', soft_wrap=True)  # a path that is cut is of no use
    console.print(
        f'{(time.monotonic() - started) / 60:.1f} minutes in all; logs and checkpoints are in {work_dir}',
        soft_wrap=True,
    )
    return reached_all


def contact_sheet(folder: Path, out: Path, columns: int = 4, rows: int = 4) -> Path:
    """Put the first pictures found under a folder side by side into one PNG.

    Raises:
        UserError: there is no picture.
    """
    files = sorted(file for file in folder.rglob('*') if file.suffix in ('.png', '.jpg'))[: columns * rows]
    if not files:
        raise UserError(f'no picture in {folder}: expected those that tools/test.py --show-dir draws')
    pictures = [Image.open(file).convert('RGB') for file in files]
    width, height = (max(picture.size[i] for picture in pictures) + 4 for i in (0, 1))
    sheet = Image.new('RGB', (columns * width, -(-len(pictures) // columns) * height), 'white')
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    sheet.save(out)
    return out


def _train(root: Path, task: Task, folder: Path, console: Console) -> float:
    """Train one task; return the seconds it took."""
    config = f'configs/mini/{task.config}.py'
    epochs = Config.fromfile(root / config).train_cfg.get('max_epochs', 1)
    arguments = [config, '--work-dir', str(folder)]
    return train_with_progress(root, arguments, epochs, folder / 'train.log', f'train {task.title}', console)


def _test(root: Path, task: Task, folder: Path, console: Console) -> dict[str, float]:
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    out = folder / 'metrics.json'
    command = ['tools/test.py', f'configs/mini/{task.config}.py', str(checkpoint), '--work-dir', str(folder)]
    command += ['--show-dir', str(folder / 'pictures'), '--out', str(out), '--out-item', 'metrics']
    with console.status(f'test {task.title}'):
        for _ in lines_of(root, command, folder / 'test.log'):
            pass
    return json.loads(out.read_text())
