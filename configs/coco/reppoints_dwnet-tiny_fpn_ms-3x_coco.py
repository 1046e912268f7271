r"""RepPoints, DWNet-T, FPN, multi-scale 3x schedule on COCO: 8 GPUs x 2 images, AMP.

The paper has no RepPoints results; not run here.
mmdetection's RepPoints (moment, GN in neck and head) with the Swin paper's settings (section 4.2).
Starts from the weights that configs/imagenet/dwnet-tiny_8xb128_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/coco/reppoints_dwnet-tiny_fpn_ms-3x_coco.py 8
    bash tools/dist_test.sh configs/coco/reppoints_dwnet-tiny_fpn_ms-3x_coco.py \
        work_dirs/reppoints_dwnet-tiny_fpn_ms-3x_coco/epoch_36.pth 8
"""

_base_ = ['mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py', '../_base_/coco_stock_detector.py']

# the FPN starts at stride 8: an output that nothing reads would have no gradient
model = dict(
    backbone=dict(_base_.dwnet_pyramid, _delete_=True, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[192, 384, 768], start_level=0),
)
train_pipeline = _base_.boxes_pipeline
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(_base_.adamw_amp, _delete_=True)
train_cfg = dict(max_epochs=36)
param_scheduler = _base_.steps_3x
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
