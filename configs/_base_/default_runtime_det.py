"""What every COCO config runs under: mmdet's runtime, this package imported, seed 0.

The last three checkpoints are kept, where the stock runtime keeps one per epoch.
"""

_base_ = ['mmdet::_base_/default_runtime.py', './non_finite_guard.py']

custom_imports = dict(imports=['mmdwnet'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0, diff_rank_seed=True)
