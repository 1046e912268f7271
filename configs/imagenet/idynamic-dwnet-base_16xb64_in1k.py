r"""I-dynamic DWNet-B on ImageNet-1K: 300 epochs, 16 GPUs x 64 images, no AMP, lr 1e-3.

Paper: top-1 83.4, ReaL 88.0, 80 M parameters, 13.6 GFLOPs; not run here.
No source states its batch: the settings are those of the other two base models. The FLOPs were
published for another number of groups than the parameters, which fit the 32 used here.
There are no released weights of I-dynamic DWNet.

On 2 nodes of 8 GPUs, with NODE_RANK 0 and 1 and the first one's address in MASTER_ADDR:

    NNODES=2 bash tools/dist_train.sh configs/imagenet/idynamic-dwnet-base_16xb64_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/idynamic-dwnet-base_16xb64_in1k.py \
        work_dirs/idynamic-dwnet-base_16xb64_in1k/epoch_300.pth 8
"""

_base_ = './dwnet-base_16xb64_in1k.py'

model = dict(backbone=dict(mixer='InhomogeneousDynamicDepthwiseConv'))
