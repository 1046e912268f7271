"""What a person names as input: images, folders, globs and videos, as a list without doubles and without gaps."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...errors import UserError
from ..image_files import IMAGES, files_below

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.gif')
KINDS = 'an image (' + ', '.join(IMAGES) + ') or a video (' + ', '.join(VIDEOS) + ')'


@dataclass(frozen=True)
class Source:
    """An image or a video.

    Args:
        path: as it was given.
        name: what is made from it is called so: a path without its suffix, or with it where that is another's.
        is_video: which of the two.
        frames: of a video: the folder of what is made from its frames, a path with its suffix, for an image or a
            folder of images may be beside it that is called the same without.
    """

    path: Path
    name: str
    is_video: bool
    frames: str = ''


@dataclass(frozen=True)
class Video:
    """What a video says of itself.

    Args:
        frames: how many; of some containers an estimate.
        fps: frames a second.
        width, height: of a frame.
    """

    frames: int
    fps: float
    width: int
    height: int


def find_sources(given: Sequence[str]) -> tuple[list[Source], int]:
    """Find the images and videos that a person has named.

    Args:
        given: files, folders (all images and videos at any depth) and globs (`**` for any depth).

    Returns:
        The sources, each file once, in the order given and by name within a folder or glob; and how many files of
        other kinds, or hidden ones, lie in the folders beside them.

    Raises:
        UserError: there is no such file, it is of another kind, or a folder or glob has nothing in it.
    """
    found, others = [], 0
    for text in given:
        if Path(text).is_dir():
            below = (Path(text, file) for file in files_below(Path(text)))
            files = sorted(path for path in below if path.is_file())
            fitting = [path for path in files if _is_source(path) and not path.name.startswith('.')]
            others += len(files) - len(fitting)
            if not fitting:
                held = f'{len(files)} files of other kinds' if files else 'no file'
                raise UserError(f'folder {text} has no image and no video, but {held}: expected {KINDS}')
        elif Path(text).exists():
            fitting = [Path(text)]
            if not _is_source(fitting[0]):
                raise UserError(f'{text} is neither an image nor a video by its name: expected {KINDS}')
        else:
            fitting = [Path(path) for path in sorted(glob.glob(text, recursive=True)) if _is_source(Path(path))]
            if not fitting:
                what = 'matches no image and no video' if glob.has_magic(text) else 'no such file or folder'
                raise UserError(f'{text}: {what}; expected images, videos, folders or globs of them')
        found += fitting
    once: dict[str, Path] = {}
    for path in found:
        once.setdefault(os.path.abspath(path), path)
    return _named(list(once.values())), others


def _is_source(path: Path) -> bool:
    return path.suffix.lower() in IMAGES + VIDEOS


def _named(paths: Sequence[Path]) -> list[Source]:
    """Name files by their place below the deepest folder that holds all of them."""
    places = [Path(os.path.abspath(path)) for path in paths]
    top = Path(os.path.commonpath([place.parent for place in places]))
    names = [place.relative_to(top) for place in places]
    # taken are a for a.jpg beside a.png, and a.jpg for a.jpg.jpg beside a.jpg
    taken = Counter([*names, *(name.with_suffix('') for name in names)])
    sources = []
    for path, name in zip(paths, names, strict=True):
        short, is_video = name.with_suffix(''), path.suffix.lower() in VIDEOS
        own = short if taken[short] == 1 else name
        sources.append(Source(path, own.as_posix(), is_video, name.as_posix() if is_video else ''))
    return sources


def silence_decoders() -> None:
    """Keep what OpenCV and ffmpeg print about broken files off the terminal: each gets a line of our own."""
    cv2.setLogLevel(0)
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # of ffmpeg: quiet


def look_at(path: Path) -> Video:
    """Open a video and decode its first frame.

    Raises:
        UserError: it cannot be read, or has no frame.
    """
    video = _opened(path)
    there, frame = video.read()
    count, fps = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    video.release()
    if not there:
        raise UserError(f'video {path} has no frame that can be decoded: expected one that a player shows')
    height, width = frame.shape[:2]
    # some streams state neither
    return Video(max(int(count), 1), fps if 0 < fps < 1000 else 25.0, width, height)


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Decode the frames of a video, (H, W, 3), BGR."""
    video = _opened(path)
    try:
        while True:
            there, frame = video.read()
            if not there:
                return
            yield frame
    finally:
        video.release()


def name_for_opencv(path: Path) -> str:
    """The path of a video as OpenCV takes it, which crashes on others.

    Raises:
        UserError: it is no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f'video {path}: its path is no UTF-8, which OpenCV cannot take; rename it') from error
    return str(path)


def _opened(path: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(name_for_opencv(path))
    if not video.isOpened():
        size = path.stat().st_size
        raise UserError(
            f'video {path} cannot be opened ({size} bytes): it is cut short, empty, or of a codec that this '
            'OpenCV does not have'
        )
    return video
