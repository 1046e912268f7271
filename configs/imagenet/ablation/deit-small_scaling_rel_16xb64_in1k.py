r"""DeiT-S with scaling for its softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position, class token. Row 6 of table 2 and row 5 of table 3 of Zhou et al., "Interpret Vision
Transformers as ConvNets with Dynamic Convolutions": top-1 80.45, 4.543 GFLOPs, 22.028 M parameters, 10.351 M
activations; not run here.
Counted here: 4.54351 GFLOPs.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/deit-small_scaling_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/deit-small_scaling_rel_16xb64_in1k.py \
        work_dirs/deit-small_scaling_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './deit-small_softmax_abs_16xb64_in1k.py'

model = dict(backbone=dict(mixer=dict(activation='scaling', relative_position=True), absolute_position=False))
