r"""Dynamic DWNet-B on ImageNet-22K: 90 epochs, 8 GPUs x 64 images x 8 accumulated batches, AMP, lr 1e-3.

The paper reports no accuracy of this step, only of what follows it; not run here.
The settings are Swin-B's, as in dwnet-base_8xb64-accum8_in22k.py, which says how to train without AMP.
Continues in configs/imagenet22k/dynamic-dwnet-base_in22k-pre_8xb64-accum2_in1k.py and
configs/ade20k/upernet_dynamic-dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512.py.

    bash tools/dist_train.sh configs/imagenet22k/dynamic-dwnet-base_8xb64-accum8_in22k.py 8
    bash tools/dist_test.sh configs/imagenet22k/dynamic-dwnet-base_8xb64-accum8_in22k.py \
        work_dirs/dynamic-dwnet-base_8xb64-accum8_in22k/epoch_90.pth 8
"""

_base_ = './dwnet-base_8xb64-accum8_in22k.py'

model = dict(backbone=dict(mixer='DynamicDepthwiseConv'))
