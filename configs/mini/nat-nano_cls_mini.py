r"""NAT-nano (attention among the nearest neighbours) classifies the mini dataset: minutes on two CPU cores.

Not run to the end. After two minutes of training on two CPU cores (compare_mixers.py), one run: top-1 56.0.

python tools/train.py configs/mini/nat-nano_cls_mini.py
python tools/test.py configs/mini/nat-nano_cls_mini.py \
    work_dirs/nat-nano_cls_mini/epoch_40.pth
"""

_base_ = './dwnet-nano_cls_mini.py'

model = dict(backbone=dict(arch='nat-nano', mixer=None))
