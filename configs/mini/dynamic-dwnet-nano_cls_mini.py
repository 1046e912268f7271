r"""Dynamic DWNet-nano (one kernel per image) classifies the mini dataset: minutes on two CPU cores.

python tools/train.py configs/mini/dynamic-dwnet-nano_cls_mini.py
python tools/test.py configs/mini/dynamic-dwnet-nano_cls_mini.py \
    work_dirs/dynamic-dwnet-nano_cls_mini/epoch_30.pth
"""

_base_ = './dwnet-nano_cls_mini.py'

model = dict(backbone=dict(mixer='DynamicDepthwiseConv'))
