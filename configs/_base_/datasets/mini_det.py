"""The mini dataset as COCO instances: 128 x 128 images, boxes and masks."""

data_root = 'data/mini/coco'
metainfo = dict(
    classes=('arrow', 'capsule', 'crescent', 'cross', 'disc', 'heart', 'ring', 'square', 'star', 'triangle')
)
scale = (128, 128)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', _scope_='mmdet', with_bbox=True, with_mask=True),
    dict(type='Resize', _scope_='mmdet', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', _scope_='mmdet', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs', _scope_='mmdet'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', _scope_='mmdet', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', _scope_='mmdet', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        _scope_='mmdet',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    drop_last=True,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdet.CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdet.CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=data_root + '/annotations/instances_val2017.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator
