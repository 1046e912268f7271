"""300 epochs of AdamW with the official cosine, for a total batch of 1024.

lr = 5e-4 * 1024 / 512 = 1e-3, weight decay 0.05 on everything but norms, biases and vectors, as the
stock base has them. The cosine is not the stock base's: official, it runs over all 300 epochs from
epoch 0 and is only masked by the warm-up of 20 (timm's CosineLRScheduler, warmup_prefix=False),
whereas the stock one restarts at epoch 20 and integrates to 7 % more lr.
"""

_base_ = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'

optim_wrapper = dict(type='OptimWrapper', clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,  # from 1e-6
        begin=0,
        end=20,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=300,
        eta_min=1e-5,
        begin=0,
        end=300,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
