r"""DWNet-T on ImageNet-1K: 300 epochs, 8 GPUs x 128 images, AMP, lr 1e-3.

Paper: top-1 81.3 (released weights: 81.2), ReaL 86.8, 24 M parameters, 3.8 GFLOPs; not run here.

    bash tools/dist_train.sh configs/imagenet/dwnet-tiny_8xb128_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/dwnet-tiny_8xb128_in1k.py \
        work_dirs/dwnet-tiny_8xb128_in1k/epoch_300.pth 8

The released weights, as they are:

    python tools/test.py configs/imagenet/dwnet-tiny_8xb128_in1k.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_tiny_224.pth
"""

_base_ = [
    '../_base_/models/dwnet_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(type='mmdwnet.AmpOptimWrapper')
