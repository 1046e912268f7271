"""Which files are called as images are, and what lies below a folder: for what people give to tools as folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return name.lower().endswith(IMAGES)


def files_below(folder: Path) -> Iterator[str]:
    """The files in a folder and below, by their paths below it.

    Links to folders are followed, and each folder is gone through once: a link to one that the folder lies in
    would have no end.

    Raises:
        UserError: a folder cannot be read.
    """
    gone_through = {str(parent) for parent in folder.resolve().parents}
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in gone_through:
            folders.clear()
            continue
        gone_through.add(real)
        folders.sort()  # so that it does not depend on the disk by which of two links a folder is found
        prefix = Path(place).relative_to(folder)
        yield from ((prefix / file).as_posix() for file in files)


def _refuse(error: OSError) -> None:
    raise UserError(f'folder {error.filename} cannot be read: {error.strerror}') from error
