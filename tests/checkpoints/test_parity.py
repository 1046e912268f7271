"""Official weights through the public ways of loading give the official outputs."""

import official_files as files
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from official_network import official_network

from mmdwnet import DWNet

LOGITS, MAPS = 2e-5, 1e-4  # maximum absolute differences
PYRAMID = dict(
    out_indices=(0, 1, 2, 3), norm_cfg=dict(type='SyncBN'), out_norm_cfg=dict(type='SyncBN'), window_padding=True
)
EVERY_MODEL = pytest.mark.parametrize('model', files.MIXERS)
TINY_CONFIGS = {
    'dwnet': 'dwnet-tiny_8xb128_in1k',
    'dynamic_dwnet': 'dynamic-dwnet-tiny_8xb128_in1k',
    'i_dynamic_dwnet': 'idynamic-dwnet-tiny_8xb64-accum2_in1k',
}


def classifier(config, **backbone):
    """A config's whole classifier, as mmpretrain's tools build it."""
    cfg = Config.fromfile(f'configs/imagenet/{config}.py')
    cfg.model.backbone.update(backbone)
    init_default_scope('mmpretrain')
    return MODELS.build(cfg.model).eval()


def pyramid(model, size, checkpoint, **init_cfg):
    """A detector's backbone with an official file as its `init_cfg`, initialised."""
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint, **init_cfg)
    net = DWNet(size, files.MIXERS[model], init_cfg=init_cfg, **PYRAMID)
    net.init_weights()
    return net.eval()


def difference(ours, official):
    assert ours.shape == official.shape
    return (ours - torch.as_tensor(official)).abs().max().item()


@EVERY_MODEL
@torch.no_grad()
def test_logits_of_tiny_are_the_reference(model, tmp_path):
    file = files.save_classifier(tmp_path / f'{model}_tiny_224.pth', files.weights(model, 'tiny', 'cls'))
    net = classifier(TINY_CONFIGS[model])
    load_checkpoint(net, file, map_location='cpu', strict=True)
    logits = net(files.reference.reference_input(2, 224, 224), mode='tensor')
    assert difference(logits, files.golden(f'{model}_tiny_cls')['logits']) < LOGITS


@pytest.mark.parametrize('model', ['dwnet', 'dynamic_dwnet'])
@torch.no_grad()
def test_maps_of_tiny_are_the_reference(model, tmp_path):
    file = files.save_detector(tmp_path / 'cascade.pth', files.weights(model, 'tiny', 'downstream'))
    net = pyramid(model, 'tiny', file, prefix='backbone.')
    expected = files.golden(f'{model}_tiny_downstream_250x190')
    maps = net(files.reference.reference_input(1, 250, 190))
    assert len(maps) == len(expected.files) == 4
    for ours, name in zip(maps, sorted(expected.files), strict=True):
        assert difference(ours[:, ::16], expected[name]) < MAPS


@torch.no_grad()
def test_the_description_of_the_official_network_gives_the_reference():
    """What the other sizes and modes are compared with."""
    logits = official_network(
        files.weights('dynamic_dwnet', 'tiny', 'cls'),
        files.reference.reference_input(2, 224, 224),
        downstream=False,
    )
    assert difference(logits, files.golden('dynamic_dwnet_tiny_cls')['logits']) < LOGITS
    expected = files.golden('dwnet_tiny_downstream_250x190')
    maps = official_network(
        files.weights('dwnet', 'tiny', 'downstream'), files.reference.reference_input(1, 250, 190), downstream=True
    )
    for found, name in zip(maps, sorted(expected.files), strict=True):
        assert difference(found[:, ::16], expected[name]) < MAPS


@EVERY_MODEL
@torch.no_grad()
def test_other_sizes_and_modes_are_the_official_network(model, tmp_path):
    """Nano as classifier, and as pyramid on an image whose every stage is padded."""
    state, image = files.weights(model, 'nano', 'cls'), files.reference.reference_input(2, 64, 96)
    net = DWNet('nano', files.MIXERS[model]).eval()
    load_checkpoint(net, files.save_classifier(tmp_path / 'cls.pth', state))
    pooled = net(image)[0].mean((2, 3))
    logits = torch.nn.functional.linear(pooled, state['head.weight'], state['head.bias'])
    assert difference(logits, official_network(state, image, downstream=False)) < LOGITS

    state, image = files.weights(model, 'nano', 'downstream'), files.reference.reference_input(1, 118, 75)
    net = pyramid(model, 'nano', files.save_detector(tmp_path / 'det.pth', state), prefix='backbone')
    for ours, official in zip(net(image), official_network(state, image, downstream=True), strict=True):
        assert difference(ours, official) < MAPS


@EVERY_MODEL
@pytest.mark.parametrize('prefix', [{}, dict(prefix='backbone.')], ids=['no-prefix', 'prefix'])
def test_a_classifier_file_becomes_the_backbone_of_a_detector(model, prefix, tmp_path):
    """The classification-to-downstream transfer: head and final norm are dropped, all the rest is there."""
    official = files.weights(model, 'nano', 'cls')
    state = pyramid(model, 'nano', files.save_classifier(tmp_path / 'cls.pth', official), **prefix).state_dict()
    kept = [value for key, value in official.items() if not key.startswith(('head.', 'norm.'))]
    ours = [value for key, value in state.items() if not key.startswith('norm_')]
    assert sorted(value.numpy().tobytes() for value in ours) == sorted(value.numpy().tobytes() for value in kept)
    assert torch.equal(
        state['stages.3.blocks.0.mixer.proj_out.weight'], official['layers.3.blocks.0.attn2conv.conv2.weight']
    )
    assert torch.equal(state['norm_bn3.weight'], torch.ones(256))


def test_module_prefix_in_the_file(tmp_path):
    official = files.weights('dynamic_dwnet', 'nano', 'cls')
    net = DWNet('nano', 'DynamicDepthwiseConv')
    load_checkpoint(
        net, files.save_classifier(tmp_path / 'c.pth', {f'module.{k}': v for k, v in official.items()})
    )
    assert torch.equal(net.state_dict()['patch_embed.proj.weight'], official['patch_embed.proj.weight'])
