"""36 epochs, steps at 27 and 33; the rest as in the 1x schedule."""

_base_ = './coco_adamw_1x.py'

train_cfg = dict(max_epochs=36)
param_scheduler = _base_.steps_3x
