r"""DeiT-B with depth-wise self-attention on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position, class token. Row 9 of table 3 of Zhou et al., "Interpret Vision Transformers as ConvNets with
Dynamic Convolutions": top-1 81.92, 15.830 GFLOPs, 79.434 M parameters, 16.481 M activations; not run here.
Counted here: 15.826 GFLOPs.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/deit-base_depthwise_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/deit-base_depthwise_rel_16xb64_in1k.py \
        work_dirs/deit-base_depthwise_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './deit-small_depthwise_rel_16xb64_in1k.py'

model = dict(backbone=dict(arch='deit-base'), head=dict(in_channels=768))
