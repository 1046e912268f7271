"""What the tools ask of a checkpoint before they start: all of the model, both sides named, classes aside."""

import functools

import official_files as files
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmdwnet.checkpoints import load_as_ours, official_to_ours
from mmdwnet.checkpoints.fit import check_fit
from mmdwnet.engine import checkpoint_checks
from mmdwnet.engine.checkpoint_checks import check_checkpoints
from mmdwnet.engine.config import load_config
from mmdwnet.engine.preflight import check_backbone
from mmdwnet.errors import UserError

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
EVERY_TASK = pytest.mark.parametrize('config', [CLS, DET, SEG])


@functools.cache
def state_dict(config):
    """The weights of a config's model, as a training would save them."""
    cfg = load_config(config)
    return MODELS.build(cfg.model).state_dict()


def checked(config, phase='train', resume=False, work_dir='.', **overrides):
    init_cfg = overrides.pop('init_cfg', None)
    cfg = load_config(config, overrides)
    cfg.model.backbone.init_cfg, cfg.resume, cfg.work_dir = init_cfg, resume, str(work_dir)
    check_checkpoints(cfg, check_backbone(cfg.model.backbone), phase)


def refused(match, *args, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        checked(*args, **kwargs)
    assert '\n' not in str(error.value)


def save(path, content):
    torch.save(content, path)
    return str(path)


@pytest.fixture
def warnings(monkeypatch):
    """What the checks log."""
    lines = []
    monkeypatch.setattr(checkpoint_checks, 'print_log', lambda line, *args: lines.append(line))
    return lines


class TestWholeModel:
    @EVERY_TASK
    def test_its_own_weights_fit(self, config, tmp_path, warnings):
        for state in (state_dict(config), {f'module.{key}': value for key, value in state_dict(config).items()}):
            path = save(tmp_path / 'a.pth', {'state_dict': state})
            checked(config, 'train', load_from=path)
            checked(config, 'test', load_from=path)
        assert not warnings

    @EVERY_TASK
    @pytest.mark.parametrize('phase', ['train', 'test'])
    def test_a_missing_and_an_unknown_entry_are_named(self, config, phase, tmp_path):
        state = dict(state_dict(config))
        last = [key for key in state if not key.startswith('backbone.') and key.endswith('.bias')][-1]
        state['extra.weight'] = state.pop(last)
        path = save(tmp_path / 'a.pth', {'state_dict': state})
        match = rf'a.pth: .*1 entries missing from it \({last}\), 1 entries unknown here \(extra.weight\)'
        refused(match, config, phase, load_from=path)

    @EVERY_TASK
    def test_output_norms_may_not_differ(self, config, tmp_path):
        """They may only when a classifier becomes a backbone by itself."""
        state = {key: value for key, value in state_dict(config).items() if not key.startswith('backbone.norm_')}
        path = save(tmp_path / 'a.pth', {'state_dict': state})
        refused('entries missing from it .norm_', config, load_from=path)

    @pytest.mark.parametrize(
        ('config', 'layers'),
        [
            (CLS, ['head.fc.weight (10, 256) there and (4, 256) here', 'head.fc.bias']),
            (DET, ['fc_cls.bias (11,) there and (5,) here', 'fc_reg', 'conv_logits']),
            (SEG, ['decode_head.conv_seg.weight (11, 64, 1, 1) there and (4', 'auxiliary_head.conv_seg']),
        ],
    )
    def test_other_classes_are_an_error_in_tests_and_named_in_training(self, config, layers, tmp_path, warnings):
        path = save(tmp_path / 'a.pth', {'state_dict': state_dict(config)})
        refused('does not fit .* of another shape', config, 'test', load_from=path, num_classes=4)
        checked(config, 'train', load_from=path, num_classes=4)
        (line,) = warnings
        assert 'start afresh' in line and all(name in line for name in layers)

    def test_a_head_of_another_size_is_an_error_in_training_too(self, tmp_path):
        path = save(tmp_path / 'a.pth', {'state_dict': state_dict(DET)})
        refused(
            r'of another shape .*fc_cls.weight \(11, 256\) there and \(11, 64\) here',
            DET,
            load_from=path,
            **{'model.roi_head.bbox_head.fc_out_channels': 64},
        )

    def test_a_file_without_weights(self, tmp_path):
        refused('holds no weights', CLS, load_from=save(tmp_path / 'a.pth', {'epoch': 3}))
        refused('holds no weights', CLS, load_from=save(tmp_path / 'a.pth', 3))
        # mmengine would not look into that one
        refused('holds no weights', CLS, load_from=save(tmp_path / 'a.pth', {'model': state_dict(CLS)}))
        refused('load_from=.*none.pth: no such file.*load_from=None', CLS, load_from=str(tmp_path / 'none.pth'))


class TestResume:
    def test_needs_more_than_weights(self, tmp_path):
        path = save(tmp_path / 'a.pth', {'state_dict': state_dict(CLS), 'meta': {'epoch': 1, 'iter': 9}})
        refused('--resume .*a.pth: it holds weights.*load_from=', CLS, resume=True, load_from=path)
        official = files.save_classifier(tmp_path / 'b.pth', files.weights('dwnet', 'nano', 'cls', classes=10))
        refused('--resume .*b.pth: it holds weights', CLS, resume=True, load_from=official)

    def test_has_no_exception_for_classes(self, tmp_path):
        content = {'state_dict': state_dict(CLS), 'meta': {'epoch': 1, 'iter': 9}, 'message_hub': {}}
        path = save(tmp_path / 'a.pth', content)
        checked(CLS, resume=True, load_from=path)
        refused('2 of another shape', CLS, resume=True, load_from=path, num_classes=4)

    def test_from_the_latest_checks_that_one(self, tmp_path):
        checked(CLS, resume=True, work_dir=tmp_path)  # none yet: it starts from the beginning
        path = save(tmp_path / 'a.pth', {'state_dict': {'x': torch.ones(1)}, 'meta': {'epoch': 1, 'iter': 9}})
        (tmp_path / 'last_checkpoint').write_text(path)
        refused('a.pth', CLS, resume=True, work_dir=tmp_path)


class TestInitCfg:
    def pretrained(self, path, **kwargs):
        return dict(type='Pretrained', checkpoint=str(path), **kwargs)

    def test_of_an_official_classifier(self, tmp_path):
        path = files.save_classifier(tmp_path / 'a.pth', files.weights('dwnet', 'nano', 'cls'))
        for kwargs in ({}, dict(prefix='backbone.'), dict(prefix='backbone')):
            checked(DET, init_cfg=self.pretrained(path, **kwargs))
        checked(DET, init_cfg=[self.pretrained(path)])
        refused('no entry under .*prefix=net.', DET, init_cfg=self.pretrained(path, prefix='net'))
        path = files.save_classifier(tmp_path / 'b.pth', files.weights('dynamic_dwnet', 'nano', 'cls'))
        for kwargs in ({}, dict(prefix='backbone.')):
            refused('b.pth: the checkpoint does not fit DWNet', DET, init_cfg=self.pretrained(path, **kwargs))
        checked(DET, 'test', init_cfg=self.pretrained(path))  # not loaded then

    def test_that_is_missing(self, tmp_path):
        refused('none.pth: no such file.*model.backbone.init_cfg=None', SEG, init_cfg=self.pretrained('none.pth'))


FULL = {  # entries of whole models, as counted on the official ones
    ('coco/cascade-mask-rcnn_{}_fpn_ms-3x_coco', 'dwnet'): 517,
    ('coco/cascade-mask-rcnn_{}_fpn_ms-3x_coco', 'dynamic_dwnet'): 601,
    ('ade20k/upernet_{}_8xb2-160k_ade20k-512x512', 'dwnet'): 451,
    ('ade20k/upernet_{}_8xb2-160k_ade20k-512x512', 'i_dynamic_dwnet'): 535,
}


@pytest.mark.parametrize(('config', 'model'), FULL)
def test_a_whole_official_detector_or_segmentor_fits_its_config(config, model, tmp_path, fast_weights):
    name = {'dwnet': 'dwnet', 'dynamic_dwnet': 'dynamic-dwnet', 'i_dynamic_dwnet': 'idynamic-dwnet'}[
        model
    ] + '-tiny'
    cfg = load_config(f'configs/{config.format(name)}.py')
    net = MODELS.build(cfg.model)
    heads = {key: value for key, value in net.state_dict().items() if not key.startswith('backbone.')}
    official = files.save_detector(tmp_path / 'a.pth', files.weights(model, 'tiny', 'downstream'), heads)
    ours = load_as_ours(official)['state_dict']
    assert len(ours) == FULL[config, model]
    assert check_fit(net, ours) == []
    key = 'stages.2.blocks.5.mixer.bn_mid.running_mean'
    expected = files.weights(model, 'tiny', 'downstream')['layers.2.blocks.5.attn2conv.bn.running_mean']
    assert torch.equal(net.backbone.state_dict()[key], expected)
    with pytest.raises(ValueError, match='1 entries missing'):
        check_fit(net, {k: v for k, v in ours.items() if k != next(iter(heads))})


@pytest.fixture
def fast_weights(monkeypatch):
    """Leave new weights as they are: random numbers are most of what building a model costs."""
    for name in ('uniform_', 'normal_'):
        monkeypatch.setattr(torch.Tensor, name, lambda self, *args, **kwargs: self)


def test_stock_models_that_convert_their_entries_are_not_mistaken():
    """mmpretrain's ViT resizes its position embedding as it loads, which is no misfit."""
    init_default_scope('mmpretrain')
    arch = dict(embed_dims=24, num_layers=1, num_heads=1, feedforward_channels=8)
    small, large = (MODELS.build(dict(type='VisionTransformer', arch=arch, img_size=size)) for size in (32, 64))
    assert small.pos_embed.shape != large.pos_embed.shape
    assert check_fit(large, small.state_dict()) == []


def test_official_weights_of_another_size_name_the_shapes():
    net = MODELS.build(load_config(CLS).model)
    ours = official_to_ours(files.weights('dwnet', 'nano', 'cls'))
    with pytest.raises(
        ValueError, match=r'2 of another shape \(head.fc.weight \(1000, 256\) there and \(10, 256\)'
    ):
        check_fit(net, ours)
