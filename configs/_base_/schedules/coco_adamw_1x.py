"""12 epochs of AdamW with AMP, for 8 GPUs x 2 images; steps at 8 and 11, warm-up of 500 iterations.

Optimizer and decay rules of the released Cascade Mask R-CNN models. The rule `norm` matches names:
in DWNet it exempts the LayerNorms and the output norms (16 tensors), while the BNs of the blocks,
called `bn*`, and all biases decay. Schedule and batch are the stock base's.
"""

_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
)
