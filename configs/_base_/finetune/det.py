"""What tools/finetune.py puts under its configs, to detect: AdamW, a cosine, the steps of the pipelines.

A config over this one and a model of `_base_/models/` says which data and sizes, and joins the steps.
"""

_base_ = ['../default_runtime_det.py', './common.py']

# _scope_: the file is inherited as `mmdwnet::...`, and these are not looked up in that scope
load_image = dict(type='LoadImageFromFile', _scope_='mmdet')
load_objects = dict(type='LoadAnnotations', with_bbox=True, with_mask=True, _scope_='mmdet')
pack = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'),
    _scope_='mmdet',
)
load = [load_image, load_objects]
finish = [dict(type='RandomFlip', prob=0.5, direction='horizontal', _scope_='mmdet'), pack]
warm_up = dict(type='LinearLR', start_factor=0.01, by_epoch=True, convert_to_iter_based=True, _scope_='mmengine')
cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, _scope_='mmengine')

train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CocoDataset', filter_cfg=dict(filter_empty_gt=True, min_size=1), _scope_='mmdet'),
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(type='CocoDataset', test_mode=True, _scope_='mmdet'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric=['bbox', 'segm'], classwise=True, _scope_='mmdet')
test_evaluator = val_evaluator

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'norm': dict(decay_mult=0.0)}))
train_cfg = dict(type='EpochBasedTrainLoop')
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(save_best='coco/segm_mAP', rule='greater', max_keep_ckpts=1)
)
