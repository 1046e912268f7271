"""Cascade Mask R-CNN with a DWNet-T backbone: mmdet's R-50 FPN one, backbone and box heads exchanged.

Box heads as in the released models (official mmdet fork, configs/dwnet/cascade_mask_rcnn_*.py):
4 convs (SyncBN) + 1 fc, boxes per class, and a GIoU loss on decoded boxes.
"""

_base_ = ['mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py', './dwnet_pyramid.py']

model = dict(
    backbone=dict(_base_.dwnet_pyramid, _delete_=True),
    neck=dict(in_channels=[96, 192, 384, 768]),
    roi_head=dict(
        bbox_head=[
            dict(
                type='ConvFCBBoxHead',
                num_shared_convs=4,
                num_shared_fcs=1,
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=target_stds),
                reg_class_agnostic=False,
                reg_decoded_bbox=True,
                norm_cfg=dict(type='SyncBN', requires_grad=True),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
            )
            # the three stages differ in the scale of their targets only
            for target_stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ]
    ),
)
