r"""DWNet-B on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, no AMP, lr 1e-3.

Paper: top-1 83.2, ReaL 87.9, 74 M parameters, 12.9 GFLOPs; not run here.
Batch, lr and precision are those published with the models (README and first scripts); the later
scripts of the official repository say batch 2048, lr 2e-3 and AMP.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/dwnet-base_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/dwnet-base_16xb64_in1k.py \
        work_dirs/dwnet-base_16xb64_in1k/epoch_300.pth 8

The released weights, as they are:

    python tools/test.py configs/imagenet/dwnet-base_16xb64_in1k.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_base_224.pth
"""

_base_ = [
    '../_base_/models/dwnet_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1024))
