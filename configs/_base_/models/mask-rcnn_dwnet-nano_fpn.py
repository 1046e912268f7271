"""A Mask R-CNN that trains in minutes on two CPU cores: DWNet-nano, 64 channels, few proposals.

The smaller heads, anchors and numbers of regions fit images of about 128 x 128 with a handful of objects.
"""

_base_ = './mask-rcnn_dwnet_fpn.py'

width = 64
roi_extractor = dict(out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(arch='nano', drop_path_rate=0.0, window_padding=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=width, num_outs=4, norm_cfg=dict(type='BN')),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=2,
            num_shared_fcs=1,
            norm_cfg=dict(type='BN'),
            in_channels=width,
            conv_out_channels=width,
            fc_out_channels=256,
            num_classes=10,
        ),
        mask_roi_extractor=roi_extractor,
        mask_head=dict(
            in_channels=width, conv_out_channels=width, num_convs=2, num_classes=10, norm_cfg=dict(type='BN')
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(sampler=dict(num=16)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=20)),
)
