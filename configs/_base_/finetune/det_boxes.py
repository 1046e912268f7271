"""What det.py has, for data that have boxes and no masks."""

_base_ = './det.py'

load_objects = dict(_base_.load_objects, with_mask=False)
load = [_base_.load_image, load_objects]
val_evaluator = dict(metric=['bbox'])
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
