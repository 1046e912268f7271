r"""DeiT-S with softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position, class token. Row 5 of table 2 and row 4 of table 3 of Zhou et al., "Interpret Vision
Transformers as ConvNets with Dynamic Convolutions": top-1 80.96, 4.608 GFLOPs, 22.028 M parameters, 11.947 M
activations; not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/deit-small_softmax_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/deit-small_softmax_rel_16xb64_in1k.py \
        work_dirs/deit-small_softmax_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './deit-small_softmax_abs_16xb64_in1k.py'

model = dict(backbone=dict(mixer=dict(relative_position=True), absolute_position=False))
