"""What det.py has, for data that have boxes and no masks."""

_base_ = './det.py'

load_objects = dict(type='LoadAnnotations', with_bbox=True, _scope_='mmdet')
load = [_base_.load_image, load_objects]
val_evaluator = dict(metric=['bbox'])
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
