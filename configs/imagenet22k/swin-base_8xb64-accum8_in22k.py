r"""Swin-B on ImageNet-22K: 90 epochs, 8 GPUs x 64 images x 8 accumulated batches, AMP, lr 1e-3.

The paper reports no accuracy of this step, only of what follows it; not run here.
The baseline: mmpretrain's stock backbone with Swin's own 22K settings, drop path 0.2.
Continues in configs/imagenet22k/swin-base_in22k-pre_8xb64-accum2_in1k.py and
configs/ade20k/upernet_swin-base_in22k-pre_8xb2-160k_ade20k-512x512.py.

    bash tools/dist_train.sh configs/imagenet22k/swin-base_8xb64-accum8_in22k.py 8
    bash tools/dist_test.sh configs/imagenet22k/swin-base_8xb64-accum8_in22k.py \
        work_dirs/swin-base_8xb64-accum8_in22k/epoch_90.pth 8
"""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer/base_224.py',
    '../_base_/datasets/imagenet22k_224.py',
    '../_base_/schedules/imagenet22k_bs4096_adamw_90e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(drop_path_rate=0.2), head=dict(num_classes=21841))
