r"""Swin-T, where 16 channels share their weights, on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP.

Heads of 16 channels instead of 32: panel (b) of figure 2 of Han et al., "On the Connection between Local
Attention and Dynamic Depth-wise Convolution". Its values are not known here; not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_share-16_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_share-16_16xb64_in1k.py \
        work_dirs/swin-tiny_share-16_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

model = dict(
    backbone=dict(
        mixer=[
            dict(type='WindowAttention', head_channels=16),
            dict(type='WindowAttention', head_channels=16, shift=True),
        ],
    )
)
