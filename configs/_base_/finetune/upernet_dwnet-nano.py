"""UPerNet to fine-tune, DWNet-nano, the small one."""

_base_ = ['../models/upernet_dwnet-nano.py', './seg.py']
