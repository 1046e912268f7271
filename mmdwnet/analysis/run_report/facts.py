"""What a run is, beside what mmengine writes of it: written when it begins, completed when it ends.

The file also tells whether the run goes on: the process that runs holds a lock beside it, which the system gives
back however that process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ...checkpoints.writing import write_atomically

FOLDER = 'run_report'  # below the time-stamped folder of a session
FACTS, EVALUATION, LOCK = 'run.json', 'evaluation.npz', 'running.lock'
# of a config, what is no part of the recipe
NOT_RECIPE = ('work_dir', 'launcher', 'resume', 'load_from')

Difference = tuple[str, str | None, str | None]


def differences(recipe: dict[str, Any], used: dict[str, Any]) -> list[Difference]:
    """What a run does in another way than the recipe it came from.

    Args:
        recipe: a config as it is written.
        used: the same after the options of a command line.

    Returns:
        Dotted key, value in the recipe, value in the run; None where there is no such key.
    """
    before, after = dict(_leaves(recipe)), dict(_leaves(used))
    keys = [key for key in {**before, **after} if key.split('.')[0] not in NOT_RECIPE]
    found = ((key, before.get(key), after.get(key)) for key in keys)
    return [each for each in found if each[1] != each[2]]


def _leaves(node: Any, key: str = '') -> Iterator[tuple[str, str]]:
    """The values of a config by dotted key, as Python writes them; short lists of plain values are values."""
    if isinstance(node, dict):
        inner = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(value, (dict, list, tuple)) for value in node):
        inner = enumerate(node)
    else:
        inner = ()
    if not inner:
        yield key, repr(node)
    for name, value in inner:
        yield from _leaves(value, f'{key}.{name}' if key else str(name))


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a session, whole or not at all.

    Raises:
        UserError: they cannot be written.
    """
    text = json.dumps(facts, indent=1)
    write_atomically(folder / FACTS, lambda partial: partial.write_text(text, encoding='utf-8'))


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a session; {} where there are none, as of a session of another library's tool."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def hold(folder: Path) -> TextIO:
    """Say that this process runs in a folder, until the file that is returned is closed, or the process ends."""
    file = (folder / LOCK).open('w')
    with contextlib.suppress(OSError):  # some file systems have no locks
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process: loader processes do not inherit it
    return file


def is_running(folder: Path) -> bool:
    """Whether another process runs in a folder, as far as the file system can tell."""
    try:
        file = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # what POSIX has for a lock that another process holds
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(file)
    return False
