"""UPerNet with a DWNet-nano backbone on the mini dataset: minutes on two CPU cores.

Train:  python tools/train.py configs/mini/dwnet-nano_upernet_mini.py
Test:   python tools/test.py configs/mini/dwnet-nano_upernet_mini.py work_dirs/dwnet-nano_upernet_mini/iter_1500.pth
"""

_base_ = [
    '../_base_/default_runtime_seg.py',
    '../_base_/models/upernet_dwnet.py',
    '../_base_/datasets/mini_seg.py',
]

num_classes = 11
max_iters = 1500

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='nano', drop_path_rate=0.0, window_padding=False, init_cfg=None),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64, num_classes=num_classes),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=num_classes),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', T_max=max_iters, by_epoch=False, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmseg.SegVisualizationHook'),
)
