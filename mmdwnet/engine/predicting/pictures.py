"""Pictures and annotated videos, drawn by the stock visualizers of the three libraries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ...checkpoints.writing import write_atomically
from ...errors import UserError
from .inputs import name_for_opencv

ROOM = 320  # short side that the words of a classified image need at least
OPACITY = 0.6  # of the colours of a label map over its image


class Drawer:
    """Draws predictions of one task.

    Args:
        task: 'cls', 'det' or 'seg'.
        dataset_meta: of the model: `classes`, and `palette` if there is one.
        names: of the classes.
        threshold: boxes of a lower score are not drawn.
    """

    def __init__(self, task: str, dataset_meta: dict[str, Any], names: list[str], threshold: float):
        self.task, self.names, self.threshold = task, names, threshold
        palette = dataset_meta.get('palette')
        if task == 'cls':
            from mmpretrain.visualization import UniversalVisualizer

            self.visualizer = UniversalVisualizer()
        elif task == 'det':
            from mmdet.visualization import DetLocalVisualizer

            self.visualizer = DetLocalVisualizer()
            self.visualizer.dataset_meta = dict(classes=names, palette=palette or 'random')
        else:
            from mmseg.visualization import SegLocalVisualizer

            self.visualizer = SegLocalVisualizer(alpha=OPACITY)
            palette = palette or np.random.RandomState(0).randint(0, 255, (len(names), 3)).tolist()
            self.visualizer.dataset_meta = dict(classes=names, palette=palette)

    def draw(self, image: np.ndarray, sample: Any) -> np.ndarray:
        """Draw a prediction over its image, both (H, W, 3), BGR; a classified one is enlarged if it is small."""
        rgb = np.ascontiguousarray(image[..., ::-1].clip(0, 255).astype(np.uint8))
        sample = sample.cpu()
        if self.task == 'cls':
            short = min(rgb.shape[:2])
            drawn = self.visualizer.visualize_cls(
                rgb, sample, self.names, draw_gt=False, resize=ROOM if short < ROOM else None
            )
        elif self.task == 'det':
            self.visualizer.add_datasample('', rgb, sample, draw_gt=False, pred_score_thr=self.threshold)
            drawn = self.visualizer.get_image()
        else:
            self.visualizer.add_datasample('', rgb, sample, draw_gt=False)
            drawn = self.visualizer.get_image()
        return drawn[..., ::-1]


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, BGR or grey, whole or not at all; its suffix, .jpg or .png, says the format.

    Raises:
        UserError: it cannot be written.
    """
    picture = Image.fromarray(image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
    options = dict(format='JPEG', quality=90) if path.suffix == '.jpg' else dict(format='PNG')
    write_atomically(path, lambda file: picture.save(file, **options))


class VideoFile:
    """An annotated video, .mp4, which has its name when it is complete.

    Args:
        path: the file.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self._partial = path.with_name(f'.{path.stem}.{os.getpid()}.partial.mp4')  # the suffix says the format
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, BGR; all have the size of the first; an odd side grows by a pixel.

        Raises:
            UserError: the file cannot be written.
        """
        # the encoder would cut a column or row off an odd size
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            size = (frame.shape[1], frame.shape[0])
            name = name_for_opencv(self._partial)
            self._writer = cv2.VideoWriter(name, cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
            if not self._writer.isOpened():
                raise UserError(f'{self.path} cannot be written: this OpenCV has no encoder for .mp4, or the disk')
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            os.replace(self._partial, self.path)
            self._writer = None
