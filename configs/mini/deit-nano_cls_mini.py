r"""DeiT-nano (attention over all positions, a class token) classifies the mini dataset: minutes on two cores.

Not run to the end. After two minutes of training on two CPU cores (compare_mixers.py), one run: top-1 33.5.

python tools/train.py configs/mini/deit-nano_cls_mini.py
python tools/test.py configs/mini/deit-nano_cls_mini.py \
    work_dirs/deit-nano_cls_mini/epoch_40.pth
"""

_base_ = './dwnet-nano_cls_mini.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdwnet.IsotropicNet',
        arch='deit-nano',
        mixer='GlobalAttention',
        img_size=96,
        patch_size=8,
    ),
    neck=None,
    head=dict(in_channels=128),
)
