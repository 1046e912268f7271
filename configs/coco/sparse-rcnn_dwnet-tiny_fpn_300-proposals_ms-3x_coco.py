r"""Sparse R-CNN, DWNet-T, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, no AMP.

The paper has no Sparse R-CNN results; not run here.
Data, schedule and optimizer (AdamW, lr 2.5e-5, weight decay 1e-4, gradients clipped at 1) are those of
mmdetection's own config; the Swin paper states lr 1e-4 and 0.05 for all its detectors:
`--cfg-options optim_wrapper.optimizer.lr=1e-4 optim_wrapper.optimizer.weight_decay=0.05`.
Starts from the weights that configs/imagenet/dwnet-tiny_8xb128_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/coco/sparse-rcnn_dwnet-tiny_fpn_300-proposals_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/sparse-rcnn_dwnet-tiny_fpn_300-proposals_ms-3x_coco.py \
        work_dirs/sparse-rcnn_dwnet-tiny_fpn_300-proposals_ms-3x_coco/epoch_36.pth 8
"""

_base_ = [
    'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py',
    '../_base_/coco_stock_detector.py',
]

model = dict(
    backbone=dict(_base_.dwnet_pyramid, _delete_=True),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
