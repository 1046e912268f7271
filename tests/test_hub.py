"""torch.hub: every net by its name, out of a checkout."""

from pathlib import Path

import pytest
import timm
import torch

from mmdwnet import timm_models

ROOT = Path(__file__).resolve().parents[1]


def load(name, **kwargs):
    return torch.hub.load(str(ROOT), name, source='local', **kwargs)


@pytest.mark.parametrize('name', ['dwnet_nano', 'dynamic_dwnet_nano', 'idynamic_dwnet_nano', 'dwnet_tiny'])
def test_a_net_is_that_of_timm(name):
    net = load(name, num_classes=5).eval()
    twin = timm.create_model(name, num_classes=5).eval()
    twin.load_state_dict(net.state_dict())
    images = torch.randn(1, 3, 50, 41)
    with torch.no_grad():
        assert torch.equal(net(images), twin(images))


def test_every_net_is_an_entry_point_with_a_docstring():
    hub = torch.hub._import_module('hubconf', str(ROOT / 'hubconf.py'))
    entries = {name for name in dir(hub) if callable(getattr(hub, name)) and not name.startswith('_')}
    assert entries == set(timm_models.NAMES)
    for name in entries:
        assert 'DWNet' in getattr(hub, name).__doc__
    assert {'torch', 'timm'} <= set(hub.dependencies)


def test_an_unknown_name_is_refused():
    with pytest.raises(RuntimeError, match='Cannot find callable dwnet_tinny in hubconf'):
        load('dwnet_tinny')
