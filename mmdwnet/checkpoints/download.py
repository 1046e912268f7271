"""Fetch a checkpoint by URL, into the cache that torch.hub and mmengine use."""

from __future__ import annotations

import fcntl
import http.client
import sys
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ..errors import UserError


def download(url: str) -> Path:
    """Return the local copy of a file, downloaded unless it is in the cache already.

    Of the processes of a run on one machine, one downloads and the others wait for it.

    Raises:
        UserError: the server does not answer or does not have it, or the cache cannot be written.
    """
    name = Path(urlsplit(url).path).name
    if not name:
        raise UserError(f'{url} names no file: expected the URL of a checkpoint, such as .../name.pth')
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'{url} cannot be downloaded into {path.parent} ({reason}): check the URL and the network'
        ) from error
    return path
