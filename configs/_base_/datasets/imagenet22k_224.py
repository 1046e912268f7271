"""ImageNet-22K at 224x224: 21841 classes, the pipelines of ImageNet-1K, 64 images per GPU.

`data/imagenet22k/{train,val}/<class>/*.JPEG`, the classes numbered in alphabetical order of their
folders; the two of the 21843 synsets that have no image get no folder (21841: data/build.py of
Swin-Transformer, as are the pipelines). Listing 14 million files takes long: with lists of lines
`<class>/<image> <number>`, add `--cfg-options train_dataloader.dataset.ann_file=meta/train.txt` and
the same for val_dataloader, from the same numbers. Without a val folder, train with `--no-validate`.
"""

_base_ = './imagenet_224.py'

dataset_type = 'CustomDataset'
data_root = 'data/imagenet22k'
data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        pipeline=_base_.train_pipeline,
        _scope_='mmpretrain',
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        pipeline=_base_.test_pipeline,
        _scope_='mmpretrain',
    )
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        pipeline=_base_.test_pipeline,
        _scope_='mmpretrain',
    )
)
# ReaL labels are of ImageNet-1K
val_evaluator = [dict(type='mmpretrain.Accuracy', topk=(1, 5))]
test_evaluator = val_evaluator
