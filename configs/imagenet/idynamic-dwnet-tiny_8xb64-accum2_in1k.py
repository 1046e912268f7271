r"""I-dynamic DWNet-T on ImageNet-1K: 300 epochs, 8 GPUs x 64 images x 2 accumulated batches, no AMP, lr 1e-3.

Paper: top-1 81.8, ReaL 87.1, 26 M parameters, 3.95 GFLOPs; not run here.
The FLOPs were published for another number of groups than the parameters, which fit the 32 used here.
There are no released weights of I-dynamic DWNet.

    bash tools/dist_train.sh configs/imagenet/idynamic-dwnet-tiny_8xb64-accum2_in1k.py 8
    bash tools/dist_test.sh configs/imagenet/idynamic-dwnet-tiny_8xb64-accum2_in1k.py \
        work_dirs/idynamic-dwnet-tiny_8xb64-accum2_in1k/epoch_300.pth 8
"""

_base_ = [
    '../_base_/models/dwnet_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(mixer='InhomogeneousDynamicDepthwiseConv'))
optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=512)  # --auto-scale-lr counts 8 x 64, not the accumulation
