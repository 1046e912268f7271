"""Mask R-CNN with a DWNet-nano backbone on the mini dataset: minutes on two CPU cores.

Train:  python tools/train.py configs/mini/dwnet-nano_mask-rcnn_mini.py
Test:   python tools/test.py configs/mini/dwnet-nano_mask-rcnn_mini.py work_dirs/dwnet-nano_mask-rcnn_mini/epoch_12.pth
"""

_base_ = [
    '../_base_/default_runtime_det.py',
    '../_base_/models/mask-rcnn_dwnet_fpn.py',
    '../_base_/datasets/mini_det.py',
]

num_classes = 10
max_epochs = 12
width = 64

model = dict(
    backbone=dict(arch='nano', drop_path_rate=0.0, window_padding=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=width, num_outs=4, norm_cfg=dict(type='BN')),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=num_classes),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2, num_classes=num_classes),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=500, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=20)),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
