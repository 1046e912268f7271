"""What every ADE20K config runs under: mmseg's runtime (cuDNN benchmark on), this package
imported, seed 0."""

_base_ = ['./mmseg_package.py', 'mmseg::_base_/default_runtime.py', './non_finite_guard.py']

custom_imports = dict(imports=['mmdwnet'], allow_failed_imports=False)
randomness = dict(seed=0, diff_rank_seed=True)
