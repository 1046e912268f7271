r"""Mask R-CNN, DWNet-T, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no Mask R-CNN results; not run here. The settings follow the released Cascade models.
Starts from the weights that configs/imagenet/dwnet-tiny_8xb128_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_tiny_224.pth

    bash tools/dist_train.sh configs/coco/mask-rcnn_dwnet-tiny_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/mask-rcnn_dwnet-tiny_fpn_ms-3x_coco.py \
        work_dirs/mask-rcnn_dwnet-tiny_fpn_ms-3x_coco/epoch_36.pth 8
"""

_base_ = [
    '../_base_/models/mask-rcnn_dwnet_fpn.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_adamw_3x.py',
    '../_base_/default_runtime_det.py',
]
