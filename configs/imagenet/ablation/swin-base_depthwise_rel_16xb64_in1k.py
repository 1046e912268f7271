r"""Swin-B with depth-wise self-attention on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 15 of table 3 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": top-1 82.48, 14.192 GFLOPs, 80.777 M parameters, 30.256 M activations; not run here.
Counted here: 14.155 GFLOPs.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-base_depthwise_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-base_depthwise_rel_16xb64_in1k.py \
        work_dirs/swin-base_depthwise_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-base_softmax_rel_16xb64_in1k.py'

# a relative position per head: the paper's parameters of Swin-B follow only so
model = dict(
    backbone=dict(
        mixer=[
            dict(type='DepthwiseWindowAttention', head_channels=32),
            dict(type='DepthwiseWindowAttention', head_channels=32, shift=True),
        ],
    )
)
