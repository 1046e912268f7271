"""Faster R-CNN to fine-tune, DWNet-nano: the small Mask R-CNN without its masks."""

_base_ = ['../models/mask-rcnn_dwnet-nano_fpn.py', './det_boxes.py']

model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
