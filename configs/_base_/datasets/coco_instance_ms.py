"""COCO instances with the multi-scale crop training of the 3x schedule; test data as stock."""

_base_ = ['mmdet::_base_/datasets/coco_instance.py', './multi_scale_crop.py']

# _scope_: the transforms stay mmdet's when another project inherits the file as `mmdwnet::...`
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmdet'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, _scope_='mmdet'),
    dict(type='RandomFlip', prob=0.5, _scope_='mmdet'),
    _base_.multi_scale_crop,
    dict(type='PackDetInputs', _scope_='mmdet'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
