r"""Swin-T with scaling for its softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 13 of table 2 and row 11 of table 3 of Zhou et al., "Interpret Vision Transformers as
ConvNets with Dynamic Convolutions": top-1 81.15, 4.508 GFLOPs, 28.288 M parameters, 17.054 M activations;
not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_scaling_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_scaling_rel_16xb64_in1k.py \
        work_dirs/swin-tiny_scaling_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

model = dict(
    backbone=dict(
        mixer=[
            dict(type='WindowAttention', activation='scaling'),
            dict(type='WindowAttention', activation='scaling', shift=True),
        ],
    )
)
