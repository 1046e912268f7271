"""22K to 1K fine-tuning: 30 epochs of AdamW with AMP, 8 GPUs x 64 images x 2 accumulated batches.

Swin-B's numbers (swin_base_patch4_window7_224_22kto1k_finetune.yaml of Swin-Transformer):
lr = 2e-5 * 1024 / 512 = 4e-5, weight decay 1e-8, warm-up of 5 epochs from 4e-8, cosine to 4e-7.
The cosine runs over all 30 epochs, as imagenet22k_bs4096_adamw_90e.py explains; the warm-up ends 6.6 %
below Swin's.
"""

_base_ = './imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(
    type='mmdwnet.AmpOptimWrapper', accumulative_counts=2, optimizer=dict(lr=2e-5 * 1024 / 512, weight_decay=1e-8)
)
train_cfg = dict(max_epochs=30)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,  # from 4e-8
        begin=0,
        end=5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=30,
        eta_min=4e-7,
        begin=0,
        end=30,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=512)  # --auto-scale-lr counts 8 x 64, not the accumulation
