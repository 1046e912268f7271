"""ImageNet classifier with Swin-T as this package builds it, so that its mixer can be exchanged.

Drop path: 0.2 for tiny, 0.5 for base. Head, label mixing and initialisation are those of dwnet_cls.py.
"""

_base_ = './dwnet_cls.py'

model = dict(backbone=dict(arch='swin-tiny', mixer=None))  # None: the arch's own, attention in shifted windows
