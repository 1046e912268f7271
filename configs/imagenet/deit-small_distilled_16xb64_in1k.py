r"""DeiT-S that also learns from DWNet-B on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, AMP, lr 1e-3.

Hard distillation and the distillation token of Touvron et al. (ICML 2021), who report top-1 81.2 with 22 M
parameters, RegNetY-16GF (82.9) as the teacher and their own recipe; not run here. The teacher is a convolutional
net, as they advise: the released DWNet-B, top-1 83.2 in its paper.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/deit-small_distilled_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/deit-small_distilled_16xb64_in1k.py \
        work_dirs/deit-small_distilled_16xb64_in1k/epoch_300.pth 8
"""

_base_ = ['../_base_/models/deit_cls.py', '../_base_/imagenet_deit_300e.py']

model = dict(
    type='mmdwnet.DistilledClassifier',
    backbone=dict(distillation_token=True),
    head=dict(
        _delete_=True,
        type='mmdwnet.DistilledHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        distillation='hard',
    ),
    teacher=dict(
        config='mmdwnet::imagenet/dwnet-base_16xb64_in1k.py',
        checkpoint='https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_base_224.pth',
    ),
)
