r"""Swin-B, ImageNet-22K to 1K: 30 epochs, 8 GPUs x 64 images x 2 accumulated batches, AMP, lr 4e-5.

Paper: top-1 85.2, 88 M parameters, 15.4 GFLOPs; not run here.
The baseline: mmpretrain's stock backbone with Swin's own fine-tuning settings.
Starts from the 22K weights with 1000 rows of their head, picked by Swin's data/map22kto1k.txt:

    python tools/model_converters/remap_head_22k_to_1k.py \
        work_dirs/swin-base_8xb64-accum8_in22k/epoch_90.pth map22kto1k.txt \
        work_dirs/swin-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth
    bash tools/dist_train.sh configs/imagenet22k/swin-base_in22k-pre_8xb64-accum2_in1k.py 8
    bash tools/dist_test.sh configs/imagenet22k/swin-base_in22k-pre_8xb64-accum2_in1k.py \
        work_dirs/swin-base_in22k-pre_8xb64-accum2_in1k/epoch_30.pth 8
"""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer/base_224.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet22k_to_1k_bs1024_adamw_30e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(drop_path_rate=0.2))
load_from = 'work_dirs/swin-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth'
