"""The work directory of a fine-tuning: what is written there before the training, and what a second start finds.

WORK_DIR/config/<name>.py   the config, and beside it the lists of the images of its splits
WORK_DIR/                   what tools/train.py and tools/test.py leave: checkpoints, logs, report.html
WORK_DIR/metrics.json       of the best checkpoint; it is written last, so a run that has it is finished
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ...checkpoints.writing import write_atomically
from ...errors import UserError, listed
from .choosing import Choices
from .own_data import OwnData
from .splitting import write_lists
from .writing import CLASSES_FILE, classes_text, config_text

METRICS = 'metrics.json'
TRAINING_LOG = 'train.log'
UNFIT = "'\\"  # would end or change the text around the folder of the config, see writing.HERE
AS_WRITTEN = '.as_written'  # beside the config: its hash, which tells whether it was edited


def default_work_dir(folder: str) -> Path:
    """Where a fine-tuning goes that is told nothing else."""
    return Path('work_dirs', f'finetune_{_plain(Path(folder).expanduser().resolve().name)}')


def check_work_dir(folder: Path) -> None:
    """Refuse a folder with a finished run, with something else, or of a name that no config can hold.

    Raises:
        UserError: it is one of these.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--work-dir {folder} is a file: expected a folder')
    if (folder / METRICS).is_file():
        raise UserError(f'{folder} has a finished run: give another --work-dir, or move it away to train anew')
    if any(character in str(folder) for character in UNFIT):
        raise UserError(
            f"--work-dir {folder} has a ' or \\ in its path, which mmengine cannot put into a config: give another"
        )
    others = folder.is_dir() and any(entry.name != 'config' for entry in folder.iterdir())  # it is made first
    if others and existing_config(folder) is None:
        raise UserError(f'{folder} has files that are not of a fine-tuning: give another --work-dir')


def existing_config(folder: Path) -> Path | None:
    """The config that an earlier start has written.

    Raises:
        UserError: there are several.
    """
    found = sorted((folder / 'config').glob('*.py'))
    if len(found) > 1:
        names = listed([file.name for file in found])
        raise UserError(f'{folder / "config"} has several configs, {names}: leave one, or give another --work-dir')
    return found[0] if found else None


def place_config(folder: Path, data: OwnData, choices: Choices, asked: bool) -> tuple[Path, bool]:
    """Write the config and what belongs to it, or take the one that is there.

    Args:
        folder: the work directory.
        data: with a val split.
        choices: for it.
        asked: whether the command line has options that shape a config.

    Returns:
        The config, and whether it was there and says something else than this would write.

    Raises:
        UserError: the one that is there says something else, and options asked for another.
    """
    text, existing = config_text(data, choices), existing_config(folder)
    if existing is not None:
        found = existing.read_text(encoding='utf-8')
        begun, edited = (folder / TRAINING_LOG).exists(), _hash(found) != _hash_as_written(existing)
        if found != text and asked and (begun or edited):
            raise UserError(
                f'{existing} is edited, or of other options or data: give another --work-dir, or leave the '
                'options out to use it as it stands'
            )
        if found == text or begun or edited:
            if not begun:
                write_lists(data, existing.parent)  # images may have been added or taken away
            return existing, found != text
        existing.unlink()  # nobody has touched or used it
    target = folder / 'config'
    target.mkdir(parents=True, exist_ok=True)
    write_lists(data, target)
    config = target / f'{choices.model}_{data.task}_{_plain(data.root.name)}.py'
    for file, content in (
        (target / CLASSES_FILE, classes_text(data)),
        (target / AS_WRITTEN, _hash(text)),
        (config, text),  # last, for it says that all is there
    ):
        if content is not None:
            write_atomically(file, lambda partial, content=content: partial.write_text(content, encoding='utf-8'))
    return config, False


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_as_written(config: Path) -> str | None:
    file = config.parent / AS_WRITTEN
    return file.read_text(encoding='utf-8') if file.is_file() else None


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint that validated best; the last one where none did better than nothing.

    Raises:
        UserError: there is none.
    """
    found = sorted(folder.glob('best_*.pth'), key=lambda file: file.stat().st_mtime_ns)
    if found:
        return found[-1]
    last = folder / 'last_checkpoint'
    if not last.is_file():
        raise UserError(f'{folder} has no checkpoint: expected one of the training; see {folder / TRAINING_LOG}')
    return Path(last.read_text().strip())


def _plain(name: str) -> str:
    return re.sub(r'[^\w.-]+', '-', name).strip('-.') or 'data'
