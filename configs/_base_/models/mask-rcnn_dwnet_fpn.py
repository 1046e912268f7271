"""Mask R-CNN with a DWNet-T backbone: mmdet's Mask R-CNN R-50 FPN, backbone exchanged."""

_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './dwnet_pyramid.py']

model = dict(
    backbone=dict(_base_.dwnet_pyramid, _delete_=True),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
