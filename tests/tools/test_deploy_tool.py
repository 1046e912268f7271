"""tools/model_converters/deploy.py: a checkpoint and a config that score as before, for all three tasks."""

import pickle

import pytest
import torch
from mmengine.config import Config
from torch.nn.modules.batchnorm import _BatchNorm

from mmdwnet.checkpoints import read_checkpoint
from mmdwnet.engine.deploying import deploy_checkpoint
from mmdwnet.engine.launch import test as run_test  # pytest would take it for a test
from mmdwnet.engine.launch import test_parser as options_of_test
from mmdwnet.engine.models import load_dwnet_model
from mmdwnet.errors import UserError

TOOL = 'tools/model_converters/deploy.py'
# a mixer each: config, layout of the mini dataset
TASKS = {
    'cls': ('configs/mini/dynamic-dwnet-nano_cls_mini.py', 'imagenet'),
    'det': ('configs/mini/dwnet-nano_mask-rcnn_mini.py', 'coco'),
    'seg': ('configs/mini/idynamic-dwnet-nano_upernet_mini.py', 'ade'),
}
META = dict(dataset_meta=dict(classes=('nut', 'fig')), epoch=3)


@pytest.fixture(scope='module')
def checkpoint_of(tmp_path_factory, make_checkpoint):
    """The checkpoint of a task, with parameters and statistics that are not the initial ones."""
    folder, made = tmp_path_factory.mktemp('checkpoints'), {}

    def checkpoint(task):
        if task not in made:
            made[task] = make_checkpoint(TASKS[task][0], folder / f'{task}.pth', META)
        return made[task]

    return checkpoint


def score(task, config, checkpoint, mini_root, folder):
    """Metrics and predictions of tools/test.py."""
    arguments = [
        config,
        checkpoint,
        '--work-dir',
        folder,
        '--cfg-options',
        f'data_root={mini_root / TASKS[task][1]}',
    ]
    arguments += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    out = folder / 'predictions.pkl'
    if task != 'seg':
        arguments += ['--out', out]
    metrics = run_test(options_of_test().parse_args([str(argument) for argument in arguments]))
    return metrics, pickle.loads(out.read_bytes()) if out.exists() else []


@pytest.mark.parametrize('task', TASKS)
def test_the_deployed_model_scores_as_before(task, checkpoint_of, mini_root, tmp_path):
    config, source = TASKS[task][0], checkpoint_of(task)
    target = tmp_path / 'small.pth'
    assert 0 < deploy_checkpoint(config, source, str(target)) < 1e-5
    before, predictions = score(task, config, source, mini_root, tmp_path / 'before')
    after, others = score(task, tmp_path / 'small.py', target, mini_root, tmp_path / 'after')
    assert before and after == pytest.approx(before, abs=0.05, nan_ok=True)  # in percent
    assert len(predictions) == len(others) == (0 if task == 'seg' else 10)
    for a, b in zip(predictions, others, strict=True):
        if task == 'cls':
            torch.testing.assert_close(a['pred_score'], b['pred_score'], rtol=1e-4, atol=1e-5)
        else:
            assert len(a['pred_instances']['scores']) > 0
            torch.testing.assert_close(
                a['pred_instances']['scores'], b['pred_instances']['scores'], rtol=1e-3, atol=1e-4
            )


def test_the_command_and_what_it_writes(checkpoint_of, run_python, tmp_path):
    config, source = TASKS['cls'][0], checkpoint_of('cls')
    arguments = [
        TOOL,
        config,
        source,
        tmp_path / 'small.pth',
        '--cfg-options',
        'model.backbone.drop_path_rate=0.1',
    ]
    done = run_python(*arguments)
    assert done.returncode == 0, done.stderr
    assert f'{tmp_path / "small.pth"}: deployed' in done.stdout and 'tools/test.py' in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ['small.pth', 'small.py']
    content = read_checkpoint(tmp_path / 'small.pth')
    assert list(content['meta']['dataset_meta']['classes']) == ['nut', 'fig'] and 'epoch' not in content['meta']
    assert not any('running' in key for key in content['state_dict'])
    written = Config.fromfile(tmp_path / 'small.py')
    for cfg in (written, Config.fromstring(content['meta']['cfg'], '.py')):  # the inferencers look there
        assert cfg.model.backbone.deploy is True and cfg.model.backbone.drop_path_rate == 0.1
        assert cfg.model.backbone.init_cfg is None and cfg.custom_imports.imports == ['mmdwnet']
    done = run_python(*arguments)
    assert done.returncode == 2 and 'is there already' in done.stderr and done.stderr.count('\n') == 1


def test_the_two_forms_are_not_taken_for_each_other(checkpoint_of, tmp_path):
    config, source = TASKS['cls'][0], checkpoint_of('cls')
    target = str(tmp_path / 'small.pth')
    deploy_checkpoint(config, source, target)
    deployed = {'model.backbone.deploy': True}
    for wrong, checkpoint, words in (({}, target, 'not deployed.*deploy=True'), (deployed, source, 'is deployed')):
        with pytest.raises(UserError, match=words):
            load_dwnet_model(config, checkpoint, wrong)
    model = load_dwnet_model(config, target, deployed)[1]
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
    with pytest.raises(UserError, match='deployed already'):
        deploy_checkpoint(str(tmp_path / 'small.py'), target, str(tmp_path / 'smaller.pth'))


def test_a_broken_network_is_not_written(checkpoint_of, tmp_path):
    content = torch.load(checkpoint_of('cls'))
    content['state_dict']['backbone.stages.1.blocks.0.bn.running_var'].fill_(float('nan'))
    torch.save(content, tmp_path / 'broken.pth')
    with pytest.raises(UserError, match='differs by nan.*nothing was written'):
        deploy_checkpoint(TASKS['cls'][0], str(tmp_path / 'broken.pth'), str(tmp_path / 'small.pth'))
    assert [path.name for path in tmp_path.iterdir()] == ['broken.pth']


def test_what_is_asked_for_wrongly_is_named(checkpoint_of, tmp_path):
    config, source = TASKS['cls'][0], checkpoint_of('cls')
    beside = tmp_path / 'config.py'
    beside.write_text('model = dict()')
    other = tmp_path / 'other.py'
    other.write_text("_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'")
    for arguments, words in (
        ((config, source, str(tmp_path / 'small.pt')), r'ends in \.pth'),
        ((config, source, str(tmp_path / 'none' / 'small.pth')), 'no folder'),
        ((config, source, source), 'made from'),
        ((str(beside), source, str(tmp_path / 'config.pth')), 'config.py is what it would be made from'),
        ((str(other), source, str(tmp_path / 'small.pth')), 'backbone ResNet: expected mmdwnet.DWNet'),
        ((TASKS['seg'][0], source, str(tmp_path / 'small.pth')), 'weights of a classifier .*is a segmentor'),
    ):
        with pytest.raises(UserError, match=words) as caught:
            deploy_checkpoint(*arguments, force=True)
        assert '\n' not in str(caught.value)
    assert not list(tmp_path.glob('*.pth'))


def test_a_net_that_has_no_deployed_form_is_named(run_python, tmp_path):
    done = run_python(
        'tools/model_converters/deploy.py', 'configs/mini/deit-nano_cls_mini.py', 'none.pth', tmp_path / 'out.pth'
    )
    assert done.returncode == 2
    assert 'has the backbone mmdwnet.IsotropicNet: expected mmdwnet.DWNet' in done.stderr
