r"""Swin-T, where every channel has weights of its own, on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP.

Heads of 1 channel instead of 32: panel (b) of figure 2 of Han et al., "On the Connection between Local
Attention and Dynamic Depth-wise Convolution". Its values are not known here; not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_share-1_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_share-1_16xb64_in1k.py \
        work_dirs/swin-tiny_share-1_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

model = dict(
    backbone=dict(
        mixer=[
            dict(type='WindowAttention', head_channels=1),
            dict(type='WindowAttention', head_channels=1, shift=True),
        ],
    )
)
