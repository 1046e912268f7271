"""Child registries of mmengine's, in the scope `mmdwnet`.

A config of any OpenMMLab library names what lives here by that scope, `type='mmdwnet.DWNet'`; mmengine
imports this file by itself when it meets the scope, and `locations` say which modules hold the entries.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

# token mixers, backbones and norm layers
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmdwnet',
    locations=['mmdwnet.mixers', 'mmdwnet.backbones'],
)

METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmdwnet',
    locations=['mmdwnet.evaluation'],
)

HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.amp', 'mmdwnet.engine.nonfinite'],
)

OPTIM_WRAPPERS = Registry(
    'optim wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.amp'],
)
