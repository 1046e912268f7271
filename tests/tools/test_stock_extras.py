"""Scripts of mmpretrain, mmdet and mmseg, unmodified, on this project's configs, as in docs/stock-extras.md."""

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.analysis.print_helper import _format_size
from mmengine.registry import DATASETS, MODELS
from mmpretrain import get_model
from PIL import Image
from stock_page import Place, blocks

from mmdwnet.analysis.complexity import count
from mmdwnet.backbones.archs import PYRAMID_ARCHS
from mmdwnet.datasets import mini
from mmdwnet.engine.config import load_config
from mmdwnet.engine.models import load_dwnet_model

TRAIN, VAL = 32, 12  # images
CLS, DET, SEG = 'dwnet-nano_cls_mini', 'dwnet-nano_mask-rcnn_mini', 'dwnet-nano_upernet_mini'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stock')
    mini.generate(folder / 'mini', seed=0, size=64, num_train=TRAIN, num_val=VAL)
    return Place(folder / 'checkout', folder / 'mini')


@pytest.fixture(scope='module')
def classifier(place):
    """The work directory of a run of the config as it is: 40 steps, for there is one in an epoch."""
    return place.train(CLS)


@pytest.fixture(scope='module')
def detector(place):
    """The same; after so few steps everything is background, so that class is made less likely by hand."""
    work = place.train(DET, 'default_hooks.logger.interval=1')
    checkpoint = last_checkpoint(work)
    content = load(checkpoint)
    content['state_dict']['roi_head.bbox_head.fc_cls.bias'][-1] -= 5
    torch.save(content, checkpoint)
    return work


@pytest.fixture(scope='module')
def segmentor(place):
    steps = ('max_iters=8', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=4')
    return place.train(SEG, *steps, 'default_hooks.logger.interval=1')


def picture(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'), dtype=int)
    assert pixels.std() > 5, f'{path} is blank'
    return pixels


def pictures(folder):
    files = sorted(folder.glob('*.png'))
    for file in files:
        picture(file)
    return [file.name for file in files]


def drawn_lines(path):
    """The lines in the axes of an SVG of matplotlib: x and height of every point, in points of the page."""
    lines = re.findall(r'<path d="([^"]+)" clip-path', path.read_text())
    return [np.array(re.findall(r'[ML] (-?[\d.]+) (-?[\d.]+)', line), dtype=float) for line in lines]


def draws(path, values):
    """Whether a line of the SVG has these values, in this order; what a height stands for is not known."""
    for heights in (line[:, 1] for line in drawn_lines(path) if len(line) == len(values)):
        scale, offset = np.polyfit(values, heights, 1)
        if scale < 0 and np.abs(scale * np.array(values) + offset - heights).max() < 0.1:
            return True
    return False


def logged(work, key, training=True):
    """The values of a key in the log of a run, of its training or of its validations."""
    (file,) = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line[key] for line in lines if ('lr' in line) == training]


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def last_checkpoint(work):
    return Path((work / 'last_checkpoint').read_text())


# --- Before training -----------------------------------------------------------------------------


def test_shell_names(place):
    """The folders of the three libraries, found by what the page starts with."""
    assert place.shell('ls $CLS/test.py $DET/test.py $SEG/test.py').count('.mim/tools/test.py') == 3


def test_browse_classification(place):
    place.run('test_browse_classification')
    assert len(pictures(place.folder / 'out/browse-cls')) == 8


@pytest.mark.slow
def test_browse_detection_and_segmentation(place):
    place.run('test_browse_detection_and_segmentation')
    names = [f'train_{i:06}.png' for i in range(TRAIN)]
    for task, source in (('det', 'coco/train2017'), ('seg', 'ade/images/training')):
        folder = place.folder / f'out/browse-{task}'
        assert pictures(folder) == names
        plain = [picture(place.folder / 'data/mini' / source / name) for name in names]
        # labels are drawn on them: they have colours that the images do not have
        assert all(
            not np.isin(np.unique(picture(folder / n).reshape(-1, 3), axis=0), p).all()
            for n, p in zip(names, plain, strict=True)
        )


def test_schedule_of_a_classifier(place, classifier):
    """It is what a training follows, as its log says."""
    place.run('test_schedule_of_a_classifier')
    rates = logged(classifier, 'lr')
    assert len(rates) == 40 and draws(place.folder / 'out/lr-cls.svg', rates)


@pytest.mark.slow
def test_schedule_of_a_detector_and_a_segmentor(place, detector):
    place.run('test_schedule_of_a_detector_and_a_segmentor')
    rates = logged(detector, 'lr')
    assert len(rates) == 32 and draws(place.folder / 'out/lr-det.svg', rates)  # 8 epochs of 32 images, 8 at once
    line = max(drawn_lines(place.folder / 'out/lr-seg.svg'), key=len)  # of 2000 steps, 100 of them warm-up
    x, height = line[:, 0] - line[0, 0], line[:, 1]
    assert x[height.argmin()] / x[-1] == pytest.approx(100 / 2000, abs=0.01)


@pytest.mark.slow
def test_flops(place):
    """They are the numbers of this project's counter."""
    printed = place.run('test_flops')
    flops, params = (re.findall(rf'{name}: ([\d.]+[MG])', printed) for name in ('Flops', 'Params'))
    classifier, detector, segmentor = (
        MODELS.build(load_config(f'configs/mini/{c}.py').model) for c in (CLS, DET, SEG)
    )
    segmentor.auxiliary_head = None  # as the script does
    assert params == [
        _format_size(sum(p.numel() for p in m.parameters())) for m in (classifier, detector, segmentor)
    ]
    backbone = count(classifier.backbone, torch.zeros(1, 3, 96, 96)).flops
    assert flops[0] == _format_size(backbone + 256 * 3 * 3)  # pooling, which mmengine counts
    assert flops[2] == _format_size(count(segmentor, torch.zeros(1, 3, 128, 128)).flops)
    # a detector's depend on how many proposals its random weights make
    assert float(flops[1][:-1]) * 1e9 > count(detector.backbone, torch.zeros(1, 3, 128, 128)).flops


@pytest.mark.slow
def test_print_config(place):
    printed = place.run('test_print_config')
    assert "type='mmdwnet.DWNet'" in printed
    whole = load_config(str(place.folder / 'out/config/whole.py'))
    assert whole.model == load_config(f'configs/mini/{DET}.py').model


# --- While training ------------------------------------------------------------------------------


@pytest.mark.slow
def test_ema_and_layer_decay(place):
    """Averages are saved beside the weights, and the rates fall from block to block."""
    config = place.folder / 'my_config.py'
    config.write_text(blocks('test_ema_and_layer_decay', 'python'))
    options = 'max_epochs=2 train_dataloader.num_workers=0 train_dataloader.persistent_workers=False'
    place.shell(f'python tools/train.py my_config.py --no-validate --cfg-options {options}')
    saved = load(last_checkpoint(place.folder / 'work_dirs/my_config'))
    weights, average = saved['state_dict'], saved['ema_state_dict']
    assert all(f'module.{key}' in average for key in weights)
    assert any(not torch.equal(weights[key], average[f'module.{key}']) for key in weights)
    scales = {group['layer_id']: group['lr_scale'] for group in saved['optimizer']['param_groups']}
    depths = sum(PYRAMID_ARCHS['nano'].depths) + 2  # patch embedding, blocks, what comes after
    assert scales == pytest.approx({depth: 0.8 ** (depths - 1 - depth) for depth in range(depths)})


# --- After training ------------------------------------------------------------------------------


@pytest.mark.slow
def test_curves_of_a_classifier(place, classifier):
    printed = place.run('test_curves_of_a_classifier')
    assert draws(place.folder / 'out/loss-cls.svg', logged(classifier, 'loss'))
    assert draws(place.folder / 'out/top1.svg', logged(classifier, 'accuracy/top1', training=False))
    seconds = float(re.search(r'average iter time: ([\d.]+) s/iter', printed)[1])
    assert seconds == pytest.approx(np.mean(logged(classifier, 'time')), abs=1e-3)


@pytest.mark.slow
def test_curves_of_a_detector(place, detector):
    place.run('test_curves_of_a_detector')
    assert draws(place.folder / 'out/loss-det.svg', logged(detector, 'loss'))
    assert [len(line) for line in drawn_lines(place.folder / 'out/mAP.svg')] == [2, 2]  # boxes, masks; epochs 4, 8


@pytest.mark.slow
def test_curves_of_a_segmentor(place, segmentor):
    place.run('test_curves_of_a_segmentor')
    assert draws(place.folder / 'out/loss-seg.svg', logged(segmentor, 'loss'))
    assert draws(place.folder / 'out/mIoU.svg', logged(segmentor, 'mIoU', training=False))


def test_time_augmentation_of_a_classifier(place, classifier):
    """Both tools average the scores of the image and of its mirror image."""
    place.run('test_time_augmentation_of_a_classifier')
    ours, stock = (
        torch.stack([p['pred_score'] for p in pickle.loads((place.folder / 'out' / name).read_bytes())])
        for name in ('cls-flipped.pkl', 'cls-flipped-stock.pkl')
    )
    cfg = load_config(f'configs/mini/{CLS}.py')
    model = get_model(cfg, str(last_checkpoint(classifier)))
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, data_root=str(place.folder / 'data/mini/imagenet')))
    images = torch.stack([sample['inputs'] for sample in dataset])
    with torch.no_grad():
        plain, flipped = (
            model(model.data_preprocessor(dict(inputs=x))['inputs']).softmax(-1) for x in (images, images.flip(-1))
        )
    assert (plain - flipped).abs().max() > 1e-3
    for scores in (ours, stock):
        torch.testing.assert_close(scores, (plain + flipped) / 2, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_time_augmentation_of_boxes(place, detector):
    place.run('test_time_augmentation_of_boxes')
    plain = blocks('test_time_augmentation_of_boxes', 'bash').replace('--tta', '').replace('-flipped', '')
    place.shell(plain)
    flipped, alone = (
        [image['pred_instances']['bboxes'] for image in pickle.loads((place.folder / 'out' / name).read_bytes())]
        for name in ('boxes-flipped.pkl', 'boxes.pkl')
    )
    assert len(flipped) == len(alone) == VAL
    # boxes of the image and of its mirror image, what overlaps merged
    assert sum(map(len, flipped)) > sum(map(len, alone))


@pytest.mark.slow
def test_time_augmentation_of_a_segmentor(place, segmentor):
    place.run('test_time_augmentation_of_a_segmentor')
    place.shell('python tools/test.py configs/mini/$seg.py $(weights $seg) --out out/maps-plain')
    ours, stock, plain = (
        np.stack([np.asarray(Image.open(file)) for file in sorted((place.folder / 'out' / name).glob('*.png'))])
        for name in ('maps-flipped', 'maps-flipped-stock', 'maps-plain')
    )
    assert len(ours) == VAL and (ours == stock).all() and (ours != plain).any()


def test_confusion_of_a_classifier(place, classifier):
    place.run('test_confusion_of_a_classifier')
    matrix = pickle.loads((place.folder / 'out/confusion.pkl').read_bytes())
    picture(place.folder / 'out/confusion-cls.png')
    assert matrix.sum() == VAL
    right = 100 * matrix.diagonal().sum() / VAL
    assert right == pytest.approx(logged(classifier, 'accuracy/top1', training=False)[-1])


@pytest.mark.slow
def test_scores_and_best_and_worst_of_a_classifier(place, classifier):
    printed = place.run('test_scores_and_best_and_worst_of_a_classifier')
    top1 = logged(classifier, 'accuracy/top1', training=False)[-1]
    assert float(re.search(r"'accuracy/top1': ([\d.]+)", printed)[1]) == pytest.approx(top1)
    assert 'single-label/f1-score' in printed
    right, wrong = (pictures(place.folder / 'out/best-and-worst-cls' / kind) for kind in ('success', 'fail'))
    count_right = round(VAL * top1 / 100)
    assert (len(right), len(wrong)) == (min(8, count_right), min(8, VAL - count_right))


@pytest.mark.slow
def test_what_a_detector_confuses(place, detector):
    """Confusion matrix, scores of saved predictions, best and worst images, kinds of error."""
    printed = place.run('test_what_a_detector_confuses')
    assert 'confusion_matrix.png' in pictures(place.folder / 'out/confusion-det')
    scores = re.findall(
        r"coco/bbox_mAP'?: ([\d.]+)", printed
    )  # of both tests, and of the predictions of the first
    assert len(scores) == 3 and len(set(map(float, scores))) == 1
    best, worst = (pictures(place.folder / 'out/best-and-worst-det' / kind) for kind in ('good', 'bad'))
    assert len(best) == len(worst) == VAL // 2 and not set(best) & set(worst)
    assert len(pictures(place.folder / 'out/errors/bbox')) == 4 * 11  # areas; classes, and all of them together


@pytest.mark.slow
def test_what_a_segmentor_confuses(place, segmentor):
    place.run('test_what_a_segmentor_confuses')
    assert pictures(place.folder / 'out/confusion-seg') == ['confusion_matrix.png']


def test_activation_map_of_a_classifier(place, classifier):
    """A heat map over the image, another one for another layer."""
    place.run('test_activation_map_of_a_classifier')
    image = picture(place.folder / 'data/mini/imagenet/val/star/val_000008.png')
    last, third = (picture(place.folder / 'out' / name) for name in ('cam.png', 'cam-stage3.png'))
    assert last.shape == third.shape == (96, 96, 3)  # the image as the network sees it
    assert np.abs(last - third).mean() > 1
    # where the map is highest there is more red, and more blue where it is 0, than in the image
    assert np.ptp(last[..., 0] - last[..., 2]) > np.ptp(image[..., 0] - image[..., 2])


@pytest.mark.slow
def test_activation_map_of_a_segmentor(place, segmentor):
    place.run('test_activation_map_of_a_segmentor')
    picture(place.folder / 'out/segmented.png')
    image = picture(place.folder / 'data/mini/ade/images/validation/val_000008.png')
    assert picture(place.folder / 'out/cam-seg.png').shape == image.shape
    # so few steps may find no star; the background is there, and its map is not the same everywhere
    command = blocks('test_activation_map_of_a_segmentor', 'bash').replace(
        '--category-index 9', '--category-index 0'
    )
    place.shell(command)
    assert (picture(place.folder / 'out/cam-seg.png') - image).std() > 10


@pytest.mark.slow
def test_tsne(place, classifier):
    place.run('test_tsne')
    (folder,) = place.folder.glob('out/tsne/tsne_*')
    features = np.load(folder / 'feat_3.npy')
    assert features.shape == (VAL, 256) and features.std(0).min() > 0
    picture(folder / 'feat_3.png')


def published(place, kind, source):
    """The published file of a task: weights and no optimizer, the same that were saved."""
    (file,) = place.folder.glob(f'out/dwnet-nano_{kind}*-*.pth')
    content, saved = load(file), load(last_checkpoint(source))
    assert 'optimizer' in saved and 'optimizer' not in content
    assert content['state_dict'].keys() == saved['state_dict'].keys()
    assert all(torch.equal(content['state_dict'][key], value) for key, value in saved['state_dict'].items())
    return file


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_publish_a_classifier(place, classifier):
    place.run('test_publish_a_classifier')
    file = published(place, 'cls', classifier)
    assert file.stem.endswith('-' + sha256(file))
    load_dwnet_model(f'configs/mini/{CLS}.py', str(file))


@pytest.mark.slow
def test_publish_a_detector_and_a_segmentor(place, detector, segmentor):
    place.run('test_publish_a_detector_and_a_segmentor')
    file = published(place, 'det', detector)
    assert file.stem.endswith('-' + sha256(file))
    load_dwnet_model(f'configs/mini/{DET}.py', str(file))
    file = published(place, 'seg', segmentor)
    assert file.stem.endswith('-' + sha256(last_checkpoint(segmentor)))  # as the page says
    load_dwnet_model(f'configs/mini/{SEG}.py', str(file))
