"""For detectors that mmdet keeps in one full config: what the COCO configs here put over it.

Comes after such a config in `_base_`. mmdet has no base of these models alone, and bases beside each
other may not set the same key, so the pipeline, the optimizer and the schedule are variables here,
which the config says where to put.
"""

_base_ = [
    './models/dwnet_pyramid.py',
    './datasets/multi_scale_crop.py',
    './schedules/coco_adamw.py',
    './non_finite_guard.py',
]

custom_imports = dict(imports=['mmdwnet'], allow_failed_imports=False)
randomness = dict(seed=0, diff_rank_seed=True)

# _scope_: the transforms stay mmdet's when another project inherits the file as `mmdwnet::...`
boxes_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmdet'),
    dict(type='LoadAnnotations', with_bbox=True, _scope_='mmdet'),
    dict(type='RandomFlip', prob=0.5, _scope_='mmdet'),
    _base_.multi_scale_crop,
    dict(type='PackDetInputs', _scope_='mmdet'),
]
