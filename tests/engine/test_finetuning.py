"""Folders as people have them: recognised or refused in one line, split, and made into a config that loads."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from own_folders import class_folders, coco, coco_folder, image, label_map, label_maps
from PIL import Image
from rich.console import Console

import mmdwnet
from mmdwnet.engine.config import datasets_of, load_config
from mmdwnet.engine.dataset_check import check_dataset, splits_of
from mmdwnet.engine.finetuning.choosing import choose
from mmdwnet.engine.finetuning.own_data import Sample
from mmdwnet.engine.finetuning.recognising import recognise
from mmdwnet.engine.finetuning.running import finetune, finetune_parser
from mmdwnet.engine.finetuning.splitting import split_off, with_val_split
from mmdwnet.engine.finetuning.work_dir import check_work_dir, place_config
from mmdwnet.engine.finetuning.writing import config_text
from mmdwnet.errors import UserError
from mmdwnet.zoo import find_model

ROOT = Path(__file__).resolve().parents[2]
FRUITS = [(7, 'fig'), (3, 'date')]  # ids with gaps, and not in order


def counts(data):
    return {name: len(split.samples) for name, split in data.splits.items()}


# --- Recognising ---------------------------------------------------------------------------------


@pytest.mark.parametrize('val', ['val', 'valid', 'validation', 'Val'])
def test_class_folders_with_a_split(tmp_path, val):
    folders = {f'{split}/{name}': 3 for split in ('train', val, 'test') for name in ('red fox', 'owl')}
    data = recognise(class_folders(tmp_path, folders))
    assert (data.task, data.classes) == ('cls', ('owl', 'red fox'))
    assert counts(data) == dict(train=6, val=6, test=6)
    assert data.splits['val'].images == val
    assert data.splits['train'].samples[-1] == Sample('red fox/2.png', (1,))


def test_class_folders_without_a_split_and_deeper_images(tmp_path):
    class_folders(tmp_path, {'owl': 2, 'fox/2019/may': 3, '.cache': 1})
    data = recognise(tmp_path)
    assert (data.classes, counts(data)) == (('fox', 'owl'), dict(train=5))
    assert data.splits['train'].samples[0].image == 'fox/2019/may/0.png'


@pytest.mark.parametrize('split', [True, False])
def test_every_image_that_is_counted_is_trained_on(tmp_path, split):
    """Also of the types that mmpretrain passes over in a folder, and beside folders of other programs."""
    parts = ('train/', 'val/') if split else ('',)
    for part in parts:
        class_folders(tmp_path / 'data', {f'{part}owl': 3, f'{part}fox': 3})
        for name in ('fox/a.webp', 'fox/b.tiff', 'owl/c.TIF', '.ipynb_checkpoints/d.png', '__MACOSX/owl/e.png'):
            image(tmp_path / 'data' / part / name)
    data, config = written(tmp_path, lambda root: root)
    assert data.classes == ('fox', 'owl')
    assert sum(counts(data).values()) == 9 * len(parts)
    cfg = load_config(str(config))
    reports = check_dataset(cfg, ['train', 'val'])
    assert all(report.clean for report in reports)
    assert {report.split: report.images for report in reports} == counts(data)
    (dataset,) = map(DATASETS.build, datasets_of(cfg.val_dataloader))
    labels = {
        Path(dataset[i]['data_samples'].img_path).parent.name: dataset.get_cat_ids(i) for i in range(len(dataset))
    }
    assert labels == dict(fox=[0], owl=[1])


def test_links_to_folders_are_followed_and_a_circle_ends(tmp_path):
    class_folders(tmp_path, {'data/owl': 2, 'data/fox/deep': 2, 'elsewhere': 3})
    (tmp_path / 'data/fox/linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'data/fox/circle').symlink_to(tmp_path / 'data/fox')
    (tmp_path / 'data/owl/above').symlink_to(tmp_path / 'data')
    (tmp_path / 'data/empty').mkdir()
    (tmp_path / 'data/empty/circle').symlink_to(tmp_path / 'data/empty')
    with pytest.raises(UserError, match='class folder .*empty has no image'):
        recognise(tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data/empty')
    data = recognise(tmp_path / 'data')
    assert [sum(s.labels == (i,) for s in data.splits['train'].samples) for i in (0, 1)] == [5, 2]


def test_test_images_without_labels_are_left_out(tmp_path):
    class_folders(tmp_path, {'train/owl': 2, 'train/fox': 2, 'test': 4})
    data = recognise(tmp_path)
    assert counts(data) == dict(train=4)
    assert 'test' in data.remarks[0]


def coco_layouts():
    """File and folder of images for train and val, as COCO, Roboflow and others have them."""
    yield (
        'coco',
        ('annotations/instances_train2017.json', 'train2017'),
        ('annotations/instances_val2017.json', 'val2017'),
    )
    yield 'roboflow', ('train/_annotations.coco.json', 'train'), ('valid/_annotations.coco.json', 'valid')
    yield 'images', ('annotations/train.json', 'images'), ('annotations/val.json', 'images')
    yield 'folders of images', ('train.json', 'images/train'), ('val.json', 'images/val')


@pytest.mark.parametrize('layout', list(coco_layouts()), ids=lambda layout: layout[0])
def test_coco_with_a_split(tmp_path, layout):
    for (file, images), names in zip(layout[1:], (['a.png', 'b.png'], ['c.png']), strict=True):
        coco_folder(tmp_path, file, images, coco(names, FRUITS))
    data = recognise(tmp_path)
    assert (data.task, data.masks, counts(data)) == ('det', True, dict(train=2, val=1))
    assert [split.images for split in data.splits.values()] == [images for _, images in layout[1:]]
    assert [split.annotations for split in data.splits.values()] == [file for file, _ in layout[1:]]


@pytest.mark.parametrize(
    ('file', 'images', 'prefix'),
    [
        ('annotations.json', 'images', ''),
        ('data.json', '', 'photos/'),
        ('instances_default.json', '', ''),
    ],
)
def test_coco_in_one_file(tmp_path, file, images, prefix):
    coco_folder(tmp_path, file, images, coco([f'{prefix}{i}.png' for i in range(6)], FRUITS))
    (tmp_path / 'captions.json').write_text('{"info": "no instances"}')
    data = recognise(tmp_path)
    assert counts(data) == dict(train=6)
    assert data.splits['train'].images == images


@pytest.mark.parametrize('split', [True, False], ids=['val split', 'one file'])
def test_annotations_without_iscrowd_are_scored_as_no_crowds(tmp_path, split):
    """As labelme2coco and others write them; the COCO evaluation fails without."""
    content = coco([f'{i}.png' for i in range(6)], FRUITS)
    for annotation in content['annotations']:
        del annotation['iscrowd']
    content['annotations'][1]['iscrowd'] = 1
    for name in ('train', 'val') if split else ('instances',):
        coco_folder(tmp_path / 'data', f'{name}.json', 'images', content)
    data, config = written(tmp_path, lambda root: root)
    assert any('no iscrowd in val.json' in remark for remark in data.remarks) == split
    cfg = load_config(str(config))
    file = Path(cfg.val_evaluator.ann_file)
    assert file == config.parent / 'val.json' and cfg.val_dataloader.dataset.ann_file == str(file)
    crowds = {entry['id']: entry['iscrowd'] for entry in json.loads(file.read_text())['annotations']}
    assert set(crowds.values()) <= {0, 1} and all(crowd == (number == 6) for number, crowd in crowds.items())
    assert all(report.clean for report in check_dataset(cfg, ['train', 'val']))
    for dataset in (cfg.val_dataloader.dataset, cfg.val_evaluator):  # a config that someone has edited
        dataset.ann_file = str(tmp_path / ('data/val.json' if split else 'data/instances.json'))
    (report,) = check_dataset(cfg, ['val'])
    assert 'have no iscrowd, which the COCO evaluation needs (first: annotation 5): add' in report.problems[0]


def test_classes_are_in_the_order_of_the_file_as_mmdet_numbers_them(tmp_path):
    coco_folder(tmp_path, 'a.json', 'images', coco(['a.png', 'b.png'], [*FRUITS, (0, 'supercategory')][:2]))
    content = json.loads((tmp_path / 'a.json').read_text())
    content['categories'].append(dict(id=0, name='fruits'))
    (tmp_path / 'a.json').write_text(json.dumps(content))
    data = recognise(tmp_path)
    assert data.classes == ('fig', 'date')
    assert 'fruits' in data.remarks[0]


@pytest.mark.parametrize(('without', 'remark'), [(4, None), (1, '1 of 4 annotations have no mask')])
def test_boxes_where_not_all_have_masks(tmp_path, without, remark):
    content = coco(['a.png', 'b.png'], FRUITS)
    for annotation in content['annotations'][:without]:
        annotation['segmentation'] = []
    data = recognise(coco_folder(tmp_path, 'a.json', 'images', content))
    assert data.masks is False
    assert (remark is None and not data.remarks) or remark in data.remarks[0]


@pytest.mark.parametrize(
    ('images', 'maps', 'end'),
    [
        ('images/{}', 'annotations/{}', '.png'),
        ('images/{}', 'labels/{}', '.png'),
        ('{}/images', '{}/masks', '.png'),
        ('images/{}', 'masks/{}', '_mask.png'),
    ],
)
def test_label_maps_with_a_split(tmp_path, images, maps, end):
    for split, number in (('train', 3), ('val', 2)):
        label_maps(tmp_path, images.format(split), maps.format(split), number, (0, 1, 2, 255), end)
    data = recognise(tmp_path)
    assert (data.task, counts(data), data.suffixes) == ('seg', dict(train=3, val=2), ('.jpg', end))
    assert data.classes == ('class_0', 'class_1', 'class_2')
    assert data.splits['val'].samples[0] == Sample('p0.jpg', (0, 1, 2))


def test_label_maps_of_ade20k_and_of_the_mini_dataset(tmp_path, mini_root):
    data = recognise(mini_root / 'ade')
    assert counts(data) == dict(train=20, val=10)
    assert data.splits['train'].images == 'images/training'


def test_label_maps_in_linked_folders(tmp_path):
    label_maps(tmp_path, 'elsewhere/images', 'elsewhere/masks', 4)
    for name in ('images', 'masks'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        (tmp_path / 'data' / name / 'camera').symlink_to(tmp_path / 'elsewhere' / name)
    data, config = written(tmp_path, lambda root: root)
    reports = check_dataset(load_config(str(config)), ['train', 'val'])
    assert all(report.clean for report in reports)
    assert {report.split: report.images for report in reports} == counts(data) == dict(train=3, val=1)


@pytest.mark.parametrize(('values', 'shifted'), [((0, 1, 2), False), ((0, 1, 3), True)])
def test_names_of_label_maps_and_maps_that_count_from_one(tmp_path, values, shifted):
    label_maps(tmp_path, 'images', 'labels', 4, values)
    (tmp_path / 'classes.txt').write_text('wall\nfloor\ntree\n')
    data = recognise(tmp_path)
    assert (data.classes, data.zero_is_no_class) == (('wall', 'floor', 'tree'), shifted)
    assert data.splits['train'].samples[0].labels == ((0, 2) if shifted else values)


def test_palette_pngs_are_read_by_their_numbers(tmp_path):
    label_maps(tmp_path, 'images', 'labels', 2)
    for file in (tmp_path / 'labels').iterdir():
        with Image.open(file) as grey:
            numbers = grey.copy()
        numbers.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
        assert numbers.mode == 'P'
        numbers.save(file)
    assert recognise(tmp_path).classes == ('class_0', 'class_1', 'class_2')


def test_a_folder_that_can_be_read_in_two_ways_asks_for_the_task(tmp_path):
    class_folders(tmp_path, {'train/owl': 2, 'train/fox': 2})
    coco_folder(tmp_path, 'a.json', 'train', coco(['owl/0.png'], FRUITS))
    with pytest.raises(
        UserError, match='in several ways: say --task cls to classify images, --task det to detect'
    ):
        recognise(tmp_path)
    assert recognise(tmp_path, 'cls').task == 'cls'
    assert recognise(tmp_path, 'det').task == 'det'


# --- Bad input: a folder and the line that names what is wrong -------------------------------------


def write_json(root, change):
    content = coco(['a.png', 'b.png'], FRUITS)
    change(content)
    for entry in coco(['a.png', 'b.png'], FRUITS)['images']:
        image(root / 'images' / entry['file_name'])
    (root / 'a.json').write_text(json.dumps(content))


def rgb_masks(root):
    label_maps(root, 'images', 'masks', 2)
    colours = np.zeros((32, 40, 3), np.uint8)
    colours[:16] = 128, 0, 0
    Image.fromarray(colours).save(root / 'masks/p0.png')


def two_map_folders(root):
    label_maps(root, 'images', 'masks', 2)
    label_maps(root, 'images', 'labels', 2)


def missing_map(root):
    label_maps(root, 'images', 'masks', 3)
    (root / 'masks/p1.png').unlink()


def names_of_fewer_classes(root):
    label_maps(root, 'images', 'masks', 3, (0, 1, 9))
    (root / 'classes.txt').write_text('a\nb\n')


def two_kinds_of_images(root):
    label_maps(root, 'images', 'masks', 3)
    image(root / 'images/x.png')


def several_jsons(root):
    for name in ('first', 'second'):
        coco_folder(root, f'{name}.json', 'images', coco(['a.png'], FRUITS))


def other_categories(root):
    coco_folder(root, 'train.json', 'images', coco(['a.png'], FRUITS))
    coco_folder(root, 'val.json', 'images', coco(['a.png'], FRUITS[::-1]))


BAD = {
    'nothing': (
        lambda root: None,
        'nothing in it: expected a folder of images per class, .* or COCO JSON, .* or label',
    ),
    'text': (lambda root: (root / 'notes.txt').write_text('x'), '1 .txt file'),
    'images alone': (lambda root: image(root / 'train/a.png'), r'train/ \(1 .png file\)'),
    'yolo': (
        lambda root: (image(root / 'images/a.png'), (root / 'labels').mkdir(), (root / 'labels/a.txt').touch()),
        r'images/ \(1 .png file\), labels/ \(1 .txt file\)',
    ),
    'one class': (lambda root: class_folders(root, {'owl': 3}), 'the one class owl: expected two or more'),
    'class without images': (
        lambda root: class_folders(root, {'owl': 3, 'fox': 0, 'cat': 1}),
        'class folder .*fox has no image',
    ),
    'other classes in val': (
        lambda root: class_folders(root, {'train/owl': 1, 'train/fox': 1, 'val/owl': 1}),
        'val has no folder fox, unlike .*train: expected the same classes',
    ),
    'missing images': (
        lambda root: write_json(root, lambda c: c['images'][1].update(file_name='gone.png')),
        'lists 2 images, of which 1 are not in .*images .first: gone.png',
    ),
    'broken JSON': (lambda root: (root / 'a.json').write_text('{'), 'cannot be read as JSON'),
    'JSON of something else': (lambda root: (root / 'a.json').write_text('{}'), 'no JSON with images'),
    'no area': (
        lambda root: write_json(root, lambda c: c['annotations'][2].pop('area')),
        'annotation 7 has no area: expected id, image_id',
    ),
    'no annotations': (lambda root: write_json(root, lambda c: c['annotations'].clear()), 'has no annotation'),
    'two of a name': (
        lambda root: write_json(root, lambda c: c['categories'].append(dict(id=9, name='fig'))),
        'two categories called fig',
    ),
    'unknown category': (
        lambda root: write_json(root, lambda c: c['annotations'][0].update(category_id=99)),
        'annotations of a category 99',
    ),
    'several JSONs': (several_jsons, 'has first.json, second.json: expected one file, or one with train and one'),
    'other categories': (other_categories, 'they have other ids or another order'),
    'RGB masks': (rgb_masks, r'masks/p0.png has 2 colours \(RGB\): expected a grey or palette PNG'),
    'several folders of maps': (two_map_folders, 'several folders of label maps, labels, masks: expected one'),
    'an image without a map': (missing_map, r'1 of 3 images in .* have no label map \*.png .*first: p1.jpg'),
    'masks of 0 and 255': (
        lambda root: label_maps(root, 'images', 'masks', 3, (0, 255)),
        'the one class 0 beside 255, which is ignored; if it is a class, write it as 1',
    ),
    'more values than names': (names_of_fewer_classes, 'names 2 classes, but the label maps have the value 9'),
    'no images in a JSON': (
        lambda root: write_json(root, lambda c: (c['images'].clear(), c['annotations'].pop())),
        'a.json lists no image',
    ),
    'label maps without images': (
        lambda root: (
            (label_maps(root, 'images/val', 'masks/val', 2), label_map(root / 'masks/train/a.png', (0, 1)))
            and (root / 'images/train').mkdir()
        ),
        'images/train has no image: expected images and',
    ),
    'two kinds of images': (two_kinds_of_images, r'several types, .jpg, .png: mmseg reads one'),
}


@pytest.mark.parametrize('case', BAD)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, case):
    make, line = BAD[case]
    make(tmp_path)
    with pytest.raises(UserError, match=line) as error:
        recognise(tmp_path)
    assert '\n' not in str(error.value)


def test_a_folder_that_is_none_and_a_task_that_does_not_fit(tmp_path):
    with pytest.raises(UserError, match='gone is no folder'):
        recognise(tmp_path / 'gone')
    class_folders(tmp_path, {'owl': 2, 'fox': 2})
    with pytest.raises(UserError, match=r'has fox/ \(2 .png files\), owl/ .*: expected COCO JSON, as'):
        recognise(tmp_path, 'det')


# --- Splitting ------------------------------------------------------------------------------------


def names(samples):
    return {sample.image for sample in samples}


def test_split_is_stratified_disjoint_and_the_same_in_any_order():
    samples = [Sample(f'{label}/{i}.png', (label,)) for label, n in enumerate((50, 10, 2, 1)) for i in range(n)]
    train, val = split_off(samples)
    per_class = [sum(label in sample.labels for sample in val) for label in range(4)]
    assert per_class == [10, 2, 1, 0]  # a class of one image is trained on
    assert names(train) | names(val) == names(samples)
    assert not names(train) & names(val)
    shuffled = random.Random(0).sample(samples, len(samples))
    assert names(split_off(shuffled)[1]) == names(val)


def test_split_of_images_with_several_classes_and_with_none():
    draw = random.Random(1)
    samples = [Sample(f'{i}.png', tuple(sorted(draw.sample(range(6), draw.randrange(4))))) for i in range(200)]
    train, val = split_off(samples)
    for label in range(6):
        both = [sum(label in sample.labels for sample in part) for part in (train, val)]
        assert both[1] / sum(both) == pytest.approx(0.2, abs=0.05)
    assert 30 <= len(val) <= 50
    assert any(not sample.labels for sample in val)


def test_names_that_are_no_utf8_are_split_as_others():
    samples = [Sample(os.fsdecode(b'caf\xe9/%d.png' % i), (0,)) for i in range(10)]
    assert [len(part) for part in split_off(samples)] == [8, 2]


def test_a_single_image_cannot_be_split(tmp_path):
    data = recognise(label_maps(tmp_path, 'images', 'labels', 1))
    with pytest.raises(UserError, match='one image to train on and none to validate with'):
        with_val_split(data)


# --- The config -----------------------------------------------------------------------------------


def cls_data(root):
    return class_folders(root, {'owl': 10, 'red fox': 5})


def det_data(root):
    return coco_folder(root, 'a.json', 'images', coco([f'{i}.png' for i in range(10)], FRUITS))


def boxes_data(root):
    return coco_folder(root, 'a.json', 'images', coco([f'{i}.png' for i in range(10)], FRUITS, masks=False))


def seg_data(root):
    return label_maps(root, 'images', 'labels', 10)


MAKERS = {'cls': cls_data, 'det': det_data, 'boxes': boxes_data, 'seg': seg_data}


def written(tmp_path, make, **asked):
    """Make data, and its config as the tool does."""
    data = with_val_split(recognise(make(tmp_path / 'data')))
    config, edited = place_config(tmp_path / 'work', data, choose(data, **asked), bool(asked))
    assert not edited
    return data, config


@pytest.mark.parametrize('kind', MAKERS)
def test_config_is_short_loads_and_its_data_are_well(tmp_path, kind):
    before = sorted((tmp_path / 'data').rglob('*'))
    data, config = written(tmp_path, MAKERS[kind])
    text = config.read_text()
    assert len(text.splitlines()) <= 60 and max(map(len, text.splitlines())) <= 150
    cfg = load_config(str(config))
    reports = check_dataset(cfg, splits_of(cfg, 'all'))
    assert not [report.problems or report.faults for report in reports if not report.clean]
    assert reports[0].images + reports[1].images == (15 if kind == 'cls' else 10)
    assert not set(reports[0].names) & set(reports[1].names)
    assert reports[0].classes == data.classes
    assert not before or before == sorted((tmp_path / 'data').rglob('*'))  # only read
    assert cfg.train_cfg.val_interval >= 1
    mask_head = kind == 'det' and cfg.model.roi_head.mask_head
    assert bool(mask_head) == (kind == 'det')


@pytest.mark.parametrize('kind', MAKERS)
def test_config_follows_the_options_that_people_override(tmp_path, kind):
    _, config = written(tmp_path, MAKERS[kind])
    length = 'max_iters' if kind == 'seg' else 'max_epochs'
    cfg = load_config(str(config), {length: 3, 'data_root': str(tmp_path / 'data'), 'num_classes': 9})
    assert cfg.train_cfg[length] == 3
    assert cfg.param_scheduler[1].T_max == cfg.param_scheduler[1].end == 3
    head = dict(cls='head', seg='decode_head').get(kind)
    assert (cfg.model[head] if head else cfg.model.roi_head.bbox_head).num_classes == 9


def test_a_test_split_is_what_the_best_checkpoint_is_tested_on(tmp_path):
    for split, names in (('train', ['a.png', 'b.png']), ('valid', ['c.png']), ('test', ['d.png', 'e.png'])):
        coco_folder(tmp_path / 'data', f'{split}/_annotations.coco.json', split, coco(names, FRUITS))
    _, config = written(tmp_path, lambda root: root)
    cfg = load_config(str(config))
    files = [cfg[f'{name}_evaluator'].ann_file for name in ('val', 'test')]
    assert files == [str(tmp_path / f'data/{split}/_annotations.coco.json') for split in ('valid', 'test')]
    assert cfg.test_dataloader.dataset.data_prefix.img == 'test/'
    assert [report.images for report in check_dataset(cfg, splits_of(cfg, 'all'))] == [2, 1, 2]


def test_many_classes_stand_in_a_file_beside_the_config(tmp_path):
    many = class_folders(
        tmp_path / 'data', {f'train/{i:02}': 1 for i in range(25)} | {f'val/{i:02}': 1 for i in range(25)}
    )
    data = recognise(many)
    config, _ = place_config(tmp_path / 'work', data, choose(data), False)
    assert len(config.read_text().splitlines()) < 45
    (dataset,) = datasets_of(load_config(str(config)).val_dataloader)
    assert tuple(dataset.metainfo.classes) == data.classes


def test_model_and_weights_are_as_asked_for(tmp_path):
    data = with_val_split(recognise(seg_data(tmp_path / 'data')))
    chosen = choose(data, 'dynamic-dwnet-base', str(tmp_path / 'w.pth'), 7)
    config, _ = place_config(tmp_path / 'work', data, chosen, True)
    cfg = load_config(str(config))
    assert (cfg.model.backbone.arch, cfg.model.backbone.mixer) == ('base', 'DynamicDepthwiseConv')
    assert cfg.model.decode_head.in_channels == [128, 256, 512, 1024]
    assert cfg.model.auxiliary_head.in_channels == 512
    assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / 'w.pth')
    assert cfg.train_cfg.max_iters == 7
    assert choose(data, weights='w.pth').model == 'dwnet-tiny'
    assert choose(data).model == 'dwnet-nano'
    with pytest.raises(UserError, match='dwnet-tiny'):
        choose(data, 'dwnet-tyni')


@pytest.mark.parametrize('model', ['nat-nano', 'local-mlp-nano', 'swin-nano', 'idynamic-dwnet-nano', 'nat-mini'])
def test_the_backbone_is_that_of_the_zoo(tmp_path, model):
    _, config = written(tmp_path, cls_data, model=model)
    cfg = load_config(str(config))
    expected = Config.fromfile(find_model(model, 'cls').config).model.backbone
    found = MODELS.build(cfg.model).backbone
    assert found.name == MODELS.build(expected).name
    assert cfg.model.head.in_channels == found.channels[-1]


def test_sizes_follow_the_images(tmp_path):
    small = recognise(class_folders(tmp_path / 'small', {'a': 3, 'b': 3}, (20, 20)))
    large = recognise(class_folders(tmp_path / 'large', {'a': 3, 'b': 3}, (300, 200)))
    assert (choose(small).scale, choose(large).scale, choose(large, weights='w').scale) == (64, 128, 192)
    assert choose(small).batch_size == 2
    (tmp_path / 'large/a/0.png').write_bytes(b'broken')  # the check names it later
    assert choose(recognise(tmp_path / 'large')).scale == 128


def test_the_page_shows_the_config_that_is_written(tmp_path):
    folders = {
        f'{split}/{name}': n for split, n in (('train', 80), ('val', 20)) for name in ('fox', 'hare', 'owl')
    }
    data = recognise(class_folders(tmp_path / 'animals', folders, (300, 200)))
    text = config_text(data, choose(data)).replace(str(tmp_path), '/data')
    page = (ROOT / 'docs/finetune.md').read_text()
    assert f'```python\n{text}```\n' in page


# --- The command --------------------------------------------------------------------------------------


@pytest.fixture
def dry_run(tmp_path):
    """Start the tool in this process, without training; return what it says."""

    def start(*options, folder=tmp_path / 'data'):
        told = io.StringIO()
        arguments = [folder, '--dry-run', '--work-dir', tmp_path / 'work', *options]
        finetune(finetune_parser().parse_args(list(map(str, arguments))), ROOT, Console(file=told, width=500))
        return told.getvalue()

    return start


def test_what_was_chosen_is_said_with_its_reason(tmp_path, dry_run):
    said = dry_run(folder=seg_data(tmp_path / 'data'))
    for words in (
        'segment images: 3 classes, 8 images (train), 2 images (val)',
        'no classes.txt: the 3 classes are named by their numbers',
        'no val split: 2 of the 10 images validate',
        'dwnet-nano, from random weights, for no --weights are given',
        'within 40 x 32, crops of 32 x 32: the images are 40 x 32',
        '10 images looked at, 0 bad ones',
        'not trained   for --dry-run',
    ):
        assert words in said
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['config']


def test_weights_fill_the_whole_backbone_or_are_refused(tmp_path, dry_run):
    seg_data(tmp_path / 'data')
    classifier = mmdwnet.DWNet('nano')
    weights = {f'backbone.{key}': value for key, value in classifier.state_dict().items()}
    torch.save(dict(state_dict={**weights, 'head.fc.weight': torch.zeros(10, 256)}), tmp_path / 'w.pth')
    with pytest.raises(UserError, match='gone.pth: no such file; expected a checkpoint'):
        dry_run('--weights', tmp_path / 'gone.pth')
    with pytest.raises(UserError, match='w.pth: .*shape'):
        dry_run('--weights', tmp_path / 'w.pth')  # for which dwnet-tiny is the default
    assert str(tmp_path / 'w.pth') in dry_run('--weights', tmp_path / 'w.pth', '--model', 'dwnet-nano')
    del weights[next(iter(weights))]
    torch.save(dict(state_dict=weights), tmp_path / 'part.pth')
    with pytest.raises(UserError, match='part.pth'):
        dry_run('--weights', tmp_path / 'part.pth', '--model', 'dwnet-nano')


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (['--epochs', 3], '--epochs is not for the task seg, which counts iters'),
        (['--iters', 0], '--iters 0: expected 1 or more'),
        (['--model', 'dwnet-tyni'], 'no model is called .dwnet-tyni.*dwnet-tiny'),
        (
            ['--model', 'swin-tiny'],
            'swin-tiny has no backbone that can be fine-tuned here: expected such as .*dwnet',
        ),
        (['--task', 'det'], 'expected COCO JSON'),
    ],
)
def test_options_that_do_not_fit(tmp_path, dry_run, options, line):
    with pytest.raises(UserError, match=line):
        dry_run(*options, folder=seg_data(tmp_path / 'data'))
    assert not (tmp_path / 'work').exists()


def test_bad_samples_end_it_with_a_list_of_them(tmp_path, dry_run):
    data = seg_data(tmp_path / 'data')
    for name in ('p0', 'p3', 'p5'):
        label_map(data / f'labels/{name}.png', (0, 1, 2), (20, 16))
    with pytest.raises(UserError, match='bad samples?, and . may be: repair or remove them .first: label map'):
        dry_run()
    assert len((tmp_path / 'work/config/bad_samples.txt').read_text().splitlines()) == 3


# --- The work directory -----------------------------------------------------------------------------


def test_second_start_takes_the_config_that_is_there(tmp_path):
    data, config = written(tmp_path, cls_data)
    work, chosen, other = tmp_path / 'work', choose(data), choose(data, length=3)
    assert place_config(work, data, chosen, False) == (config, False)
    assert place_config(work, data, other, True) == (config, False)  # not used yet, so it may be another
    assert load_config(str(config)).max_epochs == 3
    (work / 'train.log').touch()
    assert place_config(work, data, chosen, False) == (config, True)
    assert load_config(str(config)).max_epochs == 3


def test_an_edited_config_is_never_overwritten(tmp_path):
    data, config = written(tmp_path, cls_data)
    config.write_text(config.read_text().replace('lr=', 'lr=0.5 * '))
    assert place_config(tmp_path / 'work', data, choose(data), False) == (config, True)
    with pytest.raises(UserError, match='is edited, or of other options or data: give another --work-dir'):
        place_config(tmp_path / 'work', data, choose(data, length=3), True)
    assert 'lr=0.5 * ' in config.read_text()


def test_config_loads_in_a_stock_tool_from_anywhere(tmp_path):
    """mmengine knows `mmdwnet::` only once mmdwnet is imported, which the config sees to."""
    _, config = written(tmp_path, det_data)
    code = f'from mmengine.config import Config; print(Config.fromfile({str(config)!r}).model.backbone.arch)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip().splitlines()[-1:] == ['nano'], done.stderr


def test_finished_runs_and_foreign_folders_are_left_alone(tmp_path):
    check_work_dir(tmp_path / 'new')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').touch()
    with pytest.raises(UserError, match='not of a fine-tuning'):
        check_work_dir(tmp_path / 'mine')
    written(tmp_path, cls_data)
    check_work_dir(tmp_path / 'work')
    (tmp_path / 'work/metrics.json').write_text('{}')
    with pytest.raises(UserError, match='has a finished run: give another --work-dir'):
        check_work_dir(tmp_path / 'work')


def test_a_start_that_ended_before_its_config_is_taken_up(tmp_path):
    data, config = written(tmp_path, cls_data)
    config.unlink()  # which is written last
    check_work_dir(tmp_path / 'work')
    assert place_config(tmp_path / 'work', data, choose(data), True) == (config, False)
    assert config.is_file()


@pytest.mark.parametrize('edited', [False, True])
def test_lists_are_those_of_the_images_until_training_begins(tmp_path, edited):
    data, config = written(tmp_path, cls_data)
    if edited:
        config.write_text(config.read_text().replace('lr=', 'lr=0.5 * '))
    file = config.parent / 'train.txt'
    before = file.read_text()
    image = data.root / before.split()[0]
    image.rename(image.with_name('renamed.png'))
    data = with_val_split(recognise(data.root))
    assert place_config(tmp_path / 'work', data, choose(data), False) == (config, edited)
    after = file.read_text()
    assert after != before
    (tmp_path / 'work/train.log').touch()
    file.write_text(before)
    place_config(tmp_path / 'work', data, choose(data), False)
    assert file.read_text() == before  # trained by


@pytest.mark.parametrize('name', ["anna's runs", 'back\\slash'])
def test_work_dirs_that_no_config_can_hold_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="has a ' or .* in its path, which mmengine cannot put into a config"):
        check_work_dir(tmp_path / name / 'work')


def test_label_maps_of_another_size_are_found_by_the_check(tmp_path):
    data = seg_data(tmp_path / 'data')
    label_map(data / 'labels/p3.png', (0, 1, 2), (20, 16))
    data, config = written(tmp_path, lambda _: data)
    cfg = load_config(str(config))
    faults = [fault for report in check_dataset(cfg, ['train', 'val']) for fault in report.faults.values()]
    assert [fault.kind for fault in faults] == ['label map of another size']
