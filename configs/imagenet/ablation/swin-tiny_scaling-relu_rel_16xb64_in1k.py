r"""Swin-T with scaling and ReLU for its softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 14 of table 2 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": top-1 81.24; not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_scaling-relu_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_scaling-relu_rel_16xb64_in1k.py \
        work_dirs/swin-tiny_scaling-relu_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

model = dict(
    backbone=dict(
        mixer=[
            dict(type='WindowAttention', activation='scaling-relu'),
            dict(type='WindowAttention', activation='scaling-relu', shift=True),
        ],
    )
)
