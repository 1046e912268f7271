"""What every ImageNet config runs under: mmpretrain's runtime, this package imported, seed 0.

From the official main.py (recipe: seed 0 + rank, cuDNN benchmark on). The released scripts keep
the checkpoint of every epoch; the last three are kept here. The visualizer is the stock one, written out because
mmpretrain's browse_dataset.py refuses what mmengine adds to the entries of another library's base (`_scope_`).
"""

_base_ = ['mmpretrain::_base_/default_runtime.py', './non_finite_guard.py']

custom_imports = dict(imports=['mmdwnet'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
env_cfg = dict(cudnn_benchmark=True)
randomness = dict(seed=0, diff_rank_seed=True)
visualizer = dict(
    _delete_=True, type='mmpretrain.UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
)
