"""12 epochs of AdamW with AMP, for 8 GPUs x 2 images; steps at 8 and 11, warm-up of 500 iterations.

The optimizer is coco_adamw.py's; schedule and batch are the stock base's.
"""

_base_ = ['mmdet::_base_/schedules/schedule_1x.py', './coco_adamw.py']

optim_wrapper = dict(_base_.adamw_amp, _delete_=True)
