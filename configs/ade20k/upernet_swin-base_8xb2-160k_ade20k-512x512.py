r"""UPerNet, Swin-B, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 48.1 (single scale), 121 M parameters, 1192 GFLOPs; not run here.
The baseline: mmseg's stock backbone under the protocol of the DWNet rows.
Starts from mmsegmentation's copy of the official Swin weights;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/ade20k/upernet_swin-base_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_swin-base_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_swin-base_8xb2-160k_ade20k-512x512/iter_160000.pth 8
"""

_base_ = './upernet_swin-tiny_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/'
            'swin_base_patch4_window7_224_20220317-e9b98025.pth'
        ),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
