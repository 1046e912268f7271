r"""Swin-B on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, no AMP, lr 1e-3.

Paper: top-1 83.3, ReaL 87.9, 88 M parameters, 15.4 GFLOPs; not run here.
The baseline: mmpretrain's stock backbone under the protocol of the DWNet rows.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/swin-base_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/swin-base_16xb64_in1k.py \
        work_dirs/swin-base_16xb64_in1k/epoch_300.pth 8
"""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer/base_224.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]
