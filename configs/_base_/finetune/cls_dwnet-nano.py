"""A classifier to fine-tune, DWNet-nano, the small one."""

_base_ = './cls_dwnet.py'

model = dict(backbone=dict(arch='nano', drop_path_rate=0.0), head=dict(in_channels=256))
