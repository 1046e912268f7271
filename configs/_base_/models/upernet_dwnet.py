"""UPerNet with a DWNet-T backbone on ADE20K: the Swin-T one, backbone exchanged.

Drop path is 0.3 for tiny and base alike (official mmseg fork, configs/dwnet/upernet_dwnet_*.py).
"""

_base_ = ['./upernet_swin.py', './dwnet_pyramid.py']

model = dict(backbone=dict(_base_.dwnet_pyramid, _delete_=True, drop_path_rate=0.3))
