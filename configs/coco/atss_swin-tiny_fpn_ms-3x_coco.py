r"""ATSS, Swin-T, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

Swin paper: 47.2 box AP, 36 M parameters, 215 GFLOPs; not run here.
The baseline: mmdet's stock backbone under the protocol of the DWNet row, which says where it is from.
Starts from the official Swin weights;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/coco/atss_swin-tiny_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/atss_swin-tiny_fpn_ms-3x_coco.py \
        work_dirs/atss_swin-tiny_fpn_ms-3x_coco/epoch_36.pth 8
"""

_base_ = './atss_dwnet-tiny_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth',
        ),
    ),
)
