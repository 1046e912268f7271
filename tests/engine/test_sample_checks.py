"""What makes a sample bad, of all three tasks: its kind, its file, and a reason in one line."""

import json
import re
import shutil

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from spoiling import CLS, DET, INSTANCES, LAYOUT, SEG, cut, dataset_of, edit, first_of

from mmdwnet.engine.sample_checks import BadSample, check_loading


@pytest.fixture
def data(mini_root, tmp_path):
    """A copy of the mini dataset that a test may spoil."""
    return shutil.copytree(mini_root, tmp_path / 'mini')


def fault_in(dataset):
    """The only fault that loading every sample of a checked dataset meets."""
    found = []
    for index in range(len(dataset)):
        try:
            dataset[index]
        except BadSample as bad:
            found.append(bad.fault)
    assert len(found) == 1 and '\n' not in found[0].reason
    return found[0]


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('config', LAYOUT)
def test_not_the_mini_dataset(config, split, data):
    dataset = dataset_of(config, data, split)
    check_loading(dataset)
    for index in range(len(dataset)):
        dataset[index]


@pytest.mark.parametrize('config', LAYOUT)
@pytest.mark.parametrize('how', ['cut', 'empty', 'text', 'gone'])
def test_images_that_cannot_be_read(how, config, data):
    image = first_of(data / {CLS: 'imagenet/train', DET: 'coco/train2017', SEG: 'ade/images/training'}[config])
    dataset = dataset_of(config, data)
    check_loading(dataset)
    spoil = dict(
        cut=lambda: cut(image),
        empty=lambda: image.write_bytes(b''),
        text=lambda: image.write_text('no'),
        gone=image.unlink,
    )
    spoil[how]()
    fault = fault_in(dataset)
    assert (fault.file, fault.kind) == (str(image), 'unreadable image')
    assert image.name in fault.reason


def test_a_truncated_jpeg_that_opencv_lets_pass(data, monkeypatch):
    """As older ones do: they return grey in the place of what is missing."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8)
    folder = data / 'imagenet/train/star'
    Image.fromarray(noise).save(folder / 'whole.jpg')
    (folder / 'longer.jpg').write_bytes((folder / 'whole.jpg').read_bytes() + b'trailing')
    shutil.copy(folder / 'whole.jpg', folder / 'cut.jpg')
    cut(folder / 'cut.jpg', 0.9)
    dataset = dataset_of(CLS, data)

    def lenient(self, results):
        return dict(results, img=noise, img_shape=(96, 64), ori_shape=(96, 64))

    monkeypatch.setattr(LoadImageFromFile, 'transform', lenient)
    check_loading(dataset)
    assert fault_in(dataset).file == str(folder / 'cut.jpg')


@pytest.mark.parametrize(
    ('kind', 'content', 'match'),
    [
        ('label map of another size', Image.new('L', (32, 64), 1), r'the shape \(64, 32\), .*\(64, 64\)'),
        ('label map of another size', Image.new('RGB', (64, 64)), 'grey or palette'),
        ('value that is no class', Image.new('L', (64, 64), 12), 'has the value 11, .* 11 classes'),
        ('unreadable label map', None, 'cannot be read'),
    ],
)
def test_label_maps(kind, content, match, data):
    label_map = first_of(data / 'ade/annotations/training')
    if content is None:
        cut(label_map)
    else:
        content.save(label_map)
    dataset = dataset_of(SEG, data)
    check_loading(dataset)
    fault = fault_in(dataset)
    assert (fault.file, fault.kind) == (str(label_map), kind)
    assert re.search(match, fault.reason)


def test_label_maps_may_ignore_pixels(data):
    label_map = first_of(data / 'ade/annotations/training')
    Image.fromarray(np.array([[0, 255], [1, 11]], np.uint8).repeat(32, 0).repeat(32, 1)).save(label_map)
    dataset = dataset_of(SEG, data)
    check_loading(dataset)
    for index in range(len(dataset)):
        dataset[index]


@pytest.mark.parametrize(
    ('kind', 'change'),
    [
        ('image of another size', lambda coco: coco['images'][0].update(width=640)),
        (
            'annotation outside its image',
            lambda coco: coco['annotations'][0].update(segmentation=[[70, 0, 80, 0, 80, 9]]),
        ),
        (
            'image of another size',
            lambda coco: coco['annotations'][0].update(segmentation=dict(size=[9, 9], counts=[81])),
        ),
        (
            'unreadable annotation',
            lambda coco: coco['annotations'][0].update(segmentation=[['a', 'b', 'c', 'd', 'e', 'f']]),
        ),
    ],
)
def test_annotations(kind, change, data):
    edit(data, change)
    image = data / 'coco/train2017' / json.loads((data / INSTANCES).read_text())['images'][0]['file_name']
    dataset = dataset_of(DET, data)
    check_loading(dataset)
    fault = fault_in(dataset)
    assert (fault.file, fault.kind) == (str(image), kind)
