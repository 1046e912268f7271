r"""NAT-Tiny on ImageNet-1K: 300 epochs and 10 at the last lr, 16 GPUs x 64 images, AMP, lr 1e-3.

README of the official code: top-1 83.2, 28 M parameters, 4.3 GFLOPs; not run here.
The official recipe resizes with bilinear or bicubic interpolation at random; bicubic here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/nat-tiny_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/nat-tiny_16xb64_in1k.py \
        work_dirs/nat-tiny_16xb64_in1k/epoch_310.pth 8
"""

_base_ = './nat-mini_16xb64_in1k.py'

model = dict(backbone=dict(arch='nat-tiny'))
