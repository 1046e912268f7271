"""The mini dataset as label maps in ADE20K's layout: 128 x 128 images, background is the first class."""

dataset_type = 'mmseg.BaseSegDataset'
data_root = 'data/mini/ade'
img_suffix = '.png'
metainfo = dict(
    classes=(
        'background',
        'arrow',
        'capsule',
        'crescent',
        'cross',
        'disc',
        'heart',
        'ring',
        'square',
        'star',
        'triangle',
    )
)
scale = (128, 128)
crop_size = (128, 128)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', _scope_='mmseg', reduce_zero_label=True),
    dict(type='Resize', _scope_='mmseg', scale=scale, keep_ratio=True),
    dict(type='RandomCrop', _scope_='mmseg', crop_size=crop_size),
    dict(type='RandomFlip', _scope_='mmseg', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackSegInputs', _scope_='mmseg'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', _scope_='mmseg', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', _scope_='mmseg', reduce_zero_label=True),
    dict(type='PackSegInputs', _scope_='mmseg'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', _scope_='mmseg', scale=scale, keep_ratio=True),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', _scope_='mmseg', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', _scope_='mmseg')],
            [dict(type='PackSegInputs', _scope_='mmseg')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    drop_last=True,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix=img_suffix,
        seg_map_suffix='.png',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix=img_suffix,
        seg_map_suffix='.png',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
