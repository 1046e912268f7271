"""Entry points of torch.hub: the classifiers, as timm has them.

    net = torch.hub.load(REPOSITORY, 'dwnet_tiny', source='local')

Their arguments are those of `timm.create_model`: pretrained, num_classes, in_chans, features_only and the rest.
"""

from mmdwnet.timm_models import (  # noqa: F401
    dwnet_base,
    dwnet_nano,
    dwnet_tiny,
    dynamic_dwnet_base,
    dynamic_dwnet_nano,
    dynamic_dwnet_tiny,
    idynamic_dwnet_base,
    idynamic_dwnet_nano,
    idynamic_dwnet_tiny,
)

dependencies = ['torch', 'torchvision', 'mmengine', 'mmcv', 'timm', 'yaml']
