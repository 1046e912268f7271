"""Bad input: one line that names the thing, before anything is written (issue 2, "Bad input")."""

import copy
import json
import shutil

import pytest
import torch

from mmdwnet import DWNet
from mmdwnet.engine.config import load_config
from mmdwnet.engine.preflight import check_config
from mmdwnet.errors import UserError

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
LAYOUT = {CLS: 'imagenet', DET: 'coco', SEG: 'ade'}
EVERY_TASK = pytest.mark.parametrize('config', LAYOUT)


@pytest.fixture
def data(mini_root, tmp_path):
    """A copy of the mini dataset that a test may spoil."""
    return shutil.copytree(mini_root, tmp_path / 'mini')


def checked(config, data, phase='train', **overrides):
    # --cfg-options cannot put a dict where the config has none; a config file can
    replaced = {key: overrides.pop(key) for key in list(overrides) if isinstance(overrides[key], dict)}
    few = {'train_dataloader.batch_size': 8}  # the dataset has 20 images
    cfg = load_config(config, {'data_root': str(data / LAYOUT[config]), **few, **overrides})
    for key, value in replaced.items():
        cfg.model.backbone[key.removeprefix('model.backbone.')] = value
    check_config(cfg, phase, max_bad_samples=0)  # by default one may be skipped in training: test_bad_samples.py


def refused(match, config, data, phase='train', **overrides):
    with pytest.raises(UserError, match=match) as error:
        checked(config, data, phase, **overrides)
    assert '\n' not in str(error.value)


@EVERY_TASK
def test_the_mini_dataset_passes(config, data, tmp_path):
    checked(config, data)
    checked(config, data, 'test')


@EVERY_TASK
def test_a_missing_data_root(config, data, tmp_path):
    refused('data_root .*nowhere.* not found.*data_root=DIR', config, tmp_path / 'nowhere')


def test_an_empty_class_folder(data):
    for image in (data / 'imagenet/train/star').iterdir():
        image.unlink()
    refused('class folder .*star has no image', CLS, data)


def test_a_class_folder_of_a_type_that_mmpretrain_passes_over(data):
    for image in (data / 'imagenet/train/star').iterdir():
        image.rename(image.with_suffix('.webp'))
    refused('class folder .*star has no image: add images .*.png', CLS, data)


def test_a_folder_without_classes(data):
    shutil.rmtree(data / 'imagenet/val')
    (data / 'imagenet/val').mkdir()
    refused('val_dataloader: .*val has no folders', CLS, data)


@pytest.mark.parametrize(
    ('config', 'match'),
    [
        (CLS, '10 class folders, but model.head.num_classes=7: .*num_classes=10'),
        (DET, '10 classes, but model.roi_head.bbox_head.num_classes=7: .*num_classes=10'),
        (SEG, '11 classes, but model.decode_head.num_classes=7: .*num_classes=11'),
    ],
)
def test_a_wrong_class_count(config, match, data):
    refused(match, config, data, num_classes=7)


def test_classes_that_the_annotations_do_not_have(data):
    refused(
        "class 'date' of the config is no category of .*instances_train2017.json.*metainfo.classes",
        DET,
        data,
        **{'metainfo.classes': ('date', 'fig'), 'num_classes': 2},
    )


class TestAnnotations:
    def edit(self, data, change):
        file = data / 'coco/annotations/instances_train2017.json'
        coco = json.loads(file.read_text())
        change(coco)
        file.write_text(json.dumps(coco))

    def test_of_images_that_are_not_there(self, data):
        self.edit(data, lambda coco: coco['images'][3].update(file_name='gone.png'))
        refused(r'1 of the 20 images of .* are not in .*train2017 \(first: gone.png\)', DET, data)

    def test_of_images_that_the_file_does_not_list(self, data):
        self.edit(data, lambda coco: coco['annotations'][0].update(image_id=999))
        refused('1 annotations of .* name an image or a category that the file does not have', DET, data)

    def test_that_are_missing(self, data):
        (data / 'coco/annotations/instances_val2017.json').unlink()
        refused('val_dataloader: annotation file .*instances_val2017.json not found', DET, data)

    def test_that_are_no_coco_json(self, data):
        (data / 'coco/annotations/instances_train2017.json').write_text('{"images": [')
        refused('is no COCO instance JSON', DET, data)

    def test_of_segmentation_that_are_missing_for_an_image(self, data):
        next((data / 'ade/annotations/training').iterdir()).unlink()
        refused('1 of 20 images have no label map', SEG, data)

    def test_of_segmentation_with_a_value_that_is_no_class(self, data):
        from PIL import Image

        file = next((data / 'ade/annotations/training').iterdir())
        Image.new('L', (64, 64), 99).save(file)
        refused(f'{file.name} has the value 99, .* 0 to 11, or 255', SEG, data)

    def test_images_of_another_suffix(self, data):
        refused(r'no image \*.jpg .*img_suffix', SEG, data, img_suffix='.jpg')

    def test_of_images_of_another_size(self, data):
        self.edit(data, lambda coco: coco['images'][0].update(width=640))
        refused('has 640 x 64 pixels, but it has 64 x 64', DET, data)
        from PIL import Image

        file = next((data / 'ade/annotations/training').iterdir())
        Image.new('L', (32, 32), 1).save(file)
        refused(rf'{file.name} has the shape \(32, 32\), but its image has \(64, 64\)', SEG, data)
        Image.new('RGB', (64, 64)).save(file)
        refused(r'has the shape \(64, 64, 3\).*grey or palette', SEG, data)
        file.write_bytes(b'no picture')
        refused('cannot be read', SEG, data)

    def test_outside_their_image(self, data):
        self.edit(data, lambda coco: coco['annotations'][0].update(bbox=[70, 0, 5, 5]))
        refused('annotation 1 of .* lies outside its image', DET, data)

    def test_without_what_training_reads(self, data):
        self.edit(data, lambda coco: coco['annotations'][0].update(segmentation=[]))
        refused('1 annotations of .* have no segmentation, which the mask head needs', DET, data)
        self.edit(data, lambda coco: coco.update(annotations=[]))
        refused('20 images and 0 annotations', DET, data)

    def test_of_an_evaluator_that_are_others(self, data):
        train = str(data / 'coco/annotations/instances_train2017.json')
        refused('not the one that val_dataloader reads', DET, data, **{'val_evaluator.ann_file': train})
        refused(
            'val_evaluator: ann_file gone.json not found', DET, data, **{'val_evaluator.ann_file': 'gone.json'}
        )


class TestListFile:
    """Classification from a list of images and class indices, as mmpretrain reads it."""

    def listed(self, data, text):
        (data / 'imagenet/list.txt').write_text(text)
        return {'train_dataloader.dataset.ann_file': 'list.txt'}

    def test_that_fits(self, data):
        image = next((data / 'imagenet/train/star').iterdir())
        checked(CLS, data, **self.listed(data, f'star/{image.name} 8\n' * 9))

    def test_that_does_not(self, data):
        image = next((data / 'imagenet/train/star').iterdir())
        refused('has the class index 10, but .*num_classes=10: expected 0 to 9', CLS, data,
                **self.listed(data, f'star/{image.name} 10\n'))  # fmt: skip
        refused('lists star/no.png, which is not in', CLS, data, **self.listed(data, 'star/no.png 1\n'))
        refused('expected lines of an image path and a class index', CLS, data, **self.listed(data, 'a b\n'))
        refused('ann_file .*none.txt not found', CLS, data, **{'train_dataloader.dataset.ann_file': 'none.txt'})


class TestOtherTrees:
    """The checks know the stock dataset types, which the configs of the papers name without a prefix."""

    def test_imagenet(self, data, tmp_path):
        from PIL import Image

        for i in range(1000):
            for split in ('train', 'val'):
                (tmp_path / f'in1k/{split}/n{i:08}').mkdir(parents=True)
                Image.new('RGB', (4, 4)).save(tmp_path / f'in1k/{split}/n{i:08}/a.jpg')
        overrides = {'optim_wrapper.type': 'OptimWrapper', 'data_root': str(tmp_path / 'in1k')}
        cfg = load_config('configs/imagenet/dwnet-tiny_8xb128_in1k.py', overrides)
        check_config(cfg, 'train')
        shutil.rmtree(tmp_path / 'in1k/train/n00000000')
        with pytest.raises(UserError, match='999 class folders, but ImageNet has 1000 classes'):
            check_config(cfg, 'train')

    def test_coco(self, data):
        overrides = {'data_root': str(data / 'coco'), 'optim_wrapper.type': 'OptimWrapper'}
        overrides['model.backbone.init_cfg'] = None
        path = 'configs/coco/mask-rcnn_dwnet-tiny_fpn_1x_coco.py'
        with pytest.raises(UserError, match="class 'person' of the config is no category"):
            check_config(load_config(path, overrides), 'train')
        own = {'metainfo.classes': ('star', 'disc'), 'num_classes': 2}
        check_config(load_config(path, {**overrides, **own}), 'train')

    def test_ade20k(self, data):
        overrides = {'data_root': str(data / 'ade'), 'img_suffix': '.png', 'model.backbone.init_cfg': None}
        path = 'configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py'
        check_config(load_config(path, overrides), 'train')
        with pytest.raises(UserError, match=r'no image \*.jpg in .*, which has .png'):
            check_config(load_config(path, {**overrides, 'img_suffix': '.jpg'}), 'train')


def test_too_few_images_for_a_batch(data):
    refused(
        '20 images do not fill one batch of 32 on each of 1 proc', CLS, data, **{'train_dataloader.batch_size': 32}
    )
    dynamic = {'model.backbone.mixer': 'DynamicDepthwiseConv', 'train_dataloader.batch_size': 19}
    refused('leave a last batch of 1', CLS, data, **dynamic, **{'train_dataloader.drop_last': False})


def test_a_config_without_its_parts(data, tmp_path):
    cfg = load_config(CLS, {'data_root': str(data / 'imagenet')})
    for section, value in (('optim_wrapper', None), ('train_dataloader', None), ('model', dict(type='A'))):
        spoilt = copy.deepcopy(cfg)
        spoilt[section] = value
        with pytest.raises(UserError, match=f'the config has no {section}'):
            check_config(spoilt, 'train')
    refused("unknown type 'DWNet': did you mean 'mmdwnet.DWNet'", CLS, data, **{'model.backbone.type': 'DWNet'})


class TestBackbone:
    @EVERY_TASK
    @pytest.mark.parametrize(
        ('option', 'value', 'match'),
        [
            ('arch', 'huge', "model.backbone: unknown arch 'huge'"),
            ('deploy', True, 'model.backbone.deploy=True is for inference'),
            ('mixer', 'Conv7', "model.backbone: unknown mixer 'Conv7': expected one of"),
            ('mixer', dict(type='DepthwiseConv', kernel_size=4), 'kernel_size must be an odd .* got 4'),
            (
                'mixer',
                dict(type='DepthwiseConv', kernel=5),
                "has no argument 'kernel': did you mean 'kernel_size'",
            ),
            ('out_indices', (0, 1, 2, 9), 'out_indices must be .* got'),
            ('drop_path', 0.1, "DWNet has no argument 'drop_path': did you mean 'drop_path_rate'"),
            ('arch', 'tiny', r'in_channels=.*, but the backbone gives it'),
        ],
    )
    def test_bad_options(self, config, option, value, match, data):
        refused(match, config, data, **{f'model.backbone.{option}': value})

    def test_a_dynamic_mixer_with_one_image_per_gpu(self, data):
        bad = {'model.backbone.mixer': 'DynamicDepthwiseConv', 'train_dataloader.batch_size': 1}
        for config in LAYOUT:
            refused('batch_size=1 with the mixer Dynamic.*batch of 2 or more.*SyncBN', config, data, **bad)
        checked(CLS, data, **{**bad, 'model.backbone.mixer': 'DepthwiseConv'})
        checked(CLS, data, **{**bad, 'model.backbone.norm_eval': True})

    def test_one_image_per_gpu_is_enough_where_bn_is_synchronised(self, data, monkeypatch):
        bad = {'model.backbone.mixer': 'DynamicDepthwiseConv', 'train_dataloader.batch_size': 1}
        cfg = load_config(CLS, {'data_root': str(data / 'imagenet'), **bad, 'launcher': 'pytorch'})
        cfg.model.backbone.norm_cfg = dict(type='SyncBN')
        monkeypatch.setattr('mmdwnet.engine.preflight.get_device', lambda: 'cuda')
        monkeypatch.setenv('WORLD_SIZE', '2')
        check_config(cfg, 'train')
        cfg.model.backbone.norm_cfg = dict(type='BN')
        with pytest.raises(UserError, match='batch_size=1'):
            check_config(cfg, 'train')

    def test_mixed_precision_without_a_gpu(self, data):
        if torch.cuda.is_available():
            pytest.skip('this machine has a GPU')
        refused(
            'mixed precision.*optim_wrapper.type=OptimWrapper',
            CLS,
            data,
            **{'optim_wrapper.type': 'AmpOptimWrapper'},
        )


class TestCheckpoint:
    def save(self, path, prefix='backbone.', **kwargs):
        state = DWNet(**{'arch': 'nano', **kwargs}).state_dict()
        torch.save({'state_dict': {prefix + key: value for key, value in state.items()}}, path)
        return str(path)

    def test_of_another_arch_or_mixer(self, data, tmp_path):
        for kwargs in (dict(arch='tiny'), dict(mixer='DynamicDepthwiseConv')):
            path = self.save(tmp_path / 'other.pth', **kwargs)
            refused('other.pth: the checkpoint does not fit DWNet.*nano', CLS, data, load_from=path)
            refused('other.pth: the checkpoint does not fit DWNet.*nano', CLS, data, 'test', load_from=path)
            pretrained = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
            refused('does not fit', DET, data, **{'model.backbone.init_cfg': pretrained})

    def test_of_a_backbone_fits_as_its_init_cfg_only(self, data, tmp_path):
        path = self.save(tmp_path / 'own.pth')
        checked(
            DET, data, **{'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=path, prefix='backbone.')}
        )
        refused('own.pth: .*2 entries missing from it .head.fc.weight', CLS, data, load_from=path)

    def test_that_is_missing_or_no_checkpoint(self, data, tmp_path):
        refused('load_from=.*none.pth: no such file', CLS, data, load_from=str(tmp_path / 'none.pth'))
        (tmp_path / 'text.pth').write_text('hello')
        refused('text.pth: .*no checkpoint', CLS, data, load_from=str(tmp_path / 'text.pth'))


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_the_command_line_prints_one_line_and_writes_nothing(tool, data, tmp_path, run_python):
    arguments = [f'tools/{tool}.py', DET] + [tmp_path / 'none.pth'] * (tool == 'test')
    options = [f'data_root={data / "coco"}', 'num_classes=5']
    done = run_python(*arguments, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if 'arning' not in line and not line.startswith(' ')]
    assert len(errors) == 1 and errors[0].startswith('error: '), done.stderr
    assert 'num_classes=5' in errors[0]
    assert not (tmp_path / 'work').exists()
