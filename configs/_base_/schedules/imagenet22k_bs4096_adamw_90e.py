"""ImageNet-22K pre-training: 90 epochs of AdamW with AMP, 8 GPUs x 64 images x 8 accumulated batches.

Swin-B's numbers (swin_base_patch4_window7_224_22k.yaml and get_started.md of Swin-Transformer):
lr = 1.25e-4 * 4096 / 512 = 1e-3, weight decay 0.05, warm-up of 5 epochs from 1e-6, cosine to 1e-5.
The cosine runs over all 90 epochs from epoch 0, below the warm-up, as in the ImageNet-1K schedule and
in Swin's code when its 22K models were trained; the other mode, a cosine that starts after the
warm-up, became its default in October 2022. There the warm-up masks the cosine, here mmengine
multiplies the two, which ends the warm-up 0.8 % lower.
"""

_base_ = './imagenet_bs1024_adamw_300e.py'

optim_wrapper = dict(type='mmdwnet.AmpOptimWrapper', accumulative_counts=8)
train_cfg = dict(max_epochs=90)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,  # from 1e-6
        begin=0,
        end=5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=90,
        eta_min=1e-5,
        begin=0,
        end=90,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=512)  # --auto-scale-lr counts 8 x 64, not the accumulation
