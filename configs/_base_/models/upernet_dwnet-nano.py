"""A UPerNet that trains in minutes on two CPU cores: DWNet-nano and heads of 64 channels."""

_base_ = './upernet_dwnet.py'

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='nano', drop_path_rate=0.0, window_padding=False, init_cfg=None),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=11),
)
