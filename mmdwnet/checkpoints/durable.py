"""Checkpoints that are never half: written beside, flushed, renamed, with a checksum; and the newest whole one.

`FILE.pth.sha256` is what `sha256sum -c` reads. The checkpoint itself is a stock one.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path

from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend

from ..errors import UserError
from .writing import write_atomically

BACKEND = 'mmdwnet-durable'
# checkpoints of a run that hold all of its state; of the same run, the one written last is the furthest
RUN_CHECKPOINT = re.compile(r'(epoch|iter|last_good_iter|preempted_iter|stopped_iter)_\d+\.pth')
CHUNK = 1 << 24


@register_backend(BACKEND)
class DurableBackend(LocalBackend):
    """mmengine's file backend for local files, for checkpoints: `backend_args=dict(backend='mmdwnet-durable')`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file whole or not at all, and its checksum.

        Raises:
            UserError: it cannot be written; what was there before is still there.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        checksum = checksum_file(path)
        write_atomically(path, lambda partial: _write(partial, obj), lambda: checksum.unlink(missing_ok=True))
        line = f'{hashlib.sha256(obj).hexdigest()}  {path.name}\n'
        write_atomically(checksum, lambda partial: _write(partial, line.encode()))

    def remove(self, filepath: str | Path) -> None:
        """Remove a file and its checksum."""
        super().remove(filepath)
        checksum_file(Path(filepath)).unlink(missing_ok=True)


def checksum_file(path: Path) -> Path:
    """Where the checksum of a file stands."""
    return path.with_name(f'{path.name}.sha256')


def _write(path: Path, data: bytes) -> None:
    with path.open('wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fault(path: Path) -> str | None:
    """Why a checkpoint file is not whole, in a few words; None if it is."""
    try:
        expected = checksum_file(path)
        if expected.is_file():
            wanted = expected.read_text(encoding='ascii').split()[:1]
            return None if wanted == [_digest(path)] else f'its checksum is not that in {expected.name}'
        with zipfile.ZipFile(path) as archive:  # written by another tool, or cut off before its checksum
            broken = archive.testzip()
        return f'its part {broken} is damaged' if broken else None
    except zipfile.BadZipFile:
        return 'it is cut off or no checkpoint'
    except (OSError, ValueError) as error:
        return f'it cannot be read ({error})'


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def newest_whole(folder: str | Path) -> tuple[Path | None, list[str]]:
    """Find the checkpoint that a run in a folder goes on from.

    Returns:
        The newest whole checkpoint, or None; and a line for each newer one that is not whole.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    found = [path for path in Path(folder).glob('*.pth') if RUN_CHECKPOINT.fullmatch(path.name)]
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    skipped = []
    for path in found:
        reason = fault(path)
        if reason is None:
            return path, skipped
        skipped.append(f'{path.name} is skipped: {reason}')
    if skipped:
        raise UserError(
            f'--resume: no checkpoint in {folder} is whole ({"; ".join(skipped)}): restore one, or remove them to '
            'start anew'
        )
    return None, skipped


def remove_partial_files(folder: str | Path) -> None:
    """Remove what a killed process had not finished writing; only while no other one writes there."""
    for path in Path(folder).glob('.*.partial'):
        path.unlink(missing_ok=True)
