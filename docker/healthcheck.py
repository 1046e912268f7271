"""The health check of the image: everything imports, and the nano classifier predicts a picture on the CPU.

Its weights are random: this says that the parts fit together, not what a net has learned.
"""

from pathlib import Path

import mmdet  # noqa: F401
import mmseg  # noqa: F401
import numpy as np
import torch
from mmcv.ops import nms
from mmpretrain import ImageClassificationInferencer

import mmdwnet

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'mini' / 'dwnet-nano_cls_mini.py'


def main() -> None:
    """Raise if anything does not work."""
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0]])
    kept = nms(boxes, torch.tensor([0.8, 0.9]), 0.5)[1]
    assert kept.tolist() == [1], f'mmcv.ops.nms kept {kept.tolist()} of two boxes, expected the second'

    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    infer = ImageClassificationInferencer(str(CONFIG), pretrained=False, device='cpu')
    (result,) = infer(picture)
    total = float(result['pred_scores'].sum())
    assert abs(total - 1) < 1e-3, f'the scores of a prediction sum to {total}, expected 1'
    print(f'mmdwnet {mmdwnet.__version__} is healthy: it imports and predicts')


if __name__ == '__main__':
    main()
