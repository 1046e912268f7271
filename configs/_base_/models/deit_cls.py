"""ImageNet classifier with DeiT-S as this package builds it: class token, absolute position, softmax.

A linear head on the class token. Without one the map needs a GlobalAveragePooling as its neck. Label
smoothing 0.1, mixup 0.8 and cutmix 1.0 are those of dwnet_cls.py. Drop path is 0.1 for every size (table 4 of Zhou
et al., "Interpret Vision Transformers as ConvNets with Dynamic Convolutions").
"""

_base_ = './dwnet_cls.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdwnet.IsotropicNet',
        arch='deit-small',
        mixer=dict(type='GlobalAttention', activation='softmax', relative_position=False),
        class_token=True,
        absolute_position=True,
        drop_path_rate=0.1,
    ),
    neck=None,
    head=dict(in_channels=384),
)
