"""Mask R-CNN to fine-tune, DWNet-nano, the small one."""

_base_ = ['../models/mask-rcnn_dwnet-nano_fpn.py', './det.py']
