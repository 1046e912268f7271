r"""Dynamic DWNet-B, ImageNet-22K to 1K: 30 epochs, 8 GPUs x 64 images x 2 accumulated batches, AMP, lr 4e-5.

Paper: top-1 85.0, 162 M parameters, 13.0 GFLOPs; not run here.
The settings are Swin-B's, as in dwnet-base_in22k-pre_8xb64-accum2_in1k.py.
Starts from the 22K weights with 1000 rows of their head, picked by Swin's data/map22kto1k.txt:

    python tools/model_converters/remap_head_22k_to_1k.py \
        work_dirs/dynamic-dwnet-base_8xb64-accum8_in22k/epoch_90.pth map22kto1k.txt \
        work_dirs/dynamic-dwnet-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth
    bash tools/dist_train.sh configs/imagenet22k/dynamic-dwnet-base_in22k-pre_8xb64-accum2_in1k.py 8
    bash tools/dist_test.sh configs/imagenet22k/dynamic-dwnet-base_in22k-pre_8xb64-accum2_in1k.py \
        work_dirs/dynamic-dwnet-base_in22k-pre_8xb64-accum2_in1k/epoch_30.pth 8
"""

_base_ = './dwnet-base_in22k-pre_8xb64-accum2_in1k.py'

model = dict(backbone=dict(mixer='DynamicDepthwiseConv'))
load_from = 'work_dirs/dynamic-dwnet-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth'
