r"""DeiT-nano learns the mini dataset from its labels and from a trained DWNet-nano: minutes on two CPU cores.

Not run to the end; a test runs two epochs. The teacher comes first:

python tools/train.py configs/mini/dwnet-nano_cls_mini.py
python tools/train.py configs/mini/deit-nano_distilled_cls_mini.py
python tools/test.py configs/mini/deit-nano_distilled_cls_mini.py \
    work_dirs/deit-nano_distilled_cls_mini/epoch_40.pth
"""

_base_ = './deit-nano_cls_mini.py'

model = dict(
    type='mmdwnet.DistilledClassifier',
    backbone=dict(distillation_token=True),
    head=dict(
        _delete_=True,
        type='mmdwnet.DistilledHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
        distillation='hard',
    ),
    teacher=dict(
        config='mmdwnet::mini/dwnet-nano_cls_mini.py',
        checkpoint='work_dirs/dwnet-nano_cls_mini/epoch_40.pth',
    ),
)
