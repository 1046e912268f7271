"""The report of a run: what it counts is what the metrics of the libraries say, and its page is true."""

import copy
import html
import json
import os
import re

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from written_runs import ended, write_evaluation, write_session

from mmdwnet.analysis.run_report.collecting import collect
from mmdwnet.analysis.run_report.comparing import write_comparison
from mmdwnet.analysis.run_report.facts import EVALUATION, FOLDER, differences
from mmdwnet.analysis.run_report.page import contents, render, write_report
from mmdwnet.analysis.run_report.per_class import class_table, confusions
from mmdwnet.analysis.run_report.reading import best, pace
from mmdwnet.analysis.run_report.records import Evaluation, Records, merged
from mmdwnet.errors import UserError


def text_of(page):
    """What a page says, without its styles and pictures."""
    return ' '.join(
        html.unescape(re.sub(r'<style>.*?</style>|<[^>]+>', ' ', page.read_text(), flags=re.S)).split()
    )


def evaluated(task, classes, samples, processes=1):
    """The evaluation of samples that so many processes share, filled up as mmengine's sampler does."""
    parts, images = [], len(samples)
    for rank in range(processes):
        records = Records(task, dict(classes=classes), images, rank, processes)
        own = range(rank, -(-images // processes) * processes, processes)
        records.add([None] * len(own), [samples[i % images] for i in own])
        parts.append(records.parts())
    return merged(parts, dict(task=task, classes=classes, palette=[[0, 0, 0]] * len(classes), images=images))


@pytest.mark.parametrize('processes', [1, 2])
def test_classes_are_counted_once_each(processes, mini_root):
    from mmpretrain.structures import DataSample

    samples = []
    for truth, found in [(0, 0), (0, 1), (1, 1), (2, 1), (0, 1)]:
        scores = torch.full((3,), 0.1)
        scores[found] = 0.8
        samples.append(DataSample().set_gt_label(truth).set_pred_score(scores).set_pred_label(found))
    table = class_table(evaluated('cls', ['a', 'b', 'c'], samples, processes))
    assert [row.values[0] for row in table.rows] == pytest.approx([1 / 3, 1, 0])
    assert table.confusion.tolist() == [[1, 2, 0], [0, 1, 0], [0, 1, 0]]
    assert confusions(table) == [('a', 'b', 2, 2 / 3), ('c', 'b', 1, 1.0)]


@pytest.mark.parametrize('processes', [1, 2])
def test_the_ap_of_classes_is_that_of_coco(processes, mini_root):
    from mmdet.evaluation import CocoMetric
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    file = mini_root / 'coco/annotations/instances_val2017.json'
    content, chance = json.loads(file.read_text()), np.random.default_rng(0)
    classes = [each['name'] for each in content['categories']]
    label_of = {each['id']: i for i, each in enumerate(content['categories'])}
    metric, samples = CocoMetric(str(file), metric='bbox'), []
    metric.dataset_meta = dict(classes=classes)
    for image in content['images']:
        own = [each for each in content['annotations'] if each['image_id'] == image['id']]
        boxes = np.array([each['bbox'] for each in own], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label_of[each['category_id']] for each in own])
        guesses = np.concatenate(
            [boxes + chance.normal(0, 2, boxes.shape), chance.uniform(0, 64, (3, 2)).repeat(2, 1)]
        )
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 4)
        guessed = np.concatenate([labels, chance.integers(0, len(classes), 3)])
        sample = DetDataSample(metainfo=dict(img_id=image['id'], ori_shape=(64, 64)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes).float(), labels=torch.tensor(labels))
        scores = torch.tensor(chance.uniform(0.05, 1, len(guessed))).float()
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(guesses).float(), labels=torch.tensor(guessed), scores=scores
        )
        samples.append(sample)
        metric.process({}, [copy.deepcopy(sample).to_dict()])
    expected = metric.evaluate(len(samples))['coco/bbox_mAP']
    assert 0.05 < expected < 0.95
    assert class_table(evaluated('det', classes, samples, processes)).mean == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize('processes', [1, 2])
def test_the_iou_of_classes_is_that_of_mmseg(processes):
    from mmengine.structures import PixelData
    from mmseg.evaluation import IoUMetric
    from mmseg.structures import SegDataSample

    classes, samples = ['sky', 'sea', 'land'], []
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=classes)
    chance = torch.Generator().manual_seed(0)
    for _ in range(5):
        truth = torch.randint(0, 3, (1, 8, 9), generator=chance)
        found = torch.where(torch.rand(truth.shape, generator=chance) < 0.6, truth, 1)
        truth[0, 0] = 255  # is ignored
        sample = SegDataSample()
        sample.gt_sem_seg, sample.pred_sem_seg = PixelData(data=truth), PixelData(data=found)
        samples.append(sample)
        metric.process({}, [copy.deepcopy(sample).to_dict()])
    expected = metric.evaluate(len(samples))
    table = class_table(evaluated('seg', classes, samples, processes))
    assert 100 * table.mean == pytest.approx(expected['mIoU'], abs=0.006)
    assert table.confusion.sum() == 5 * 7 * 9


def test_a_record_that_was_written_is_read_back(tmp_path):
    session = write_session(tmp_path, facts={})
    write_evaluation(session, [0, 1, 2, 2], [0, 1, 1, 1])
    evaluation = collect(tmp_path).evaluation
    assert evaluation.rows['images']['found'].tolist() == [0, 1, 1, 1]
    assert [each.index for each in evaluation.worst] == [2, 3] and evaluation.worst[0].jpeg[:2] == b'\xff\xd8'
    broken = session / 'run_report' / 'evaluation.npz'
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ValueError, match='is cut off'):
        Evaluation.load(broken)
    write_report(tmp_path, tmp_path / 'page.html')
    assert 'No record' in text_of(tmp_path / 'page.html')


def test_a_resumed_run_is_one_run(tmp_path):
    """Killed after step 25, it went on from its checkpoint of step 20."""
    write_session(tmp_path, '20260101_120000', range(1, 26), [(1, 30.0), (2, 60.0)], {})
    facts = dict(first_step=20, resumed=True, ended=ended())
    write_session(tmp_path, '20260101_130000', range(21, 41), [(3, 55.0)], facts)
    run = collect(tmp_path)
    assert [line['step'] for line in run.steps] == list(range(1, 41))
    assert [line['accuracy/top1'] for line in run.evaluations] == [30, 60, 55]
    top = best(run, 'accuracy/top1')
    assert (top.value, top.step) == (60, 2)
    assert pace(run).images == pytest.approx(16)
    write_report(tmp_path, tmp_path / 'page.html')
    text = text_of(tmp_path / 'page.html')
    assert 'The training is through.' in text and 'killed or lost' in text and '20 to 40' in text


@pytest.mark.parametrize(('by_epoch', 'unit'), [(True, 1), (False, 10)])
def test_validations_that_a_resume_has_undone_are_left_out(by_epoch, unit, tmp_path):
    """Validated up to step 50, it went on from its checkpoint of step 40, and was killed before the next one."""
    facts, validated = dict(by_epoch=by_epoch), [(unit * i, 10.0 * i) for i in range(1, 6)]
    write_session(tmp_path, '20260101_120000', range(1, 51), validated, facts)
    write_session(tmp_path, '20260101_130000', range(41, 43), [], dict(facts, first_step=40, resumed=True))
    run = collect(tmp_path)
    assert [line['step'] for line in run.evaluations] == [unit * i for i in range(1, 5)]
    assert best(run, 'accuracy/top1').value == 40


@pytest.mark.parametrize(('first_step', 'is_kept'), [(40, True), (30, False)])
def test_the_record_of_a_validation_goes_where_a_resume_undoes_it(first_step, is_kept, tmp_path):
    write_evaluation(write_session(tmp_path, '20260101_120000', facts={}), [0, 1], [0, 0])  # after step 40
    facts = dict(first_step=first_step, resumed=True)
    write_session(tmp_path, '20260101_130000', range(first_step + 1, first_step + 3), facts=facts)
    assert (collect(tmp_path).evaluation is not None) == is_kept


def test_another_training_in_the_same_folder_is_not_mixed_in(tmp_path):
    write_session(tmp_path, '20260101_120000', range(1, 26), [(1, 99.0)], dict(ended=ended()))
    write_session(tmp_path, '20260102_120000', range(1, 11), [(1, 20.0)], dict(ended=ended(step=10)))
    run = collect(tmp_path)
    assert len(run.steps) == 10 and best(run, 'accuracy/top1').value == 20 and run.earlier == 1


@pytest.mark.parametrize(
    ('end', 'says'),
    [
        (ended(), 'The training is through.'),
        (
            ended('preempted', 20, 'gave way at iteration 20'),
            'it gave way to a signal. It came to iteration 20 of 40',
        ),
        (ended('failed', 20, 'no room left'), 'an error stopped it. It came to iteration 20 of 40, epoch 2 of 4.'),
        (None, 'its process was killed, or its machine lost. It came to iteration 20 of 40, epoch 2 of 4.'),
    ],
)
def test_the_page_says_at_its_top_how_the_run_ended(end, says, tmp_path):
    write_session(tmp_path, facts=dict(ended=end))
    write_report(tmp_path, tmp_path / 'page.html')
    text = text_of(tmp_path / 'page.html')
    assert says in text[: text.index('Metrics')]
    if end and end['why']:
        assert end['why'] in text


def test_a_last_line_that_is_half_is_left_out_and_said(tmp_path):
    session = write_session(tmp_path, facts={})
    scalars = session / 'vis_data' / 'scalars.json'
    scalars.write_text(scalars.read_text()[:-30])
    run = collect(tmp_path)
    assert len(run.steps) == 19
    write_report(tmp_path, tmp_path / 'page.html')
    assert 'could not be read and are left out: 1' in text_of(tmp_path / 'page.html')


def test_a_run_of_a_stock_tool_has_its_curves(tmp_path):
    session = write_session(tmp_path, evaluations=[(1, 50.0)])
    (session / f'{session.name}.log').write_text('Epoch(train)  [1][10/10]  lr: 1\n')
    write_report(tmp_path, tmp_path / 'page.html')
    text = text_of(tmp_path / 'page.html')
    assert "not started by this project's tools" in text and '50.00' in text and 'Not known' in text
    assert 'alt="Loss: loss from 10 to 0.5"' in (tmp_path / 'page.html').read_text()


def test_the_page_of_an_evaluation_without_pictures_says_so(tmp_path):
    session = write_session(tmp_path, facts={})
    write_evaluation(session, [0, 1], [0, 0])
    write_report(tmp_path, tmp_path / 'page.html')
    page = (tmp_path / 'page.html').read_text()
    assert page.count('data:image/jpeg') == 3 and 'No picture' not in page and ': px' not in page
    found = collect(tmp_path).evaluation
    Evaluation(found.facts, found.rows, [], []).save(session / FOLDER / EVALUATION)
    write_report(tmp_path, tmp_path / 'page.html')
    assert 'No picture was kept' in text_of(tmp_path / 'page.html')


def test_a_value_that_a_template_lacks_is_an_error(tmp_path):
    write_session(tmp_path, facts={})
    values = contents(collect(tmp_path))
    del values['tiles']
    with pytest.raises(UndefinedError, match='tiles'):
        render('report.html', **values)


def test_names_from_outside_are_text_on_the_page(tmp_path):
    write_session(tmp_path, facts=dict(differences=[['model.depth', '2', '<script>alert(1)</script>']]))
    write_report(tmp_path, tmp_path / 'page.html')
    assert '<script' not in (tmp_path / 'page.html').read_text()


def test_names_that_are_no_utf8_are_on_the_page_with_a_question_mark(tmp_path):
    folder = tmp_path / os.fsdecode(b'caf\xe9')
    session = write_session(folder, facts={})
    write_evaluation(session, [0, 1], [0, 0])
    found = collect(folder).evaluation
    facts = dict(found.facts, classes=[os.fsdecode(b'na\xefve'), 'dog', 'owl'])
    Evaluation(facts, found.rows, found.samples, []).save(session / FOLDER / EVALUATION)
    write_report(folder, tmp_path / 'page.html')
    text = text_of(tmp_path / 'page.html')
    assert 'caf?' in text and 'na?ve' in text
    write_session(tmp_path / 'other')
    write_comparison([folder, tmp_path / 'other'], tmp_path / 'page.html')


def test_the_same_run_gives_the_same_page(tmp_path):
    write_evaluation(write_session(tmp_path, facts={}), [0, 1], [0, 0])
    pages = [tmp_path / 'a.html', tmp_path / 'b.html']
    for page in pages:
        write_report(tmp_path, page)
    first, second = (re.sub(r' on \d{4}-.*? UTC', '', page.read_text()) for page in pages)
    assert first == second


def test_what_differs_from_a_recipe_is_named_by_its_key():
    recipe = dict(a=1, work_dir='x', lists=[dict(type='A', size=(1, 2)), dict(type='B')], gone=dict(b=None))
    used = dict(a=1, work_dir='y', lists=[dict(type='A', size=(2, 2)), dict(type='B', new='c')])
    assert differences(recipe, used) == [
        ('lists.0.size', '(1, 2)', '(2, 2)'),
        ('gone.b', 'None', None),
        ('lists.1.new', None, "'c'"),
    ]


@pytest.mark.parametrize(
    ('make', 'says'),
    [
        (lambda path: None, 'not found'),
        (lambda path: path.write_text(''), 'is a file'),
        (lambda path: path.mkdir(), 'is no work directory of a run'),
        (lambda path: (path / '20260101_120000').mkdir(parents=True), 'ended before a first step'),
    ],
)
def test_what_is_no_run_is_named_in_one_line(make, says, tmp_path):
    make(tmp_path / 'run')
    with pytest.raises(UserError, match=says) as error:
        collect(tmp_path / 'run')
    assert '\n' not in str(error.value)
