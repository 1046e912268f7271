r"""Mask R-CNN, Swin-B, FPN, 1x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no Mask R-CNN results; not run here.
The baseline: mmdet's stock backbone under the protocol of the DWNet rows.
Starts from the official Swin weights;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/coco/mask-rcnn_swin-base_fpn_1x_coco.py 8
    bash tools/dist_test.sh configs/coco/mask-rcnn_swin-base_fpn_1x_coco.py \
        work_dirs/mask-rcnn_swin-base_fpn_1x_coco/epoch_12.pth 8
"""

_base_ = './mask-rcnn_swin-tiny_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth'
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
