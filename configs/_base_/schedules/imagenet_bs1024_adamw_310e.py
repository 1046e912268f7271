"""NAT's schedule, for a total batch of 1024: that of 300 epochs, down to 5e-6, and 10 more epochs at that.

From SHI-Labs/Neighborhood-Attention-Transformer, classification/configs/nat_*.yml at c061005, and train.py for the
gradient clip of 5. The relative position bias does not decay, there as here.
"""

_base_ = './imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(
    type='mmdwnet.AmpOptimWrapper', paramwise_cfg=dict(custom_keys={'.rpb': dict(decay_mult=0.0)})
)
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
        eta_min=5e-6,
        begin=0,
        end=300,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=310)
