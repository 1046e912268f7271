"""A model as a function from loaded images to predictions, several at once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from torch import nn

from ...errors import UserError
from ..amp import autocast_test_step, check_amp_dtype
from ..config import datasets_of
from ..sample_checks import BadSample, image_fault, load_image, said
from .inputs import Source

A = TypeVar('A')
B = TypeVar('B')


@dataclass(frozen=True)
class Item:
    """An image, or a frame of a video.

    Args:
        source: where it is from.
        frame: its number in a video, from 0; None of an image.
        pixels: of a frame, (H, W, 3), BGR.
    """

    source: Source
    frame: int | None = None
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Loaded:
    """An item that was loaded, or not.

    Args:
        item: which.
        pixels: (H, W, 3), BGR.
        packed: what the model takes.
        fault: why it could not be loaded, in one line.
    """

    item: Item
    pixels: np.ndarray | None = None
    packed: dict[str, Any] | None = None
    fault: str | None = None


class Predictor:
    """Loads images as the test set of a config is loaded, and predicts them.

    Args:
        cfg: the config of the model.
        model: in eval mode, on its device.
        amp_dtype: 'bfloat16' or 'float16' for mixed precision; None for float32.

    Raises:
        UserError: the config says nothing of loading, or the device cannot run `amp_dtype`.
    """

    def __init__(self, cfg: Config, model: nn.Module, amp_dtype: str | None = None):
        datasets = datasets_of(cfg.get('test_dataloader'))
        pipeline = (datasets[0].get('pipeline') if datasets else None) or []
        names = [step['type'].split('.')[-1] for step in pipeline]
        if 'LoadImageFromFile' not in names:
            raise UserError(
                'the config has no test_dataloader.dataset.pipeline with a LoadImageFromFile, which says how '
                'images are read'
            )
        self.load_file = TRANSFORMS.build(pipeline[names.index('LoadImageFromFile')])
        self.prepare = Compose([dict(step) for step in pipeline if not _is_load(step['type'])])
        self.model = model
        if amp_dtype is not None:
            device = next(model.parameters()).device.type
            check_amp_dtype(amp_dtype, device)
            autocast_test_step(model, getattr(torch, amp_dtype), device)

    def load(self, item: Item) -> Loaded:
        """Load an item; several threads may at once."""
        path = str(item.source.path)
        try:
            if item.pixels is None:
                results = load_image(self.load_file, dict(img_path=path, img_id=0), path)
            else:
                shape = item.pixels.shape[:2]
                pixels = item.pixels.astype(np.float32) if self.load_file.to_float32 else item.pixels
                results = dict(img=pixels, img_shape=shape, ori_shape=shape, img_path=path, img_id=0)
            pixels = results['img']
            try:
                return Loaded(item, pixels, self.prepare(results))
            except Exception as error:  # what a size without sense, such as 1 x 5000 pixels, makes of a step
                raise BadSample(image_fault(path, said(error)).reason) from error
        except BadSample as error:
            return Loaded(item, fault=str(error))

    def predict(self, batch: Sequence[Loaded]) -> list[Any]:
        """Predict loaded items, those of one size at once, so that none is padded for another one's sake.

        Returns:
            A data sample each.

        Raises:
            UserError: there is not enough memory.
        """
        order = sorted(range(len(batch)), key=lambda i: batch[i].packed['inputs'].shape)
        samples: list[Any] = [None] * len(batch)
        for _, same in groupby(order, key=lambda i: batch[i].packed['inputs'].shape):
            places = list(same)
            data = {key: [batch[i].packed[key] for i in places] for key in ('inputs', 'data_samples')}
            try:
                with torch.no_grad():
                    found = self.model.test_step(data)
            except torch.cuda.OutOfMemoryError as error:
                raise UserError(
                    f'{len(places)} images at once need too much memory: lower --batch-size'
                ) from error
            for place, sample in zip(places, found, strict=True):
                samples[place] = sample
        return samples


def _is_load(name: str) -> bool:
    return re.search(r'LoadImageFromFile$|Load\w*Annotations$', name) is not None


def ahead(function: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """Map in threads, in order; at most twice as many results as threads wait."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def batches(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Items in lists of a size; the last one may be shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
