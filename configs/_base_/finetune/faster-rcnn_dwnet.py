"""Faster R-CNN to fine-tune, DWNet-T: the Mask R-CNN without its masks."""

_base_ = ['../models/mask-rcnn_dwnet_fpn.py', './det_boxes.py']

model = dict(
    type='FasterRCNN', backbone=dict(init_cfg=None), roi_head=dict(mask_roi_extractor=None, mask_head=None)
)
