"""A classifier to fine-tune, DWNet-T: without mixup, so that the loss that is shown is that of the images."""

_base_ = ['../models/dwnet_cls.py', './cls.py']

model = dict(train_cfg=None)
