"""What tools/finetune.py puts under its configs, to segment: AdamW, a cosine, the steps of the pipelines.

A config over this one and a model of `_base_/models/` says which data and sizes, and joins the steps.
"""

_base_ = ['../default_runtime_seg.py', './common.py']

# _scope_: the file is inherited as `mmdwnet::...`, and these are not looked up in that scope
load_image = dict(type='LoadImageFromFile', _scope_='mmseg')
load_labels = dict(type='LoadAnnotations', _scope_='mmseg')
pack = dict(type='PackSegInputs', _scope_='mmseg')
load = [load_image, load_labels]
finish = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal', _scope_='mmseg'),
    dict(type='PhotoMetricDistortion', _scope_='mmseg'),
    pack,
]
warm_up = dict(type='LinearLR', start_factor=0.01, by_epoch=False, _scope_='mmengine')
cosine = dict(type='CosineAnnealingLR', by_epoch=False, _scope_='mmengine')

train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='BaseSegDataset', _scope_='mmseg'),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(type='BaseSegDataset', _scope_='mmseg'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], _scope_='mmseg')
test_evaluator = val_evaluator

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'norm': dict(decay_mult=0.0)}))
train_cfg = dict(type='IterBasedTrainLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=200, save_best='mIoU', rule='greater', max_keep_ckpts=1
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook', _scope_='mmseg'),
)
