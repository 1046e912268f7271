r"""Dynamic DWNet-T on ImageNet-1K: 300 epochs, 8 GPUs x 128 images, AMP, lr 1e-3.

Paper: top-1 81.9 (released weights: 81.8), ReaL 87.3, 51 M parameters, 3.8 GFLOPs; not run here.

    bash tools/dist_train.sh configs/imagenet/dynamic-dwnet-tiny_8xb128_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/dynamic-dwnet-tiny_8xb128_in1k.py \
        work_dirs/dynamic-dwnet-tiny_8xb128_in1k/epoch_300.pth 8

The released weights, as they are:

    python tools/test.py configs/imagenet/dynamic-dwnet-tiny_8xb128_in1k.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dynamic_dwnet_tiny_224.pth
"""

_base_ = './dwnet-tiny_8xb128_in1k.py'

model = dict(backbone=dict(mixer='DynamicDepthwiseConv'))
