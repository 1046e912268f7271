r"""Cascade Mask R-CNN, I-dynamic DWNet-B, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

Paper: 51.8 box AP, 44.8 mask AP, 137 M parameters, 948 GFLOPs; not run here.
Starts from the weights that configs/imagenet/idynamic-dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.
No source gives downstream settings of I-dynamic DWNet: these are the static one's.
There are no released weights of I-dynamic DWNet.

    bash tools/dist_train.sh configs/coco/cascade-mask-rcnn_idynamic-dwnet-base_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/cascade-mask-rcnn_idynamic-dwnet-base_fpn_ms-3x_coco.py \
        work_dirs/cascade-mask-rcnn_idynamic-dwnet-base_fpn_ms-3x_coco/epoch_36.pth 8
"""

_base_ = './cascade-mask-rcnn_dwnet-base_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        mixer='InhomogeneousDynamicDepthwiseConv',
        init_cfg=dict(checkpoint='work_dirs/idynamic-dwnet-base_16xb64_in1k/epoch_300.pth'),
    )
)
