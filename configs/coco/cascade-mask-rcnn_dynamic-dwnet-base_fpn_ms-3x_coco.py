r"""Cascade Mask R-CNN, dynamic DWNet-B, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

Paper: 51.2 box AP, 44.4 mask AP, 219 M parameters, 924 GFLOPs; not run here.
Starts from the weights that configs/imagenet/dynamic-dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dynamic_dwnet_base_224.pth

    bash tools/dist_train.sh configs/coco/cascade-mask-rcnn_dynamic-dwnet-base_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/cascade-mask-rcnn_dynamic-dwnet-base_fpn_ms-3x_coco.py \
        work_dirs/cascade-mask-rcnn_dynamic-dwnet-base_fpn_ms-3x_coco/epoch_36.pth 8

The released weights, as they are:

    python tools/test.py configs/coco/cascade-mask-rcnn_dynamic-dwnet-base_fpn_ms-3x_coco.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/cascade_mask_rcnn_dynamic_dwnet_base.pth
"""

_base_ = './cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        mixer='DynamicDepthwiseConv',
        init_cfg=dict(checkpoint='work_dirs/dynamic-dwnet-base_16xb64_in1k/epoch_300.pth'),
    )
)
