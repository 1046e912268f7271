r"""Mask R-CNN, DWNet-B, FPN, 1x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no Mask R-CNN results; not run here. The settings follow the released Cascade models.
Starts from the weights that configs/imagenet/dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_base_224.pth

    bash tools/dist_train.sh configs/coco/mask-rcnn_dwnet-base_fpn_1x_coco.py 8
    bash tools/dist_test.sh configs/coco/mask-rcnn_dwnet-base_fpn_1x_coco.py \
        work_dirs/mask-rcnn_dwnet-base_fpn_1x_coco/epoch_12.pth 8
"""

_base_ = './mask-rcnn_dwnet-tiny_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/dwnet-base_16xb64_in1k/epoch_300.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
