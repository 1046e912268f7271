"""160k iterations of AdamW without AMP, for 8 GPUs x 2 images; linear decay to 0, warm-up of 1500.

Official values (mmseg fork, configs/dwnet/upernet_dwnet_*.py). The decay starts at iteration 0, below
the warm-up, as there; mmseg's Swin configs start it at 1500. For the rule `norm` see
coco_adamw.py.
"""

_base_ = ['../mmseg_package.py', 'mmseg::_base_/schedules/schedule_160k.py']

optimizer = None  # the stock base's helper variable (SGD); nothing reads it
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=160000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
