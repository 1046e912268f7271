r"""Swin-B with scaling for its softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 14 of table 3 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": top-1 82.80, 15.468 GFLOPs, 87.768 M parameters, 38.930 M activations; not run here.
Counted here: 15.467 GFLOPs and 36.625 M activations, as with a softmax.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-base_scaling_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-base_scaling_rel_16xb64_in1k.py \
        work_dirs/swin-base_scaling_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-base_softmax_rel_16xb64_in1k.py'

model = dict(
    backbone=dict(
        mixer=[
            dict(type='WindowAttention', activation='scaling'),
            dict(type='WindowAttention', activation='scaling', shift=True),
        ],
    )
)
