r"""Swin-B with softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 13 of table 3 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": top-1 83.36, 15.467 GFLOPs, 87.768 M parameters, 36.625 M activations; not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-base_softmax_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-base_softmax_rel_16xb64_in1k.py \
        work_dirs/swin-base_softmax_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './swin-tiny_softmax_rel_16xb64_in1k.py'

model = dict(backbone=dict(arch='swin-base', drop_path_rate=0.5), head=dict(in_channels=1024))
