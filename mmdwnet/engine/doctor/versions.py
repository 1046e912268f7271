"""Versions of the libraries: what is here, what works, and what the tests run on."""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ...compat import CORE, LIBRARIES, TASKS, Library, check_library, installed, require
from ...errors import UserError
from ...version import __version__
from .page import Finding, failure

PYTHON = ((3, 10), (3, 12))  # as in tools/setup_env.py
# beside what compat.py bounds: distribution, and what does not work without it
OTHERS = {
    'torchvision': 'mmpretrain, mmdet',
    'numpy': 'all data loading',
    'timm': 'comparisons with its models',
    'safetensors': 'files of that format',
}
NEEDED = ('torchvision', 'numpy')
# by the mmengine that is here, the pins of its distribution; in a checkout, for a wheel does not carry them
TESTED = {'onedl-mmengine': 'requirements/onedl.txt', 'mmengine': 'requirements/openmmlab.txt'}


def python() -> Iterator[Finding]:
    """Python's own version."""
    lowest, highest = ('.'.join(map(str, version)) for version in PYTHON)
    good = PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]
    text = _row(platform.python_version(), f'{lowest} to {highest}')
    cure = '' if good else f'make the environment with Python {lowest} to {highest}'
    yield Finding('ok' if good else 'fails', 'Python', text, cure)


def libraries(task: str | None, all_tasks: bool) -> Iterator[Finding]:
    """Every library that compat.py knows, then those of `OTHERS`.

    Args:
        task: 'cls', 'det' or 'seg', whose library must be there; None if it is not known.
        all_tasks: the library of each task is expected: a missing one is a warning rather than a note.
    """
    tested = tested_versions()
    for module, library in LIBRARIES.items():
        needed = module in CORE or module == TASKS.get(task)
        yield _library(library, tested, 'fails' if needed else 'warning' if all_tasks else 'note')
    for name, purpose in OTHERS.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            status = 'warning' if name in NEEDED else 'note'
            yield Finding(status, name, f'not installed; {purpose} need it', f'pip install {name}')
        else:
            yield Finding('ok', name, _row(version, tested=tested.get(name)))


def package(error: str | None) -> Iterator[Finding]:
    """mmdwnet itself.

    Args:
        error: why it cannot be imported, None if it can.
    """
    if error is None:
        yield Finding('ok', 'mmdwnet', __version__)
    else:
        yield Finding('fails', 'mmdwnet', f'{__version__} cannot be used here: {error}')


def tested_versions() -> dict[str, str]:
    """The versions that the tests run on, by distribution; {} where the list is not there."""
    here = installed(LIBRARIES['mmengine'])
    file = Path(__file__).resolve().parents[3] / TESTED[here[0][0].name if here else 'onedl-mmengine']
    if not file.is_file():
        return {}
    return dict(re.findall(r'^([\w.-]+)==([^\s;]+)', file.read_text(encoding='utf-8'), re.MULTILINE))


def _library(library: Library, tested: dict[str, str], otherwise: str) -> Finding:
    """The row of a library; one that does not work has the status `otherwise`."""
    name, found = library.module, installed(library)
    try:
        check_library(name)
        for task in (task for task, module in TASKS.items() if module == name and task != 'det'):
            require(task)  # mmcv's bound, ftfy; of detection the compiled ops are looked at elsewhere
    except (ImportError, UserError) as error:  # of compat.py: 'mmdwnet needs X, but ...: run ...'
        text, _, cure = ' '.join(str(error).split()).partition(': ')
        return Finding(otherwise, name, text.removeprefix(f'mmdwnet needs {name}, but '), cure)
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a library raises that does not fit the others
        problem = failure(name, error).text
        return Finding(
            otherwise, name, f'cannot be imported: {problem}', 'install it anew: make setup in a checkout'
        )
    if not found:
        return Finding('ok', name, 'a source tree on the path')
    build, version = found[0]
    return Finding(
        'ok', name, _row(f'{build.name} {version}', str(build)[len(build.name) :], tested.get(build.name))
    )


def _row(here: str, accepted: str = '', tested: str | None = None) -> str:
    note = '' if not tested else 'as tested' if here.split()[-1].split('+')[0] == tested else f'tested: {tested}'
    return f'{here:<26} {accepted:<15} {note}'.rstrip()
