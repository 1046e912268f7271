r"""DWNet-B, ImageNet-22K to 1K: 30 epochs, 8 GPUs x 64 images x 2 accumulated batches, AMP, lr 4e-5.

Paper: top-1 84.8, 74 M parameters, 12.9 GFLOPs; not run here.
The settings are Swin-B's: the DWNet authors published none.
Starts from the 22K weights with 1000 rows of their head, picked by Swin's data/map22kto1k.txt:

    python tools/model_converters/remap_head_22k_to_1k.py \
        work_dirs/dwnet-base_8xb64-accum8_in22k/epoch_90.pth map22kto1k.txt \
        work_dirs/dwnet-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth
    bash tools/dist_train.sh configs/imagenet22k/dwnet-base_in22k-pre_8xb64-accum2_in1k.py 8
    bash tools/dist_test.sh configs/imagenet22k/dwnet-base_in22k-pre_8xb64-accum2_in1k.py \
        work_dirs/dwnet-base_in22k-pre_8xb64-accum2_in1k/epoch_30.pth 8
"""

_base_ = [
    '../_base_/models/dwnet_cls.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet22k_to_1k_bs1024_adamw_30e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), head=dict(in_channels=1024))
load_from = 'work_dirs/dwnet-base_8xb64-accum8_in22k/epoch_90_in1k-head.pth'
