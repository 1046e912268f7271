"""The model of a config and an image as it sees it, for the tools that look inside networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image
from torch import Tensor, nn

from ..engine.models import load_whole_model
from ..errors import UserError

RANDOM = 'none'  # in place of a checkpoint


@dataclass(frozen=True)
class Inspected:
    """The backbone of a model, and one image.

    Args:
        name: of the config, and whether the weights are random.
        backbone: in eval mode; its parameters have no gradients.
        images: what it sees, normalised and padded, (1, C, H, W).
        shown: the same for people, uint8, (H, W, 3); what is padded is white.
    """

    name: str
    backbone: nn.Module
    images: Tensor
    shown: np.ndarray


def inspect(
    config: str,
    checkpoint: str,
    image: str,
    device: str = 'cpu',
    overrides: dict[str, Any] | None = None,
    trust: bool = False,
) -> Inspected:
    """Build the model of a config, load a checkpoint into it, all of it, and show it an image as in a test.

    Args:
        config: file, of a classifier, detector or segmentor with any backbone.
        checkpoint: path or URL, in our layout or the official one; 'none' for random weights.
        image: file.
        device: for the model and the image.
        overrides: of the config, as `load_config` takes them.
        trust: unpickle a checkpoint that needs it, which executes code from it.

    Raises:
        UserError: one of the three cannot be read, they do not fit one another, or there is no such device.
    """
    cfg, model = load_whole_model(
        config, None if checkpoint == RANDOM else checkpoint, device, overrides, trust=trust
    )
    model.requires_grad_(False)
    images, shown = _see(cfg, config, model, image)
    name = Path(config).stem + (' with random weights' if checkpoint == RANDOM else '')
    return Inspected(name, model.backbone, images, shown)


def _see(cfg: Config, config: str, model: nn.Module, image: str) -> tuple[Tensor, np.ndarray]:
    """The image through the test pipeline and the data preprocessor: what the network sees, and what people do."""
    pipeline = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')
    if not pipeline:
        raise UserError(f'{config} has no test_dataloader.dataset.pipeline, which says how images are read')
    try:
        with Image.open(image) as file:
            file.verify()
    except (OSError, SyntaxError) as error:  # the latter of a broken PNG
        raise UserError(
            f'image {image} cannot be read: {error}: expected a file such as a .jpg or .png'
        ) from error
    steps = [dict(step) for step in pipeline if not re.search(r'Load\w*Annotations$', step['type'])]
    packed = Compose(steps)(dict(img_path=str(image), img_id=0))
    batch = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    with torch.no_grad():
        images = model.data_preprocessor(batch, False)['inputs']
    pixels = packed['inputs'].flip(0)  # images are read as BGR
    shown = np.full((*images.shape[2:], 3), 255, np.uint8)
    shown[: pixels.shape[1], : pixels.shape[2]] = pixels.permute(1, 2, 0).numpy().astype(np.uint8)
    return images, shown
