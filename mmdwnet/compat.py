"""Which builds of torch and of the OpenMMLab libraries the package runs on, and the checks.

Two distributions provide each OpenMMLab library under the same import name: the maintained one
(``onedl-mmcv`` and so on) and the original one (``mmcv``). Both work, one at a time. The bounds of
the original ones come from what mmpretrain 1.2.0, mmdet 3.3.0 and mmsegmentation 1.2.2 assert
when they are imported. Of the maintained ones, the versions in requirements/onedl.txt are what the tests
ran on.

Only installed metadata is read here (``importlib.metadata``); nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mmdwnet.errors import UserError


@dataclass(frozen=True)
class Build:
    """One distribution that provides a library: its name and the versions that work.

    Args:
        name: Name of the distribution, as pip knows it.
        lower: The lowest version that works.
        upper: The first version that does not, or None for no limit.
        mmcv_upper: The first mmcv version that this build refuses when it is imported, or None.
    """

    name: str
    lower: str
    upper: str | None = None
    mmcv_upper: str | None = None

    def accepts(self, version: str) -> bool:
        """Whether ``version`` lies in the range."""
        return _key(version) >= _key(self.lower) and (self.upper is None or _key(version) < _key(self.upper))

    def __str__(self) -> str:
        return f'{self.name}>={self.lower}' + (f',<{self.upper}' if self.upper else '')


@dataclass(frozen=True)
class Library:
    """One import name, the builds that provide it, and the extra that installs the first.

    Args:
        module: The import name.
        builds: The maintained build first, then the original ones.
        extra: The extra of mmdwnet that names the maintained build.
    """

    module: str
    builds: tuple[Build, ...]
    extra: str


LIBRARIES = {
    library.module: library
    for library in (
        Library('torch', (Build('torch', '2.1'),), 'all'),
        Library(
            'mmengine',
            (Build('onedl-mmengine', '0.10.12', '1.0'), Build('mmengine', '0.10.3', '1.0')),
            'all',
        ),
        Library(
            'mmcv',
            (
                Build('onedl-mmcv', '2.3.2', '2.4'),
                Build('mmcv', '2.0', '2.3'),
                Build('mmcv-lite', '2.0', '2.3'),
            ),
            'all',
        ),
        Library(
            'mmpretrain',
            (Build('onedl-mmpretrain', '1.3.2', '2.0'), Build('mmpretrain', '1.0', '1.3')),
            'cls',
        ),
        Library(
            'mmdet',
            (
                Build('onedl-mmdetection', '3.5', '4.0'),
                Build('mmdet', '3.0', '3.4', mmcv_upper='2.2'),
            ),
            'det',
        ),
        Library(
            'mmseg',
            (
                Build('onedl-mmsegmentation', '1.4', '2.0'),
                Build('mmsegmentation', '1.0', '1.3', mmcv_upper='2.2'),
            ),
            'seg',
        ),
    )
}
CORE = ('torch', 'mmengine', 'mmcv')
TASKS = {'cls': 'mmpretrain', 'det': 'mmdet', 'seg': 'mmseg'}


def check_core() -> None:
    """Check torch, mmengine and mmcv; called when mmdwnet is imported.

    Raises:
        ImportError: One of them is missing, out of range, or installed twice. One line that names
            what is installed, both choices, and the command.
    """
    for name in CORE:
        check_library(name)


def check_library(module: str) -> None:
    """Check that one library is installed, once, in a version that works.

    Args:
        module: Import name, a key of ``LIBRARIES``.

    Raises:
        ImportError: It is not. One line that names what is installed, both choices, and the command.
    """
    check_both_installed((module,))
    _check_range(LIBRARIES[module])


def check_both_installed(modules: Iterable[str] = tuple(LIBRARIES)) -> None:
    """Check that no two distributions of one import name lie over each other.

    Args:
        modules: Import names, keys of ``LIBRARIES``.

    Raises:
        ImportError: Two are installed: each has overwritten files of the other.
    """
    for name in modules:
        library = LIBRARIES[name]
        found = installed(library)
        if len(found) > 1:
            names = ' and '.join(f'{build.name} {version}' for build, version in found)
            remove = ' '.join(build.name for build, _ in found)
            raise ImportError(
                f"{names} are installed over each other, both as '{name}': expected one of them; "
                f'run `pip uninstall -y {remove}`, then {_choices(library)}'
            )


def require(task: str) -> None:
    """Check what one task needs beyond the core; called by the tools before they import it.

    Args:
        task: 'cls', 'det' or 'seg'.

    Raises:
        UserError: A library is missing, out of range or installed twice, or mmcv has no compiled
            ops and the task needs them. One line with the command that helps.
        ValueError: ``task`` is none of the three.
    """
    if task not in TASKS:
        raise ValueError(f'unknown task {task!r}: expected one of {", ".join(TASKS)}')
    library = LIBRARIES[TASKS[task]]
    try:
        check_library(library.module)
    except ImportError as error:
        raise UserError(str(error)) from error
    _check_mmcv_for(library)
    if task == 'seg':
        for module in ('ftfy', 'regex'):  # imported by mmseg, and not named by all its builds
            if find_spec(module) is None:
                raise UserError(
                    f'mmseg needs {module}, which is not installed: run `pip install {module}`, or '
                    '`pip install "mmdwnet[seg]"`'
                )
    if task in tasks_with_ops() and not has_ops():
        raise UserError(missing_ops_message(task))


def installed(library: Library) -> list[tuple[Build, str]]:
    """The builds of a library that are installed, with their versions."""
    found = []
    for build in library.builds:
        try:
            found.append((build, metadata.version(build.name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def has_ops() -> bool:
    """Whether the installed mmcv holds its compiled extension (``mmcv/_ext*``)."""
    spec = find_spec('mmcv')  # a top-level name: finds the folder, imports nothing
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    return any(path.suffix in ('.so', '.pyd') for path in folder.glob('_ext*'))


def tasks_with_ops() -> tuple[str, ...]:
    """The tasks that use compiled ops: the original mmsegmentation imports them, the maintained build does not."""
    original = any(build.name == 'mmsegmentation' for build, _ in installed(LIBRARIES['mmseg']))
    return ('det', 'seg') if original else ('det',)


def missing_ops_message(task: str = 'det') -> str:
    """One line for an mmcv without compiled ops: the cause and the cure.

    Args:
        task: the one that they are needed for, 'det' or 'seg'.
    """
    needy = dict(det='detection', seg='the original mmsegmentation')[task]
    found = installed(LIBRARIES['mmcv'])
    name = found[0][0].name if found else LIBRARIES['mmcv'].builds[0].name
    package = 'mmcv' if name == 'mmcv-lite' else name
    return (
        f'{name} is installed without its compiled ops (mmcv.ops), which {needy} needs: pip '
        'builds mmcv in isolation, where torch is not seen, gets a wheel without any op within '
        'seconds, and caches it; in a checkout run `make setup`, elsewhere `pip uninstall -y '
        f"{name}; pip cache remove '{package.replace('-', '_')}*'; "
        'pip install setuptools==80.9.0 wheel ninja psutil packaging; '
        f'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir {package}`'
    )


def _check_range(library: Library) -> None:
    """Raise ImportError unless exactly what is installed of ``library`` is in its range."""
    found = installed(library)
    if found:
        build, version = found[0]
        if build.accepts(version):
            return
        state = f'{build.name} {version} is installed'
    else:
        version = _source_version(library.module)
        if version and any(build.accepts(version) for build in library.builds):
            return  # a source tree on PYTHONPATH
        state = f'{library.module} {version} is on the path' if version else 'it is not installed'
    raise ImportError(f'mmdwnet needs {library.module}, but {state}: {_choices(library)}')


def _check_mmcv_for(library: Library) -> None:
    """Raise UserError when the installed build of ``library`` refuses the installed mmcv."""
    mmcv = installed(LIBRARIES['mmcv'])
    for build, version in installed(library):
        upper = build.mmcv_upper
        if upper and mmcv and _key(mmcv[0][1]) >= _key(upper):
            raise UserError(
                f'{build.name} {version} does not accept {mmcv[0][0].name} {mmcv[0][1]}: expected '
                f'mmcv>=2.0,<{upper} with it, or `pip install "mmdwnet[{library.extra}]"` in an '
                'environment of its own for the maintained builds'
            )


def _choices(library: Library) -> str:
    """Both ways to install a library, in words."""
    maintained, *original = library.builds
    if not original:
        return f"run `pip install '{maintained}'`"
    return (
        f'run `pip install "mmdwnet[{library.extra}]"` for the maintained builds ({maintained}), '
        f"or `pip install '{original[0]}'` for the original ones, not both"
    )


def _source_version(module: str) -> str | None:
    """The ``__version__`` written in ``<module>/version.py``, where no metadata is installed."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name('version.py')
    if not path.is_file():
        return None
    match = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", path.read_text(), re.MULTILINE)
    return match[1] if match else None


def _key(version: str) -> tuple[tuple[int, ...], bool]:
    """A version as something that sorts: its numbers, then whether it is a final release."""
    match = re.match(r'\d+(?:\.\d+)*', version)
    numbers = [int(part) for part in match[0].split('.')] if match else []
    while numbers and numbers[-1] == 0:  # 2.0 and 2.0.0 are the same release
        numbers.pop()
    rest = version[match.end() :] if match else version
    return tuple(numbers), re.match(r'\.?(a|b|rc|dev)', rest) is None
