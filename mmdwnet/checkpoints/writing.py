"""Write a file that is there complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError


def check_target(
    target: str | Path, suffixes: str | tuple[str, ...], sources: tuple[str, ...] = (), force: bool = False
) -> Path:
    """Check that a file can be written before the work for it is done, and return its path.

    Args:
        target: the file.
        suffixes: what its name must end in, one of them.
        sources: files that it is made from, which it must not overwrite.
        force: it may be there already.

    Raises:
        UserError: it cannot be written, or must not be; one line.
    """
    path = Path(target)
    suffixes = (suffixes,) if isinstance(suffixes, str) else suffixes
    if path.suffix not in suffixes:
        raise UserError(f'{target}: expected a name that ends in {" or ".join(suffixes)}')
    if not path.parent.is_dir():
        raise UserError(f'{target}: there is no folder {path.parent}; make it first')
    if path.resolve() in [Path(source).expanduser().resolve() for source in sources]:
        raise UserError(f'{target} is what it would be made from: expected the name of another file')
    if path.is_dir():
        raise UserError(f'{target} is a folder: expected the name of a file')
    if path.exists() and not force:
        raise UserError(f'{target} is there already: choose another name, or --force to overwrite it')
    return path


def write_atomically(
    path: Path, save: Callable[[Path], None], before_rename: Callable[[], object] = lambda: None
) -> None:
    """Have `save` write a file beside `path`, and rename it when it is complete.

    Args:
        path: the file.
        save: writes the file that it is given.
        before_rename: called when that file is complete.

    Raises:
        UserError: it cannot be written.
    """
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        save(partial)
        before_rename()
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
        raise UserError(f'{path} cannot be written: {" ".join(str(error).split())}') from error
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, as below a file
            partial.unlink(missing_ok=True)
