"""Names of models: each config has one, short ones stand for what is documented, and a model comes whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope

import mmdwnet
from mmdwnet.checkpoints import ours_to_official
from mmdwnet.engine.config import TASKS
from mmdwnet.errors import UserError
from mmdwnet.zoo import find_model, official_weights, package_root

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
NANO = {'cls': 'dwnet-nano_cls_mini', 'det': 'dwnet-nano_mask-rcnn_mini', 'seg': 'dwnet-nano_upernet_mini'}
KINDS = {'cls': 'ImageClassifier', 'det': 'MaskRCNN', 'seg': 'EncoderDecoder'}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A checkpoint of a nano net of each task, as training writes it."""
    folder, files = tmp_path_factory.mktemp('weights'), {}
    for task in KINDS:
        model = mmdwnet.load_model('dwnet-nano', task)
        meta = dict(dataset_meta=dict(model.dataset_meta, classes=tuple(f'thing {i}' for i in range(11))))
        files[task] = str(folder / f'{task}.pth')
        torch.save(dict(state_dict=model.state_dict(), meta=meta), files[task])
    return files


def test_every_config_is_a_model_by_its_name_and_by_its_path():
    names = mmdwnet.list_models()
    assert len(names) == len(set(names))
    for path in CONFIGS:
        assert path.stem in names
        assert find_model(path.stem).config == path
        assert find_model(str(path)) == find_model(path.stem)


@pytest.mark.parametrize(
    'config',
    ['imagenet/ablation/local-mlp-tiny_share-1_16xb64_in1k', 'coco/atss_dwnet-tiny_fpn_ms-3x_coco']
    + [f'mini/{name}' for name in NANO.values()],
)
def test_the_task_of_a_name_is_that_of_the_config(config):
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    assert find_model(Path(config).name).task == TASKS[cfg.default_scope]


@pytest.mark.slow
def test_the_task_of_every_name_is_that_of_the_config():
    for path in CONFIGS:
        assert find_model(path.stem).task == TASKS[Config.fromfile(path).default_scope], path


def test_a_short_name_stands_for_the_main_config_of_a_task():
    for net in ('dwnet-tiny', 'dwnet-base', 'dynamic-dwnet-tiny', 'idynamic-dwnet-base', 'swin-tiny', 'swin-base'):
        for task, stem in (
            ('cls', rf'{net}_\d+xb\d+(-accum2)?_in1k'),
            ('det', rf'cascade-mask-rcnn_{net}_fpn_ms-3x_coco'),
            ('seg', rf'upernet_{net}_8xb2-160k_ade20k-512x512'),
        ):
            assert re.fullmatch(stem, find_model(net, task).name)
        assert find_model(net) == find_model(net, 'cls')
    for task, stem in NANO.items():
        assert find_model('dwnet-nano', task).name == stem
    assert find_model('nat-tiny').name == 'nat-tiny_16xb64_in1k'


def test_models_are_listed_by_task():
    assert 'dwnet-tiny' in mmdwnet.list_models('det')
    assert 'nat-tiny' in mmdwnet.list_models('cls')
    assert 'nat-tiny' not in mmdwnet.list_models('seg')
    assert set(mmdwnet.list_models()) == set().union(*(mmdwnet.list_models(task) for task in KINDS))


def test_published_weights_stand_with_their_models():
    assert official_weights(find_model('dwnet-tiny')).endswith('/dwnet_tiny_224.pth')
    assert official_weights(find_model('dynamic-dwnet-base', 'det')).endswith('_dynamic_dwnet_base.pth')
    with pytest.raises(UserError, match='no published weights of swin-tiny_16xb64_in1k: .*those of dwnet-base'):
        mmdwnet.load_model('swin-tiny', weights='official')


@pytest.mark.parametrize(
    ('name', 'task', 'line'),
    [
        ('dwnet-tinny', None, "no model is called 'dwnet-tinny': did you mean 'dwnet-tiny'?"),
        ('dwnet_tiny', None, "did you mean 'dwnet-tiny'?"),
        ('upernet_dwnet-tiny_8xb2_ade20k', 'seg', "did you mean 'upernet_dwnet-tiny_8xb2-160k_ade20k-512x512'?"),
        ('xyz', None, 'expected one of .*dwnet-base.*mmdwnet.list_models'),
        ('nat-tiny', 'det', 'model nat-tiny is there for cls and not for det'),
        ('dwnet-tiny', 'detect', "task 'detect': did you mean 'det'?"),
        ('configs/imagenet/dwnet-tiny_8xb128_in1.py', None, "not found; did you mean 'dwnet-tiny_8xb128_in1k'"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(name, task, line):
    with pytest.raises(UserError, match=re.escape(line) if '.*' not in line else line) as error:
        mmdwnet.load_model(name, task)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('task', KINDS)
def test_a_model_comes_whole_with_its_weights_and_classes(task, weights):
    model = mmdwnet.load_model('dwnet-nano', task, weights[task])
    assert type(model).__name__ == KINDS[task]
    assert not any(module.training for module in model.modules())
    saved = torch.load(weights[task], weights_only=False)
    assert all(torch.equal(value, saved['state_dict'][key]) for key, value in model.state_dict().items())
    assert model.dataset_meta['classes'][3] == 'thing 3'
    assert model.cfg.model.backbone.arch == 'nano'


def test_classes_come_from_the_dataset_where_the_weights_name_none():
    assert len(mmdwnet.load_model('dwnet-tiny').dataset_meta['classes']) == 1000
    assert mmdwnet.load_model('dwnet-nano', 'det').dataset_meta['classes'][5] == 'heart'
    palette = mmdwnet.load_model('dwnet-nano', 'seg').dataset_meta['palette']
    assert len(palette) == 11


def test_official_weights_load_by_name(tmp_path):
    model = mmdwnet.load_model('dwnet-nano')
    with torch.no_grad():
        model.head.fc.bias.normal_()
    path = tmp_path / 'official.pth'
    torch.save({'model': ours_to_official(model.state_dict())}, path)
    loaded = mmdwnet.load_model('dwnet-nano', weights=str(path))
    assert torch.equal(loaded.head.fc.bias, model.head.fc.bias)


def test_without_weights_a_model_is_as_initialised_and_always_the_same():
    first, second = (mmdwnet.load_model('dwnet-nano').state_dict() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert 0.015 < first['head.fc.weight'].std() < 0.025


@pytest.mark.parametrize(
    ('theirs', 'ours', 'line'),
    [
        (
            'det',
            'cls',
            r'det.pth: it holds the weights of a detector \(rpn_head, roi_head\), and ImageClassifier is',
        ),
        (
            'seg',
            'det',
            r'seg.pth: it holds the weights of a segmentor \(decode_head\), and MaskRCNN is a detector',
        ),
        (
            'cls',
            'seg',
            r'cls.pth: it holds the weights of a classifier \(head\), and EncoderDecoder is a segmentor',
        ),
    ],
)
def test_weights_of_another_task_are_named(theirs, ours, line, weights):
    with pytest.raises(UserError, match=line) as error:
        mmdwnet.load_model('dwnet-nano', ours, weights[theirs])
    assert '\n' not in str(error.value)


def test_a_task_that_is_not_that_of_the_config_is_refused():
    with pytest.raises(UserError, match='is there for seg and not for cls'):
        mmdwnet.load_model(NANO['seg'], 'cls')
    with pytest.raises(UserError, match='is a config for det, and seg was asked for'):
        mmdwnet.load_model(str(ROOT / f'configs/mini/{NANO["det"]}.py'), 'seg')


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(UserError, match='device cuda:77 cannot be used'):
        mmdwnet.load_model('dwnet-nano', device='cuda:77')


def test_importing_the_package_imports_neither_the_libraries_nor_the_zoo():
    names = ('mmpretrain', 'mmdet', 'mmseg', 'timm', 'mmdwnet.zoo', 'mmdwnet.engine.models')
    code = (
        f'import sys, mmdwnet; print([name for name in {names} if name in sys.modules]); '
        'mmdwnet.list_models; print("mmdwnet.zoo" in sys.modules)'
    )
    out = subprocess.check_output([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, text=True)
    assert out.split() == ['[]', 'True']
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        mmdwnet.load_modle  # noqa: B018


def test_the_checkout_is_where_configs_are_read_from():
    assert package_root() == ROOT


class TestStockInferencers:
    """The inferencers of the three libraries, as they are, by names of this project."""

    @pytest.fixture(autouse=True)
    def scope(self):
        yield
        init_default_scope('mmengine')

    @pytest.fixture
    def image(self):
        return (
            torch.randint(0, 255, (90, 120, 3), generator=torch.Generator().manual_seed(0)).numpy().astype('uint8')
        )

    def test_classification_by_every_name(self, weights, image):
        import mmpretrain
        from mmpretrain import ImageClassificationInferencer

        for _ in range(2):  # a second call changes nothing
            mmdwnet.register_models()
        known = mmpretrain.list_models()
        assert len(known) == len(set(known))
        assert set(mmdwnet.list_models('cls')) <= set(known)
        expected = ImageClassificationInferencer(mmdwnet.load_model('dwnet-nano', 'cls', weights['cls']))(image)[0]
        for name in ('dwnet-nano', 'dwnet-nano_cls_mini'):
            found = ImageClassificationInferencer(name, pretrained=weights['cls'], device='cpu')(image)[0]
            assert found['pred_class'] == expected['pred_class']
            assert found['pred_scores'] == pytest.approx(expected['pred_scores'])
        assert mmpretrain.get_model('dwnet-tiny').backbone.name == "DWNet(arch='tiny', mixer='DepthwiseConv')"

    def test_detection_by_every_name(self, weights, image):
        from mmdet.apis import DetInferencer, inference_detector

        mmdwnet.register_models()
        expected = inference_detector(
            mmdwnet.load_model('dwnet-nano', 'det', weights['det']), image
        ).pred_instances
        for name in ('dwnet-nano', 'dwnet-nano_mask-rcnn_mini'):
            inferencer = DetInferencer(name, weights=weights['det'], device='cpu', show_progress=False)
            found = inferencer(image)['predictions'][0]
            assert found['labels'] == expected.labels.tolist()
            assert found['scores'] == pytest.approx(expected.scores.tolist(), abs=1e-5)
            assert inferencer.model.dataset_meta['classes'][3] == 'thing 3'

    def test_segmentation_by_every_name(self, weights, image):
        from mmseg.apis import MMSegInferencer, inference_model

        mmdwnet.register_models()
        model = mmdwnet.load_model('dwnet-nano', 'seg', weights['seg'])
        expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
        for name in ('dwnet-nano', 'dwnet-nano_upernet_mini'):
            inferencer = MMSegInferencer(name, weights=weights['seg'], device='cpu')
            assert (inferencer(image)['predictions'] == expected).all()

    @pytest.mark.parametrize(('library', 'task'), [('mmdet', 'det'), ('mmseg', 'seg')])
    def test_names_stand_beside_those_of_the_library_once_each(self, library, task):
        for _ in range(2):
            mmdwnet.register_models()
        names = BaseInferencer.list_models(library)
        assert set(mmdwnet.list_models(task)) <= set(names)
        assert len(names) > 2 * len(mmdwnet.list_models(task))
        assert all(names.count(name) == 1 for name in mmdwnet.list_models(task))
        folder = BaseInferencer._get_repo_or_mim_dir(library)
        entries = {e['Name']: e for e in BaseInferencer._get_models_from_metafile(folder)}
        for name in mmdwnet.list_models(task):
            assert find_model(name, task).weights == entries[find_model(name, task).name]['Weights']
