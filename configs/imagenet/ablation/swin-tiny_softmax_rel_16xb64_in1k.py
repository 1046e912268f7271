r"""Swin-T with softmax on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Relative position. Row 11 of table 2 and row 10 of table 3 of Zhou et al., "Interpret Vision Transformers as
ConvNets with Dynamic Convolutions": top-1 81.13, 4.508 GFLOPs, 28.288 M parameters, 17.054 M activations;
not run here.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/ablation/swin-tiny_softmax_rel_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/ablation/swin-tiny_softmax_rel_16xb64_in1k.py \
        work_dirs/swin-tiny_softmax_rel_16xb64_in1k/epoch_300.pth 8
"""

_base_ = [
    '../../_base_/models/swin_cls.py',
    '../../_base_/datasets/imagenet_224.py',
    '../../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../../_base_/default_runtime_cls.py',
]

optim_wrapper = dict(type='mmdwnet.AmpOptimWrapper')
