r"""DWNet-B on ImageNet-22K: 90 epochs, 8 GPUs x 64 images x 8 accumulated batches, AMP, lr 1e-3.

The paper reports no accuracy of this step, only of what follows it; not run here.
The DWNet authors published no 22K settings: these are Swin-B's, drop path 0.2 and AMP included.
Their README says that base models could not be trained with AMP on ImageNet-1K; without it:
`--cfg-options optim_wrapper.type=OptimWrapper`.
Continues in configs/imagenet22k/dwnet-base_in22k-pre_8xb64-accum2_in1k.py and
configs/ade20k/upernet_dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512.py.

    bash tools/dist_train.sh configs/imagenet22k/dwnet-base_8xb64-accum8_in22k.py 8
    bash tools/dist_test.sh configs/imagenet22k/dwnet-base_8xb64-accum8_in22k.py \
        work_dirs/dwnet-base_8xb64-accum8_in22k/epoch_90.pth 8
"""

_base_ = [
    '../_base_/models/dwnet_cls.py',
    '../_base_/datasets/imagenet22k_224.py',
    '../_base_/schedules/imagenet22k_bs4096_adamw_90e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), head=dict(in_channels=1024, num_classes=21841))
