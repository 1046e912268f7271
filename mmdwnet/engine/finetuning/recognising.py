"""Look at a folder and say which of the layouts it has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...errors import UserError, listed
from . import class_folders, coco_json, label_maps
from .own_data import OwnData, Progress, counted, folders_of

LAYOUTS = {'cls': class_folders, 'det': coco_json, 'seg': label_maps}
TASKS = {'cls': 'classify images', 'det': 'detect objects', 'seg': 'segment images'}
LOOKED_AT = 20_000  # files, to say what a folder has


def recognise(
    folder: str | Path, task: str | None = None, progress: Progress = lambda done, total: None
) -> OwnData:
    """Recognise the layout of a folder of data, and read what its annotations say.

    Args:
        folder: of one's own data.
        task: 'cls', 'det' or 'seg', if several are possible.
        progress: is called with how many files are read of how many.

    Raises:
        UserError: no layout fits, or several do, or the data contradict themselves; one line.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f'{folder} is no folder: expected one with {_expected(task)}')
    alike = [name for name, layout in LAYOUTS.items() if task in (None, name) and layout.looks_alike(root)]
    if not alike:
        raise UserError(f'{root} has {_contents(root)}: expected {_expected(task)}')
    if 'det' in alike and len(alike) > 1:  # some other JSON lies there, or the one folder is that of its images
        if not coco_json.has_instances(root):
            alike.remove('det')
        elif 'cls' in alike and not class_folders.has_several(root):
            alike.remove('cls')
    if len(alike) > 1:
        choices = ', '.join(f'--task {name} to {TASKS[name]}' for name in alike)
        raise UserError(f'{root} can be read in several ways: say {choices}')
    (name,) = alike
    if name == 'seg':
        return label_maps.read(root, progress)
    return LAYOUTS[name].read(root)


def _expected(task: str | None) -> str:
    return '; or '.join(layout.EXPECTED for name, layout in LAYOUTS.items() if task in (None, name))


def _contents(root: Path) -> str:
    """What a folder has, in a few words: its folders, and the types of the files in each."""
    parts = [text for text in [_types(root, deep=False)] if text]
    parts += [f'{folder.name}/ ({_types(folder) or "empty"})' for folder in folders_of(root)]
    return listed(parts, most=6, length=80) if parts else 'nothing in it'


def _types(folder: Path, deep: bool = True) -> str:
    files = folder.rglob('*') if deep else folder.iterdir()
    seen = (path.suffix or path.name for path, _ in zip(files, range(LOOKED_AT), strict=False) if path.is_file())
    return ', '.join(counted(number, f'{suffix} file') for suffix, number in Counter(seen).most_common(3))
