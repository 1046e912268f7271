"""DWNet-T as the released detection and segmentation models use it: four outputs, SyncBN.

SyncBN in the blocks and on the four outputs, trained, never frozen; every block pads its input to
multiples of the window (official mmdet fork, models/backbones/dwnet.py). A variable for the model
files beside this one; by itself it builds nothing.
"""

dwnet_pyramid = dict(
    type='mmdwnet.DWNet',
    arch='tiny',
    mixer='DepthwiseConv',
    out_indices=(0, 1, 2, 3),
    norm_cfg=dict(type='SyncBN'),
    out_norm_cfg=dict(type='SyncBN'),
    drop_path_rate=0.2,
    window_padding=True,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/dwnet-tiny_8xb128_in1k/epoch_300.pth',
        prefix='backbone.',
    ),
)
