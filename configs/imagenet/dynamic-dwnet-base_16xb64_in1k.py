r"""Dynamic DWNet-B on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, no AMP, lr 1e-3.

Paper: top-1 83.2, ReaL 87.9, 162 M parameters, 13.0 GFLOPs; not run here.
Batch, lr and precision are those published with the models, as in dwnet-base_16xb64_in1k.py.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/dynamic-dwnet-base_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/dynamic-dwnet-base_16xb64_in1k.py \
        work_dirs/dynamic-dwnet-base_16xb64_in1k/epoch_300.pth 8

The released weights, as they are:

    python tools/test.py configs/imagenet/dynamic-dwnet-base_16xb64_in1k.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dynamic_dwnet_base_224.pth
"""

_base_ = './dwnet-base_16xb64_in1k.py'

model = dict(backbone=dict(mixer='DynamicDepthwiseConv'))
