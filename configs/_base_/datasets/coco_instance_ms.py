"""COCO instances with the multi-scale crop training of the 3x schedule; test data as stock.

Flip, then one of: (a) the short side resized to 480...800, the long one at most 1333; (b) the short
side to 400/500/600, an absolute-range crop of (384, 600), then (a). Same as mmdet's Swin 3x.
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'

resize = dict(
    type='RandomChoiceResize',
    scales=[(side, 1333) for side in range(480, 801, 32)],
    keep_ratio=True,
    _scope_='mmdet',
)
# _scope_: the transforms stay mmdet's when another project inherits the file as `mmdwnet::...`
train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mmdet'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, _scope_='mmdet'),
    dict(type='RandomFlip', prob=0.5, _scope_='mmdet'),
    dict(
        type='RandomChoice',
        transforms=[
            [resize],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                resize,
            ],
        ],
        _scope_='mmdet',
    ),
    dict(type='PackDetInputs', _scope_='mmdet'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
