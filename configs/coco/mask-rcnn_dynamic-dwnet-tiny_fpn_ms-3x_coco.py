r"""Mask R-CNN, dynamic DWNet-T, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no Mask R-CNN results; not run here. The settings follow the released Cascade models.
Starts from the weights that configs/imagenet/dynamic-dwnet-tiny_8xb128_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dynamic_dwnet_tiny_224.pth

    bash tools/dist_train.sh configs/coco/mask-rcnn_dynamic-dwnet-tiny_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/mask-rcnn_dynamic-dwnet-tiny_fpn_ms-3x_coco.py \
        work_dirs/mask-rcnn_dynamic-dwnet-tiny_fpn_ms-3x_coco/epoch_36.pth 8
"""

_base_ = './mask-rcnn_dwnet-tiny_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        mixer='DynamicDepthwiseConv',
        init_cfg=dict(checkpoint='work_dirs/dynamic-dwnet-tiny_8xb128_in1k/epoch_300.pth'),
    )
)
