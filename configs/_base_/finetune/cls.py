"""What tools/finetune.py puts under its configs, to classify: AdamW, a cosine, the steps of the pipelines.

A config over this one and a model of `_base_/models/` says which data and sizes, and joins the steps.
"""

_base_ = ['../default_runtime_cls.py', './common.py']

# _scope_: the file is inherited as `mmdwnet::...`, and these are not looked up in that scope
load_image = dict(type='LoadImageFromFile', _scope_='mmpretrain')
pack = dict(type='PackInputs', _scope_='mmpretrain')
finish = [dict(type='RandomFlip', prob=0.5, direction='horizontal', _scope_='mmpretrain'), pack]
warm_up = dict(type='LinearLR', start_factor=0.01, by_epoch=True, convert_to_iter_based=True, _scope_='mmengine')
cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, _scope_='mmengine')

data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', _scope_='mmpretrain'),
)
val_dataloader = dict(
    batch_size=32,
    dataset=dict(type='CustomDataset', _scope_='mmpretrain'),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1,), _scope_='mmpretrain')]
test_evaluator = val_evaluator

# as in the recipes of classification: no decay of norms, biases and flat parameters, whatever their names
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0))
train_cfg = dict(type='EpochBasedTrainLoop')
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(save_best='accuracy/top1', rule='greater', max_keep_ckpts=1)
)
