"""DWNet-nano classifies the mini dataset: minutes on two CPU cores.

Measured on the held-out images, two CPU cores, one run: top-1 95.5 in 3.5 minutes.

python tools/train.py configs/mini/dwnet-nano_cls_mini.py
python tools/test.py configs/mini/dwnet-nano_cls_mini.py work_dirs/dwnet-nano_cls_mini/epoch_40.pth
"""

_base_ = ['../_base_/default_runtime_cls.py', '../_base_/models/dwnet_cls.py', '../_base_/datasets/mini_cls.py']

num_classes = 10
max_epochs = 40

model = dict(
    backbone=dict(arch='nano', drop_path_rate=0.0),
    head=dict(
        num_classes=num_classes, in_channels=256, topk=(1,), loss=dict(_delete_=True, type='CrossEntropyLoss')
    ),
    train_cfg=None,
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(visualization=dict(rescale_factor=3))  # room for the words on small images
