"""Distillation: the losses against their formulas, a teacher that stays as it is, and a whole small training."""

import copy
import json
import math

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmdwnet.engine.config import load_config
from mmdwnet.engine.distillation import DistillationLoss, DistilledHead
from mmdwnet.errors import UserError

STUDENT = 'configs/mini/deit-nano_distilled_cls_mini.py'
TEACHER = """
_base_ = '{root}/configs/mini/dwnet-nano_cls_mini.py'
data_preprocessor = dict(mean={mean}, std=[51.0, 52.0, 53.0], to_rgb={to_rgb})
"""


def softmax(scores):
    """Rows of probabilities, in Python's own numbers."""
    rows = []
    for row in scores.tolist():
        powers = [math.exp(score) for score in row]
        rows.append([power / sum(powers) for power in powers])
    return rows


def scores_of_two(seed=0, batch=5, classes=7):
    torch.manual_seed(seed)
    return 2 * torch.randn(batch, classes, dtype=torch.double), 2 * torch.randn(batch, classes, dtype=torch.double)


def test_hard_distillation_is_cross_entropy_with_the_decision_of_the_teacher():
    student, teacher = scores_of_two()
    rows = [
        -math.log(row[max(range(7), key=said.__getitem__)])
        for row, said in zip(softmax(student), teacher.tolist(), strict=True)
    ]
    assert DistillationLoss('hard')(student, teacher).item() == pytest.approx(sum(rows) / 5, rel=1e-12)


@pytest.mark.parametrize('temperature', [None, 1.0, 4.5])
def test_soft_distillation_is_the_divergence_at_a_temperature(temperature):
    student, teacher = scores_of_two(1)
    t = 3.0 if temperature is None else temperature
    ours, theirs = softmax(student / t), softmax(teacher / t)
    rows = [
        sum(p * math.log(p / q) for p, q in zip(*pair, strict=True)) for pair in zip(theirs, ours, strict=True)
    ]
    loss = DistillationLoss('soft', temperature)(student, teacher)
    assert loss.item() == pytest.approx(t**2 * sum(rows) / 5, rel=1e-12)


def head_and_feats(**options):
    torch.manual_seed(2)
    head = DistilledHead(num_classes=7, in_channels=6, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head, ((torch.randn(5, 6), torch.randn(5, 6)),)


@pytest.mark.parametrize('kind', ['hard', 'soft'])
@pytest.mark.parametrize('mixed', [False, True])
def test_head_adds_both_losses_by_their_weight(kind, mixed):
    """The class token has the labels, smoothed by 0.1, hard or mixed; the other token has the teacher."""
    head, feats = head_and_feats(distillation=kind)
    teacher = scores_of_two(3)[1].float()
    labels = torch.tensor([6, 0, 3, 3, 1])
    target = torch.nn.functional.one_hot(labels, 7).float()
    samples = [DataSample().set_gt_label(label) for label in labels]
    if mixed:
        target = 0.7 * target + 0.3 * target.roll(1, 0)
        samples = [DataSample().set_gt_score(row) for row in target]
    losses = head.loss(feats, samples, teacher)
    weight = dict(hard=0.5, soft=0.1)[kind]
    smooth = 0.9 * target + 0.1 / 7
    scores, dist_scores = (layer(x) for layer, x in zip((head.fc, head.fc_dist), feats[0], strict=True))
    expected = -(smooth * torch.tensor(softmax(scores)).log()).sum(1).mean()
    assert losses['loss_class'].item() == pytest.approx((1 - weight) * expected.item(), rel=1e-5)
    distilled = DistillationLoss(kind)(dist_scores, teacher)
    assert losses['loss_distillation'].item() == pytest.approx(weight * distilled.item(), rel=1e-5)
    assert head_and_feats(distillation=kind, weight=0.25)[0].weight == 0.25


def test_prediction_is_the_mean_of_the_softmaxes():
    head, feats = head_and_feats()
    mean = (torch.tensor(softmax(head.fc(feats[0][0]))) + torch.tensor(softmax(head.fc_dist(feats[0][1])))) / 2
    given = [DataSample().set_gt_label(1) for _ in range(5)]
    for samples in (head.predict(feats), head.predict(feats, given)):
        torch.testing.assert_close(torch.stack([sample.pred_score for sample in samples]), mean)
        assert [sample.pred_label.item() for sample in samples] == mean.argmax(1).tolist()
    torch.testing.assert_close(head(feats).softmax(1), mean)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kind='firm'), 'one of hard, soft'),
        (dict(kind='hard', temperature=2.0), 'has no temperature'),
        (dict(kind='soft', temperature=0.0), 'must be positive'),
    ],
)
def test_loss_refuses_what_it_would_not_use(options, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**options)


def test_head_refuses_one_token():
    head, feats = head_and_feats()
    with pytest.raises(ValueError, match='distillation_token=True'):
        head((feats[0][0],))
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        head_and_feats(weight=1.5)


@pytest.fixture
def teacher(tmp_path, request):
    """A classifier with another normalisation than the student's; its config and its checkpoint."""

    def make(mean=(10.0, 120.0, 250.0), to_rgb=True, **overrides):
        config = tmp_path / 'teacher.py'
        config.write_text(TEACHER.format(root=request.config.rootpath, mean=list(mean), to_rgb=to_rgb))
        cfg = load_config(str(config), overrides)
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        torch.manual_seed(4)
        model = MODELS.build(cfg.model)
        model.init_weights()
        torch.nn.init.normal_(model.head.fc.weight)  # answers that differ
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
        return dict(config=str(config), checkpoint=str(tmp_path / 'teacher.pth')), model.eval()

    return make


def student_of(teacher, **overrides):
    cfg = load_config(STUDENT, overrides)
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.model.teacher = teacher
    torch.manual_seed(5)
    return MODELS.build(cfg.model)


def raw_batch(batch=3, size=(40, 56)):
    samples = [DataSample().set_gt_label(i) for i in range(batch)]
    return dict(inputs=list(torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)), data_samples=samples)


def test_teacher_learns_nothing_and_is_no_part_of_the_student(teacher):
    named, _ = teacher()
    student = student_of(named)
    untaught = list(student.state_dict())
    student.init_weights()
    student.train()
    net = student.teacher.net
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    losses = student(**student.data_preprocessor(raw_batch(), training=True), mode='loss')
    sum(losses.values()).backward()
    optimizer.step()
    assert list(student.state_dict()) == untaught
    held = {id(tensor) for tensor in (*net.parameters(), *net.buffers())}
    assert held.isdisjoint(id(tensor) for tensor in (*student.parameters(), *student.buffers()))
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_teacher_goes_where_the_student_goes_and_a_copy_shares_it(teacher):
    student = student_of(teacher()[0])
    student.double().init_weights()
    assert next(student.teacher.net.parameters()).dtype == torch.float  # as its checkpoint says
    student.double()
    assert {parameter.dtype for parameter in student.teacher.net.parameters()} == {torch.double}
    assert copy.deepcopy(student).teacher is student.teacher


@pytest.mark.parametrize('to_rgb', [True, False])
def test_teacher_sees_the_images_in_its_own_normalisation(teacher, to_rgb):
    """Its scores are those it gives itself for the raw images, to float32 of pixels that were scaled twice."""
    named, model = teacher(to_rgb=to_rgb)
    student = student_of(named)
    student.init_weights()
    batch = raw_batch()
    with torch.no_grad():
        expected = model(**model.data_preprocessor(copy.deepcopy(batch)), mode='tensor')
        images = student.data_preprocessor(copy.deepcopy(batch))['inputs']
        torch.testing.assert_close(student.teacher.scores(images), expected, rtol=1e-3, atol=1e-4)
        assert (model(images, mode='tensor') - expected).abs().max() > 0.1  # it does matter


def test_teacher_of_this_package_by_name():
    """`mmdwnet::...` and `mmpretrain::...` are found wherever one stands."""
    cfg = load_config(STUDENT)
    assert cfg.model.teacher.config.startswith('mmdwnet::')
    from mmdwnet.engine.distillation import _read_config

    assert _read_config(cfg.model.teacher.config).model == load_config('configs/mini/dwnet-nano_cls_mini.py').model
    assert _read_config('mmpretrain::resnet/resnet50_8xb32_in1k.py').model.backbone.depth == 50


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth: no such file'),
        (dict(config='nowhere.py'), 'nowhere.py not found'),
        (dict(config='mmnothing::a/b.py'), 'mmnothing is not installed'),
        (dict(config='mmpretrain::resnet/resnet5_none.py'), 'cannot be read'),
        (dict(config='configs/mini/dynamic-dwnet-nano_cls_mini.py'), 'does not fit'),
        (dict(config='configs/mini/dwnet-nano_upernet_mini.py'), 'is no classifier'),
    ],
)
def test_teacher_that_cannot_be_had_is_one_line(teacher, change, message):
    student = student_of({**teacher()[0], **change})
    with pytest.raises(UserError, match=message) as error:
        student.init_weights()
    assert '\n' not in str(error.value)


def test_teacher_of_other_classes_is_refused(teacher):
    named, _ = teacher()
    with pytest.raises(UserError, match='has 10 classes and the student 11'):
        student_of(named, num_classes=11).init_weights()


MIXED = """
_base_ = '{root}/{student}'
data_preprocessor = dict(num_classes=10)
model = dict(
    head=dict(loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(_delete_=True, augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
    teacher=dict(config='{config}', checkpoint='{checkpoint}'),
)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""


def test_training_with_mixed_images_then_test_without_the_teacher(
    teacher, mini_root, run_python, tmp_path, request
):
    named, _ = teacher()
    config = tmp_path / 'student.py'
    config.write_text(MIXED.format(root=request.config.rootpath, student=STUDENT, **named))
    options = ['--cfg-options', f'data_root={mini_root}/imagenet', 'max_epochs=2', 'train_dataloader.batch_size=4']
    for split in ('train', 'val', 'test'):
        options += [f'{split}_dataloader.num_workers=0', f'{split}_dataloader.persistent_workers=False']
    work_dir = tmp_path / 'work'
    options += ['default_hooks.logger.interval=1', 'param_scheduler=None']
    done = run_python('tools/train.py', config, '--work-dir', work_dir, *options)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    steps = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [step['loss'] for step in steps if 'loss_distillation' in step]
    assert len(losses) == 10
    assert sum(losses[5:]) < 0.9 * sum(losses[:5])

    checkpoint = work_dir / 'epoch_2.pth'
    saved = torch.load(checkpoint, map_location='cpu', weights_only=False)
    assert not [key for key in saved['state_dict'] if 'teacher' in key or 'classifier' in key]
    for file in named.values():
        (tmp_path / file).unlink()
    done = run_python('tools/test.py', config, checkpoint, '--work-dir', tmp_path / 'test', *options)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert 'accuracy/top1' in done.stdout + done.stderr
    done = run_python('tools/train.py', config, '--work-dir', tmp_path / 'again', *options)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith('error: config ')
