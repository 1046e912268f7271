"""ImageNet classifier with NAT-Mini. Drop path: 0.2 for mini and tiny, 0.3 for small, 0.5 for base.

From SHI-Labs/Neighborhood-Attention-Transformer, classification/nat.py at 3cf9a29. Head, label mixing and
initialisation are those of dwnet_cls.py, which are NAT's too.
"""

_base_ = './dwnet_cls.py'

model = dict(backbone=dict(arch='nat-mini', mixer=None), head=dict(in_channels=512))  # None: the arch's own
