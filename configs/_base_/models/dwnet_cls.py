"""ImageNet classifier with a DWNet-T backbone: mmpretrain's Swin-T classifier, backbone exchanged.

Head (linear, label smoothing 0.1), mixup 0.8 / cutmix 1.0 and the initialisation of Linear and
LayerNorm are the stock base's, which are the official ones too. The final LayerNorm is inside the
backbone. Drop path: 0.2 for tiny, 0.5 for base (configs/dwnet_*_224.yaml of the official code).
"""

_base_ = 'mmpretrain::_base_/models/swin_transformer/tiny_224.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdwnet.DWNet',
        arch='tiny',
        mixer='DepthwiseConv',
        drop_path_rate=0.2,
    )
)
