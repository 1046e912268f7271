"""The guard of every config: a step whose loss or gradient is not finite is skipped and logged.

At the eleventh in 1000 iterations the run stops; the limits: `--cfg-options custom_hooks.0.max_skipped=N`.
"""

custom_hooks = [dict(type='mmdwnet.NonFiniteGuard', max_skipped=10, window=1000)]
