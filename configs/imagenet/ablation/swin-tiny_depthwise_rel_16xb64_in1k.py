r"""Swin-T with depth-wise self-attention on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 12 of table 3 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": top-1 80.75, 4.141 GFLOPs, 26.850 M parameters, 14.112 M activations; not run here.
Counted here: 4.125 GFLOPs.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_depthwise_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_depthwise_rel_16xb64_in1k.py \
        work_dirs/swin-tiny_depthwise_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

# a relative position per channel: the paper's parameters of Swin-T follow only so
model = dict(
    backbone=dict(
        mixer=[
            dict(type='DepthwiseWindowAttention', head_channels=1),
            dict(type='DepthwiseWindowAttention', head_channels=1, shift=True),
        ],
    )
)
