"""A folder of predictions: results.json, pictures, label maps and annotated videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...version import __version__
from .inputs import Source, Video
from .pictures import Drawer, VideoFile, write_picture
from .predictor import Item
from .results import ResultsFile, class_shares, classified, detected, in_words, label_map

RESULTS, PICTURES, LABEL_MAPS = 'results.json', 'pictures', 'label_maps'


def check_folder(out: str, force: bool) -> Path:
    """Make the folder that results go to.

    Raises:
        UserError: it is a file, cannot be made, or holds results of an earlier run.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {out} is a file: expected a folder, which is made if it is not there')
    if (folder / RESULTS).exists() and not force:
        raise UserError(f'{folder / RESULTS} is there already: choose another --out, or --force to overwrite it')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f'.{RESULTS}.probe'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f'--out {out} cannot be written to: {error.strerror}') from error
    return folder


class Output:
    """Turns predictions into files, in the order in which they come.

    Args:
        folder: where they go.
        task: 'cls', 'det' or 'seg'.
        names: of the classes.
        drawer: of pictures; None to draw none.
        videos: what is known of those among the sources.
        threshold: of what is said of detections; the results have all of them.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        names: list[str],
        drawer: Drawer | None,
        videos: dict[Source, Video],
        threshold: float,
    ):
        self.folder, self.task, self.videos, self.threshold = folder, task, videos, threshold
        self.names = names
        lists = ('videos', 'images', *(['annotations'] if task == 'det' else []), 'failed')
        self.results = ResultsFile(folder / RESULTS, lists)
        self.drawer = drawer
        self._film: tuple[Source, int, VideoFile | None] | None = None

    def add(self, item: Item, pixels: np.ndarray, sample: Any) -> str:
        """Write what an item was predicted as; return it in words."""
        entry = dict(
            id=self.results.counts['images'] + 1,
            file_name=str(item.source.path),
            width=pixels.shape[1],
            height=pixels.shape[0],
        )
        name = item.source.name
        if item.frame is not None:
            self._begin(item.source)
            entry.update(video_id=self._film[1], frame=item.frame)
            entry['seconds'] = round(item.frame / self.videos[item.source].fps, 3)
            name = f'{item.source.frames}/{item.frame:06d}'
        annotations: list[dict] = []
        if self.task == 'cls':
            entry.update(classified(sample, self.names))
        elif self.task == 'det':
            annotations = detected(sample, self.names)
            for annotation in annotations:
                number = self.results.counts['annotations'] + 1
                self.results.add('annotations', dict(id=number, image_id=entry['id'], **annotation))
        else:
            labels = label_map(sample)
            entry['label_map'] = self._write(f'{LABEL_MAPS}/{name}.png', labels)
            entry['shares'] = class_shares(labels, self.names)
        if self.drawer:
            drawn = self.drawer.draw(pixels, sample)
            if item.frame is None:
                suffix = '.jpg' if item.source.path.suffix.lower() in ('.jpg', '.jpeg') else '.png'
                entry['picture'] = self._write(f'{PICTURES}/{name}{suffix}', drawn)
            else:
                self._film[2].add(drawn)
        self.results.add('images', entry)
        return in_words(self.task, entry, annotations, self.threshold)

    def fail(self, path: Path, reason: str) -> None:
        """Note what could not be predicted."""
        self.results.add('failed', dict(file_name=str(path), reason=reason))

    def finish(self, header: dict[str, Any], complete: bool) -> Path:
        """Write the results; return their path.

        Args:
            header: what they are of.
            complete: whether all there was has been predicted or named as failed.
        """
        self._end()
        of_task = dict(task=self.task, classes=self.names)
        if self.task == 'det':
            of_task['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(self.names)]
        self.results.write({**header, **of_task, 'mmdwnet': __version__, 'complete': complete})
        return self.results.path

    def close(self) -> None:
        """Let go of what is open."""
        self._end()
        self.results.close()

    def _write(self, place: str, image: np.ndarray) -> str:
        path = self.folder / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'{path.parent} cannot be made: {error.strerror}') from error
        write_picture(path, image)
        return place

    def _begin(self, source: Source) -> None:
        """Begin a video, unless it has begun; frames come one video after the other."""
        if self._film is not None and self._film[0] == source:
            return
        self._end()
        video, place = self.videos[source], f'{PICTURES}/{source.name}.mp4'
        number = self.results.counts['videos'] + 1
        entry = dict(id=number, file_name=str(source.path), fps=round(video.fps, 3))
        film = None
        if self.drawer:
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            film = VideoFile(path, video.fps)
            entry['picture'] = place
        self.results.add('videos', dict(entry, width=video.width, height=video.height))
        self._film = source, number, film

    def _end(self) -> None:
        if self._film is not None and self._film[2] is not None:
            self._film[2].close()
        self._film = None


def plural(count: int, what: str) -> str:
    """A count of things in words."""
    return f'{count} {what}{"s" * (count != 1)}'


def in_a_line(sources: Sequence[Source], frames: int) -> str:
    """What is going to be predicted, or was."""
    images = sum(not source.is_video for source in sources)
    videos = len(sources) - images
    parts = [plural(images, 'image')] * bool(images)
    parts += [f'{plural(frames, "frame")} of {plural(videos, "video")}'] * bool(videos)
    return ' and '.join(parts)
