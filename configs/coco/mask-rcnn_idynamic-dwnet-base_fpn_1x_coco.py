r"""Mask R-CNN, I-dynamic DWNet-B, FPN, 1x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no Mask R-CNN results; not run here. The settings follow the released Cascade models.
Starts from the weights that configs/imagenet/idynamic-dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.
No source gives downstream settings of I-dynamic DWNet: these are the static one's.

    bash tools/dist_train.sh configs/coco/mask-rcnn_idynamic-dwnet-base_fpn_1x_coco.py 8
    bash tools/dist_test.sh configs/coco/mask-rcnn_idynamic-dwnet-base_fpn_1x_coco.py \
        work_dirs/mask-rcnn_idynamic-dwnet-base_fpn_1x_coco/epoch_12.pth 8
"""

_base_ = './mask-rcnn_dwnet-base_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        mixer='InhomogeneousDynamicDepthwiseConv',
        init_cfg=dict(checkpoint='work_dirs/idynamic-dwnet-base_16xb64_in1k/epoch_300.pth'),
    )
)
