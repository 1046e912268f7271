"""ReaL accuracy: against answers worked out by hand, and beside top-1 in the evaluators of the configs."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample

import mmdwnet  # noqa: F401  (makes the scope `mmdwnet` known to mmengine)
from mmdwnet.engine.config import load_config
from mmdwnet.errors import UserError
from mmdwnet.evaluation import ReaLAccuracy

IMAGENET = Path(__file__).resolve().parents[2] / 'configs/imagenet'

# ReaL labels by image number; every other image has [0]
LABELS = {1: [65, 795], 2: [], 3: [230], 7: [999, 3, 4], 50000: [5]}
# image, its ImageNet label, what the model predicts, and whether ReaL counts it (None: left out)
CASES = [
    ('n02/ILSVRC2012_val_00000003.JPEG', 231, 230, True),  # another class than ImageNet's, and right
    ('n01/ILSVRC2012_val_00050000.JPEG', 5, 6, False),
    ('n01/ILSVRC2012_val_00000002.JPEG', 8, 8, None),
    ('n01/ILSVRC2012_val_00000001.JPEG', 795, 65, True),
    ('n03/ILSVRC2012_val_00000007_n03888257.JPEG', 3, 4, True),
    ('n03/ILSVRC2012_val_00000008.JPEG', 7, 7, False),
]


def write(path, labels):
    path.write_text(json.dumps(labels))
    return str(path)


@pytest.fixture
def real_json(tmp_path):
    return write(tmp_path / 'real.json', [LABELS.get(number, [0]) for number in range(1, 50001)])


def sample(image, label, prediction, classes=1000):
    scores = torch.zeros(classes)
    scores[prediction] = 1
    data = DataSample(metainfo=dict(img_path=f'data/imagenet/val/{image}'))
    return data.set_gt_label(label).set_pred_score(scores)


def evaluate(metrics, samples, batch=2, size=None):
    evaluator = Evaluator(metrics)
    for start in range(0, len(samples), batch):
        evaluator.process(samples[start : start + batch])
    return evaluator.evaluate(size or len(samples))


def test_beside_top1_in_the_order_of_class_folders(real_json):
    """3 of the 5 labelled images are right by ReaL, 2 of 6 by ImageNet's labels."""
    metrics = [dict(type='mmpretrain.Accuracy'), dict(type='mmdwnet.ReaLAccuracy', labels=real_json)]
    results = evaluate(metrics, [sample(*case[:3]) for case in CASES])
    assert results == {'accuracy/top1': pytest.approx(200 / 6), 'accuracy/real': pytest.approx(60)}


@pytest.mark.parametrize('case', CASES, ids=[case[0] for case in CASES])
def test_each_image(real_json, case):
    image, label, prediction, right = case
    metric = ReaLAccuracy(real_json)
    if right is None:
        with pytest.raises(UserError, match='none of the 1 images'):
            evaluate(metric, [sample(image, label, prediction)])
    else:
        assert evaluate(metric, [sample(image, label, prediction)]) == {'accuracy/real': 100 * right}


def test_the_order_and_the_other_images_do_not_matter(real_json):
    samples = [sample(*case[:3]) for case in CASES]
    forward = evaluate(ReaLAccuracy(real_json), samples)
    assert evaluate(ReaLAccuracy(real_json), samples[::-1], batch=4) == forward
    without = [sample(*case[:3]) for case in CASES if case[3] is not None]
    assert evaluate(ReaLAccuracy(real_json), without) == forward


def test_padded_images_of_several_processes_are_cut(real_json):
    """The gathering keeps the first `size` results: left-out images must hold their place among them."""
    samples = [sample(*CASES[i][:3]) for i in (2, 3, 1)]  # left out, right; then one padded, wrong
    assert evaluate(ReaLAccuracy(real_json), samples, size=2) == {'accuracy/real': 100}


def test_predicted_labels_without_scores(real_json):
    data = DataSample(metainfo=dict(img_path='ILSVRC2012_val_00000003.JPEG')).set_pred_label(230)
    assert evaluate(ReaLAccuracy(real_json), [data]) == {'accuracy/real': 100}


def test_without_labels_nothing_is_reported():
    """As the configs have it; samples that are none of ImageNet's pass."""
    metrics = [Accuracy(), METRICS.build(dict(type='mmdwnet.ReaLAccuracy'))]
    assert evaluate(metrics, [sample('star/1.png', 1, 1, classes=3)]) == {'accuracy/top1': 100}


def test_wrong_label_files(tmp_path):
    with pytest.raises(UserError, match='none.json not found: expected the published real.json'):
        ReaLAccuracy(str(tmp_path / 'none.json'))
    (tmp_path / 'text.json').write_text('[[1], [2')
    with pytest.raises(UserError, match='are no JSON'):
        ReaLAccuracy(str(tmp_path / 'text.json'))
    labels = [[0]] * 50000
    wrong = {
        'hold 49999 entries, not a list of 50000': labels[1:],
        'hold a dict': {'1': [0]},
        'image 1 has 3, not a list': [3, *labels[1:]],
        r'image 2 has \[1000\], not a list of classes from 0 to 999': [[0], [1000], *labels[2:]],
        r'image 50000 has \[-1\]': [*labels[1:], [-1]],
        r"image 1 has \['cat'\]": [['cat'], *labels[1:]],
        r'image 1 has \[True\]': [[True], *labels[1:]],
    }
    for message, content in wrong.items():
        with pytest.raises(UserError, match=message) as error:
            ReaLAccuracy(write(tmp_path / 'wrong.json', content))
        assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'image', ['1.png', 'ILSVRC2012_val_1.JPEG', 'ILSVRC2012_test_00000001.JPEG', 'ILSVRC2012_val_00050001.JPEG']
)
def test_images_without_a_number(real_json, image):
    with pytest.raises(UserError, match=f'{image} does not tell its number: expected an image of the ImageNet'):
        evaluate(ReaLAccuracy(real_json), [sample(image, 1, 1)])


def test_predictions_that_are_not_of_imagenet(real_json):
    with pytest.raises(UserError, match='scores 21841 classes'):
        evaluate(ReaLAccuracy(real_json), [sample(CASES[0][0], 1, 1, classes=21841)])
    with pytest.raises(UserError, match="no 'img_path'.*meta_keys"):
        evaluate(ReaLAccuracy(real_json), [DataSample().set_pred_label(1)])


@pytest.mark.parametrize('config', sorted(IMAGENET.glob('*_in1k.py')), ids=lambda path: path.stem)
def test_the_option_that_the_imagenet_configs_document(config, real_json):
    cfg = load_config(str(config), {f'{part}_evaluator.1.labels': real_json for part in ('val', 'test')})
    samples = [sample(*case[:3]) for case in CASES]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        results = evaluate(evaluator, samples)
        assert sorted(results) == ['accuracy/real', 'accuracy/top1', 'accuracy/top5']
        assert results['accuracy/real'] == pytest.approx(60)
