r"""NAT-Mini on ImageNet-1K: 300 epochs and 10 at the last lr, 16 GPUs x 64 images, AMP, lr 1e-3.

README of the official code: top-1 81.8, 20 M parameters, 2.7 GFLOPs; not run here.
The official recipe resizes with bilinear or bicubic interpolation at random; bicubic here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/nat-mini_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/nat-mini_16xb64_in1k.py \
        work_dirs/nat-mini_16xb64_in1k/epoch_310.pth 8
"""

_base_ = [
    '../_base_/models/nat_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_310e.py',
    '../_base_/default_runtime_cls.py',
]
