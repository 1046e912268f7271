"""Every bad sample is found beforehand, with its kind, and what does not fit the config."""

import json
import re
import shutil

import pytest
from PIL import Image

from mmdwnet.engine.config import load_config
from mmdwnet.engine.dataset_check import check_dataset, lines_of, splits_of
from mmdwnet.errors import UserError

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
LAYOUT = {CLS: 'imagenet', DET: 'coco', SEG: 'ade'}
EVERY_TASK = pytest.mark.parametrize('config', LAYOUT)


@pytest.fixture
def data(mini_root, tmp_path):
    """A copy of the mini dataset that a test may spoil."""
    return shutil.copytree(mini_root, tmp_path / 'mini')


def config_of(config, data, **overrides):
    return load_config(config, {'data_root': str(data / LAYOUT[config]), **overrides})


def checked(config, data, workers=0, split='all', **overrides):
    cfg = config_of(config, data, **overrides)
    return check_dataset(cfg, splits_of(cfg, split), workers)


def found(reports):
    """Split, kind and file name of every fault."""
    return sorted((r.split, fault.kind, fault.file.split('/')[-1]) for r in reports for fault in r.faults.values())


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def files_in(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


def edit(data, change, split='train'):
    file = data / f'coco/annotations/instances_{split}2017.json'
    coco = json.loads(file.read_text())
    change(coco)
    file.write_text(json.dumps(coco))


@EVERY_TASK
def test_a_clean_set(config, data):
    reports = checked(config, data)
    assert [(r.split, r.images) for r in reports] == [('train', 20), ('val', 10)]  # the test set is the val set
    assert all(r.clean for r in reports) and not list(lines_of(reports))


@pytest.mark.parametrize('workers', [0, 3])
@EVERY_TASK
def test_every_image_is_read_to_its_end(config, workers, data):
    """However many processes look."""
    train, val = {
        CLS: ('imagenet/train', 'imagenet/val'),
        DET: ('coco/train2017', 'coco/val2017'),
        SEG: ('ade/images/training', 'ade/images/validation'),
    }[config]
    spoilt = [*files_in(data / train)[3::7], files_in(data / val)[-1]]
    for path in spoilt:
        cut(path)
    expected = [('train', 'unreadable image', path.name) for path in spoilt[:-1]]
    expected += [('val', 'unreadable image', spoilt[-1].name)]
    reports = checked(config, data, workers)
    assert found(reports) == sorted(expected)
    assert not any(r.clean for r in reports) and not any(r.problems for r in reports)


def test_label_maps(data):
    small, coloured, other, torn = files_in(data / 'ade/annotations/training')[-4:]
    Image.new('L', (32, 64), 1).save(small)
    Image.new('RGB', (64, 64)).save(coloured)
    Image.new('L', (64, 64), 99).save(other)
    cut(torn)
    reports = checked(SEG, data, split='train')
    assert {name: kind for _, kind, name in found(reports)} == {
        small.name: 'label map of another size',
        coloured.name: 'label map of another size',
        other.name: 'value that is no class',
        torn.name: 'unreadable label map',
    }


class TestAnnotations:
    def test_outside_their_image(self, data):
        """By their box or by their polygons, whose image is named; several of an image count once."""

        def spoil(coco):
            for annotation in coco['annotations']:
                if annotation['image_id'] == 2:
                    annotation['bbox'] = [70, 0, 5, 5]
                elif annotation['image_id'] == 5:
                    annotation['segmentation'] = [[0, -9, 9, -9, 9, -2]]
                elif annotation['image_id'] == 7:
                    annotation['bbox'] = [float('nan'), 0, 5, 5]

        edit(data, spoil)
        kinds = {name: kind for _, kind, name in found(checked(DET, data, split='train'))}
        assert kinds == {
            'train_000001.png': 'annotation outside its image',
            'train_000004.png': 'annotation outside its image',
            'train_000006.png': 'unreadable annotation',
        }

    def test_of_images_of_another_size_or_twice(self, data):
        def spoil(coco):
            coco['images'][11].update(height=640)
            coco['images'][3].update(file_name=coco['images'][4]['file_name'])

        edit(data, spoil)
        reports = checked(DET, data, split='train')
        assert found(reports) == [
            ('train', 'image of another size', 'train_000011.png'),
            ('train', 'listed twice', 'train_000004.png'),
        ]

    def test_that_mmdet_passes_over_are_counted(self, data):
        """They are no faults: a run trains as if they were not there, and so it is said."""

        def spoil(coco):
            first = {}  # of each image
            for annotation in coco['annotations']:
                first.setdefault(annotation['image_id'], annotation)
            first[1]['bbox'][2] = 0.5
            first[2]['segmentation'] = [[1, 1, 2, 2]]
            first[3]['bbox'] = [-5, 3, 30, 30]
            coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] != 20]

        edit(data, spoil)
        (report,) = checked(DET, data, split='train')
        assert report.clean
        remarks = '\n'.join(report.remarks)
        for line in ('1 annotations are smaller than a pixel', '1 annotations have polygons of fewer', '1 images'):
            assert line in remarks
        assert re.search('1 annotations reach more than a pixel beyond their image', remarks)
        own = {'metainfo.classes': ('star', 'disc'), 'num_classes': 2}
        (report,) = checked(DET, data, split='train', **own)
        assert re.search(r'\d+ annotations are of categories that are no class', '\n'.join(report.remarks))

    def test_that_no_library_can_read(self, data):
        edit(data, lambda coco: coco['annotations'][3].update(bbox=[1, 2, 3]))
        (report,) = checked(DET, data, split='train')
        assert 'is no COCO instance JSON (ValueError: annotation 4 has the box' in report.problems[0]


class TestAgainstTheConfig:
    @EVERY_TASK
    def test_the_heads_have_other_classes(self, config, data):
        """And still every sample is looked at."""
        reports = checked(config, data, num_classes=7)
        assert all('num_classes=7' in r.problems[0] for r in reports)
        assert [r.images for r in reports] == [20, 10]

    def test_a_set_that_is_not_there(self, data):
        shutil.rmtree(data / 'imagenet/val')
        train, val = checked(CLS, data)
        assert train.clean and re.search('val_dataloader: folder .*val not found', val.problems[0])

    def test_training_and_validation_have_other_classes(self, data):
        (data / 'imagenet/val/star').rename(data / 'imagenet/val/stern')
        _, val = checked(CLS, data)
        assert val.problems == ['val and train have different classes: only val has stern; only train has star']

    def test_class_names_in_another_order_than_the_folders(self, data):
        cfg = config_of(CLS, data)
        folders = sorted(path.name for path in (data / 'imagenet/train').iterdir())
        cfg.train_dataloader.dataset.metainfo = dict(classes=folders[::-1])
        (report,) = check_dataset(cfg, ['train'])
        assert 'label 0 is called triangle, and is that of the folder arrow' in report.problems[0]


class TestRepetitions:
    def test_of_a_list_with_one_label_or_with_two(self, data):
        images = [str(path.relative_to(data / 'imagenet/train')) for path in files_in(data / 'imagenet/train')]
        lines = [f'{image} 3' for image in images] + [f'{images[0]} 3', f'{images[1]} 4']
        (data / 'imagenet/list.txt').write_text('\n'.join(lines))
        (report,) = checked(CLS, data, split='train', **{'train_dataloader.dataset.ann_file': 'list.txt'})
        assert report.images == 22
        assert found([report]) == [('train', 'listed twice', images[1].split('/')[-1])]
        assert any(remark.startswith('1 images are listed more than once') for remark in report.remarks)

    def test_of_file_names_and_of_sets(self, data):
        first = files_in(data / 'imagenet/train')[0]
        shutil.copy(first, data / 'imagenet/train/star' / first.name)
        cfg = config_of(CLS, data)
        cfg.val_dataloader.dataset.data_prefix = 'train'
        train, val = check_dataset(cfg, ['train', 'val'])
        assert f'1 file names are those of several images: {first.name}' in train.remarks
        assert '21 images of val are in train too' in val.remarks
        assert train.clean and val.clean


def test_the_command_line(data, tmp_path, run_python):
    """Its table, its list, and its three exit statuses."""

    def run(*options, config=CLS):
        root = data / LAYOUT[config]
        return run_python(
            'tools/dataset_tools/check_dataset.py', config, *options, '--cfg-options', f'data_root={root}'
        )

    clean = run('--workers', 2)
    assert clean.returncode == 0 and 'all is well' in clean.stdout
    spoilt = files_in(data / 'imagenet/train')[:5]
    for path in spoilt:
        cut(path)
    bad = run('--out', tmp_path / 'list.txt')
    assert bad.returncode == 1, bad.stderr
    assert re.search(r'unreadable image\W+5\W+0\W', bad.stdout) and re.search(r'images\W+20\W+10\W', bad.stdout)
    assert f'image {spoilt[0]} cannot be read: OSError: image file is truncated' in bad.stdout
    assert 'unreadable image (train): and 2 more' in bad.stdout
    lines = [line.split('\t') for line in (tmp_path / 'list.txt').read_text().splitlines()]
    assert [line[:2] for line in lines] == [[str(path), 'unreadable image'] for path in spoilt]
    assert run('--split', 'val').returncode == 0
    for options, error in (
        (('--workers', -1), '--workers -1'),
        (('--out', tmp_path / 'no/list.txt'), 'no folder'),
    ):
        wrong = run(*options)
        assert wrong.returncode == 2 and error in wrong.stderr


def test_a_split_that_the_config_does_not_have(data):
    cfg = config_of(CLS, data)
    cfg.test_dataloader = None
    with pytest.raises(UserError, match='--split test: the config has no test_dataloader, only train, val'):
        splits_of(cfg, 'test')
