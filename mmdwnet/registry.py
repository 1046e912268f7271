"""Child registries of mmengine's, in the scope `mmdwnet`.

A config of any OpenMMLab library names what lives here by that scope, `type='mmdwnet.DWNet'`; mmengine
imports this file by itself when it meets the scope, and `locations` say which modules hold the entries.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import Registry

# token mixers, backbones, norm layers, and the classifier with a teacher
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmdwnet',
    locations=['mmdwnet.mixers', 'mmdwnet.backbones', 'mmdwnet.engine.distillation'],
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
    locations=[
        'mmdwnet.engine.amp',
        'mmdwnet.engine.bad_samples',
        'mmdwnet.engine.checkpoint_hook',
        'mmdwnet.engine.exact_resume',
        'mmdwnet.engine.mean_losses',
        'mmdwnet.engine.nonfinite',
        'mmdwnet.engine.preemption',
        'mmdwnet.engine.run_report_hook',
    ],
)

DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.data_order'],
)

LOOPS = Registry(
    'loop',
    parent=MMENGINE_LOOPS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.loops'],
)

OPTIMIZERS = Registry(
    'optimizer',
    parent=MMENGINE_OPTIMIZERS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.sharding'],
)

OPTIM_WRAPPERS = Registry(
    'optim wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmdwnet',
    locations=['mmdwnet.engine.amp'],
)
