"""Mask R-CNN to fine-tune, DWNet-T, from random weights unless a config over it names others."""

_base_ = ['../models/mask-rcnn_dwnet_fpn.py', './det.py']

model = dict(backbone=dict(init_cfg=None))
