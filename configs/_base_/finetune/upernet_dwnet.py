"""UPerNet to fine-tune, DWNet-T, from random weights unless a config over it names others."""

_base_ = ['../models/upernet_dwnet.py', './seg.py']

model = dict(backbone=dict(init_cfg=None))
