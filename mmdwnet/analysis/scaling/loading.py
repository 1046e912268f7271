"""How many images a second one core loads and augments for training, against what a GPU takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image

SIDES = (500, 375)  # width and height: ImageNet's most common
QUALITY = 88  # files of about 110 kB, the mean of ImageNet (138 GB in 1.28 M files)


def loading_rate(cfg: Config, images: Sequence[Path], seconds: float = 5.0) -> float:
    """Measure the training pipeline of a classifier's config, one image after the other, on one core.

    The time is the processor's, so that other programs on the machine change little.

    Args:
        cfg: its pipeline starts with reading a file.
        images: files, taken in turn.
        seconds: to measure for, at least; every image is loaded twice at least.

    Returns:
        Images per second: what one worker process of the data loader can make.
    """
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    with _one_thread():
        count, start = -len(images), 0.0  # the first time round is not measured
        for path in itertools.cycle(images):
            if count == 0:
                start = time.process_time()
            elif count >= len(images) and time.process_time() - start >= seconds:
                break
            pipeline(dict(img_path=str(path), gt_label=0))
            count += 1
        return count / (time.process_time() - start)


def make_images(folder: Path, count: int = 16) -> list[Path]:
    """Write JPEG files of ImageNet's usual size and length, with the spectrum of photographs; return them."""
    generator = np.random.default_rng(0)
    width, height = SIDES
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    paths = []
    for number in range(count):
        noise = np.fft.rfft2(generator.standard_normal((3, height, width)))
        values = np.fft.irfft2(noise / frequency, s=(height, width))  # (3, height, width)
        values = 128 + 50 * values / values.std()
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
        paths.append(folder / f'{number}.jpg')
        image.save(paths[-1], quality=QUALITY)
    return paths


@contextmanager
def _one_thread() -> Iterator[None]:
    """As mmengine's runner has it in the processes of a data loader."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
