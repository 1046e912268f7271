r"""UPerNet, Swin-B from ImageNet-22K, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 49.4 (single scale), 121 M parameters, 1192 GFLOPs; not run here.
Only the weights that it starts from differ from the config without in22k-pre. No source tells whether
the paper's started from the 22K weights or from those fine-tuned on 1K: as in Swin, from 22K here.
Starts from mmsegmentation's copy of the official Swin 22K weights;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/ade20k/upernet_swin-base_in22k-pre_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_swin-base_in22k-pre_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_swin-base_in22k-pre_8xb2-160k_ade20k-512x512/iter_160000.pth 8
"""

_base_ = './upernet_swin-base_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/'
            'swin_base_patch4_window7_224_22k_20220317-4f79f7c0.pth'
        )
    )
)
