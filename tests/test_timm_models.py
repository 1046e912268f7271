"""DWNets as timm has its models: what timm asks of one, and the outputs and weights of mmpretrain's classifier."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import mmdwnet
import mmdwnet.timm_models
from mmdwnet.backbones.archs import PYRAMID_ARCHS
from mmdwnet.checkpoints import ours_to_official
from mmdwnet.timm_models import SIZES

ROOT = Path(__file__).resolve().parents[1]
NETS = ('dwnet', 'dynamic_dwnet', 'idynamic_dwnet')
ODD = torch.randn(2, 3, 67, 93, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def classifier():
    """mmpretrain's classifier, no entry as it is initialised."""
    model = mmdwnet.load_model('dynamic-dwnet-nano')
    torch.manual_seed(1)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) if value.dim() == 1 else torch.randn_like(value) * 0.05)
    return model


def expected(classifier, images):
    with torch.no_grad():
        return classifier.head(classifier.extract_feat(images))


def save_official(classifier, path, **extra):
    torch.save({'model': ours_to_official(classifier.state_dict()), **extra}, path)
    return str(path)


def test_every_net_is_registered_in_every_size_of_its_own():
    assert [name for name, arch in PYRAMID_ARCHS.items() if arch.block == 'dwnet'] == list(SIZES)
    assert set(timm.list_models('*dwnet*')) == {f'{net}_{size}' for net in NETS for size in SIZES}
    assert set(timm.list_pretrained('*dwnet*')) == {
        f'{net}_{size}.in1k' for net in NETS[:2] for size in ('tiny', 'base')
    }
    with pytest.raises(RuntimeError, match='No pretrained weights exist for idynamic_dwnet_tiny'):
        timm.create_model('idynamic_dwnet_tiny', pretrained=True)


@pytest.mark.parametrize(('name', 'millions'), [('dwnet_tiny', 24.17), ('dynamic_dwnet_tiny', 51.13)])
def test_sizes_are_those_of_the_classifiers(name, millions):
    model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize('net', NETS)
def test_logits_features_and_head_of_odd_sizes(net):
    model = timm.create_model(f'{net}_nano', num_classes=7).eval()
    with torch.no_grad():
        features = model.forward_features(ODD)
        assert features.shape == (2, model.num_features, 3, 3)
        assert torch.equal(model.forward_head(features), model(ODD))
        assert model.forward_head(features, pre_logits=True).shape == (2, 256)
        assert model(ODD).shape == (2, 7)
        assert model(ODD.new_zeros(1, 3, 33, 200)).shape == (1, 7)


@pytest.mark.parametrize('net', NETS)
@pytest.mark.parametrize('indices', [(0, 1, 2, 3), (1, 3), (0, 2), (-1,), (2,)])
def test_features_only_has_the_shapes_that_it_declares(net, indices):
    model = timm.create_model(f'{net}_nano', features_only=True, out_indices=indices).eval()
    with torch.no_grad():
        maps = model(ODD)
    assert len(maps) == len(indices)
    for found, channels, stride in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert found.shape == (2, channels, -(-67 // stride), -(-93 // stride))
        assert found.is_contiguous()
    # nothing is left that the maps do not need
    model.train()(ODD)[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_features_are_those_of_the_backbone_before_its_norms(classifier, tmp_path):
    features = timm.create_model(
        'dynamic_dwnet_nano',
        pretrained=True,
        pretrained_cfg_overlay=dict(file=save_official(classifier, tmp_path / 'official.pth')),
        features_only=True,
    ).eval()
    backbone = mmdwnet.DWNet('nano', 'DynamicDepthwiseConv', out_indices=(0, 1, 2, 3), out_norm_cfg=None).eval()
    backbone.load_state_dict(
        {key: value for key, value in classifier.backbone.state_dict().items() if not key.startswith('norm_')}
    )
    with torch.no_grad():
        for found, wanted in zip(features(ODD), backbone(ODD), strict=True):
            torch.testing.assert_close(found, wanted)


def test_intermediates_with_the_final_norm():
    model = timm.create_model('dwnet_nano').eval()
    with torch.no_grad():
        last, maps = model.forward_intermediates(ODD, indices=2, norm=True)
        assert [found.shape[1] for found in maps] == [128, 256]
        torch.testing.assert_close(last, model.forward_features(ODD))
        torch.testing.assert_close(maps[-1], last)
        assert len(model.forward_intermediates(ODD, indices=[0], stop_early=True, intermediates_only=True)) == 1
    with pytest.raises(ValueError, match="output_fmt='NLC': expected 'NCHW'"):
        model.forward_intermediates(ODD, output_fmt='NLC')


def test_logits_are_those_of_mmpretrains_classifier(classifier):
    model = timm.create_model('dynamic_dwnet_nano', num_classes=10).eval()
    model.load_state_dict(classifier.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(ODD), expected(classifier, ODD))


class TestWeights:
    """Checkpoints into a timm model."""

    @pytest.mark.parametrize('layout', ['official', 'ours'])
    def test_a_checkpoint_path_of_either_layout(self, classifier, tmp_path, layout):
        path = str(tmp_path / 'weights.pth')
        if layout == 'official':
            save_official(classifier, path, epoch=299)
        else:
            torch.save(dict(state_dict=classifier.state_dict(), meta={}), path)
        model = timm.create_model('dynamic_dwnet_nano', num_classes=10, checkpoint_path=path).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(ODD), expected(classifier, ODD))

    @pytest.mark.parametrize('custom_load', [False, True])
    def test_pretrained_from_a_file_with_other_classes_and_channels(self, classifier, tmp_path, custom_load):
        path = save_official(classifier, tmp_path / 'official.pth')
        # custom_load is how the published URLs are loaded
        overlay = dict(file=path, num_classes=10, custom_load=custom_load)
        options = dict(pretrained=True, pretrained_cfg_overlay=overlay)
        same = timm.create_model('dynamic_dwnet_nano', **options).eval()
        with torch.no_grad():
            torch.testing.assert_close(same(ODD), expected(classifier, ODD))
        other = timm.create_model('dynamic_dwnet_nano', num_classes=5, in_chans=1, **options).eval()
        assert other(ODD[:, :1]).shape == (2, 5)
        torch.testing.assert_close(other.backbone.stages.state_dict(), classifier.backbone.stages.state_dict())
        grey = classifier.backbone.patch_embed.proj.weight.sum(1, keepdim=True)
        torch.testing.assert_close(other.backbone.patch_embed.proj.weight, grey)

    def test_a_checkpoint_of_another_net_is_refused(self, classifier, tmp_path):
        path = save_official(classifier, tmp_path / 'official.pth')
        with pytest.raises(ValueError, match='does not fit DWNet'):
            timm.create_model('dwnet_nano', checkpoint_path=path)


def test_what_training_asks_for():
    from timm.models import group_parameters
    from timm.optim import create_optimizer_v2

    model = timm.create_model('dwnet_nano', num_classes=4, drop_path_rate=0.3, drop_rate=0.1)
    model.set_grad_checkpointing()
    model(ODD).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    groups = group_parameters(model, model.group_matcher())
    assert sum(len(names) for names in groups.values()) == len(list(model.parameters()))
    scales = [g['lr_scale'] for g in create_optimizer_v2(model, 'adamw', lr=1e-3, layer_decay=0.5).param_groups]
    assert max(scales) == 1 and min(scales) == pytest.approx(0.5 ** (len(set(scales)) - 1))
    model.reset_classifier(9)
    assert model(ODD).shape == (2, 9)
    assert model.get_classifier().out_features == model.num_classes == 9
    model.reset_classifier(0, '')
    assert model(ODD).shape == (2, 256, 3, 3)
    with pytest.raises(TypeError, match='drop_pat_rate'):
        timm.create_model('dwnet_nano', drop_pat_rate=0.1)


def test_defaults_say_how_images_are_prepared():
    config = timm.data.resolve_data_config(model=timm.create_model('dwnet_nano'))
    assert config['input_size'] == (3, 224, 224)
    assert config['crop_pct'] == 0.875
    assert config['interpolation'] == 'bicubic'


def test_without_timm_the_reason_is_one_line(tmp_path):
    (tmp_path / 'timm.py').write_text("raise ImportError('No module named timm')\n")
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import mmdwnet.timm_models'
    command = [sys.executable, '-W', 'ignore', '-c', code, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert 'ImportError: mmdwnet.timm_models needs timm 1.0 or newer' in result.stderr.splitlines()[-1]
    assert 'pip install timm' in result.stderr.splitlines()[-1]
