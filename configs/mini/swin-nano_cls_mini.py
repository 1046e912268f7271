r"""Swin-nano (attention in shifted windows) classifies the mini dataset: minutes on two CPU cores.

Not run to the end. After two minutes of training on two CPU cores (compare_mixers.py), one run: top-1 46.0.

python tools/train.py configs/mini/swin-nano_cls_mini.py
python tools/test.py configs/mini/swin-nano_cls_mini.py \
    work_dirs/swin-nano_cls_mini/epoch_40.pth
"""

_base_ = './dwnet-nano_cls_mini.py'

model = dict(backbone=dict(arch='swin-nano', mixer=None))
