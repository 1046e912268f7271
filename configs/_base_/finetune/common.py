"""What the three tasks of tools/finetune.py share: AdamW with clipped gradients, loading of images, the loops."""

train_dataloader = dict(num_workers=2, persistent_workers=True, drop_last=True)
val_dataloader = dict(num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
