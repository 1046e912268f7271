"""AdamW with AMP and the steps of 36 epochs, as variables for the COCO files; by itself it sets nothing.

Optimizer and decay rules of the released Cascade Mask R-CNN models. The rule `norm` matches names:
in DWNet it exempts the LayerNorms and the output norms (16 tensors with four outputs), while the BNs
of the blocks, called `bn*`, and all biases decay.
"""

adamw_amp = dict(
    type='mmdwnet.AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
)
steps_3x = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
