r"""UPerNet, Swin-T, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 44.5 (single scale), 60 M parameters, 947 GFLOPs; not run here.
The baseline: mmseg's stock backbone under the protocol of the DWNet rows.
Starts from mmsegmentation's copy of the official Swin weights;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/ade20k/upernet_swin-tiny_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_swin-tiny_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_swin-tiny_8xb2-160k_ade20k-512x512/iter_160000.pth 8
"""

_base_ = [
    '../_base_/models/upernet_swin.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_160k.py',
    '../_base_/default_runtime_seg.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/'
            'swin_tiny_patch4_window7_224_20220317-1cdeb081.pth',
        )
    )
)
