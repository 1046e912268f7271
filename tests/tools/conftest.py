"""What the tests of the model converters share: checkpoints of networks that look trained."""

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from mmdwnet.engine.config import load_config


@pytest.fixture(scope='session')
def make_checkpoint():
    """Write a checkpoint of a config, no parameter and no BN statistic with its initial value; return its path."""

    def make(config, path, meta=None, overrides=None):
        torch.manual_seed(0)
        model = MODELS.build(load_config(str(config), overrides).model)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.3, 3)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() == 1 else 0.01))
        torch.save(dict(state_dict=model.state_dict(), meta=meta or {}), path)
        return str(path)

    return make
