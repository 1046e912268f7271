r"""Cascade Mask R-CNN, DWNet-B, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

Paper: 51.1 box AP, 44.2 mask AP (released weights: 51.0 / 44.1), 132 M parameters, 924 GFLOPs; not run here.
Starts from the weights that configs/imagenet/dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_base_224.pth

    bash tools/dist_train.sh configs/coco/cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco.py \
        work_dirs/cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco/epoch_36.pth 8

The released weights, as they are:

    python tools/test.py configs/coco/cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/cascade_mask_rcnn_dwnet_base.pth
"""

_base_ = './cascade-mask-rcnn_dwnet-tiny_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/dwnet-base_16xb64_in1k/epoch_300.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
