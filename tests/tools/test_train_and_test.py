"""The command lines, run as a person runs them, on all three tasks: ours, and the stock libraries' own."""

import importlib.util
import json
import pickle
from pathlib import Path

import pytest

from mmdwnet.compat import tasks_with_ops

# config, layout, what makes it a few steps, the metric, the library whose stock tools must run it too
TASKS = {
    'cls': ('dwnet-nano_cls_mini', 'imagenet', 'train_cfg.max_epochs=1', 'accuracy/top1', 'mmpretrain'),
    'det': ('dwnet-nano_mask-rcnn_mini', 'coco', 'train_cfg.max_epochs=1', 'coco/bbox_mAP', 'mmdet'),
    'seg': ('dwnet-nano_upernet_mini', 'ade', 'train_cfg.max_iters=2', 'mIoU', 'mmseg'),
}
EVERY_TASK = pytest.mark.parametrize('task', TASKS)
FEW = [
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
]
FEW += [option.replace('train_', 'val_') for option in FEW[1:]] + [o.replace('train_', 'test_') for o in FEW[1:]]
needs_mmseg_without_ops = pytest.mark.skipif(
    'seg' in tasks_with_ops(),
    reason='the original mmsegmentation imports compiled ops; tests/test_compat.py has its message',
)
STEPS = {'seg': ['train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2']}


def options(task, mini_root):
    _, layout, short, *_ = TASKS[task]
    steps = STEPS.get(task, ['train_cfg.val_interval=1'])
    return ['--cfg-options', f'data_root={mini_root / layout}', short, *FEW, *steps]


def succeeded(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope='module')
def trained(mini_root, run_python, tmp_path_factory):
    """Train each task once with `tools/train.py`; return the work directory, by task."""
    folders = {}

    def train(task):
        if task not in folders:
            folders[task] = tmp_path_factory.mktemp(task)
            config = f'configs/mini/{TASKS[task][0]}.py'
            succeeded(run_python('tools/train.py', config, '--work-dir', folders[task], *options(task, mini_root)))
        return folders[task]

    return train


def checkpoint_of(folder):
    return Path((folder / 'last_checkpoint').read_text())


@EVERY_TASK
def test_train_then_test_with_pictures_and_metrics(task, trained, mini_root, run_python, tmp_path):
    folder = trained(task)
    config, metric = f'configs/mini/{TASKS[task][0]}.py', TASKS[task][3]
    arguments = [
        config,
        checkpoint_of(folder),
        '--work-dir',
        tmp_path / 'work',
        '--show-dir',
        tmp_path / 'pictures',
    ]
    arguments += ['--out', tmp_path / 'metrics.json', '--out-item', 'metrics']
    succeeded(run_python('tools/test.py', *arguments, *options(task, mini_root)))
    assert 0 <= json.loads((tmp_path / 'metrics.json').read_text())[metric] <= 100
    assert len([f for f in (tmp_path / 'pictures').rglob('*') if f.suffix in ('.png', '.jpg')]) == 10


@pytest.mark.parametrize('task', ['cls', 'seg'])
def test_time_augmentation_and_predictions(task, trained, mini_root, run_python, tmp_path):
    config = f'configs/mini/{TASKS[task][0]}.py'
    out = tmp_path / ('maps' if task == 'seg' else 'predictions.pkl')
    arguments = [config, checkpoint_of(trained(task)), '--work-dir', tmp_path / 'work', '--out', out, '--tta']
    done = succeeded(run_python('tools/test.py', *arguments, *options(task, mini_root)))
    assert TASKS[task][3] in done.stdout + done.stderr
    if task == 'seg':
        assert len(list(out.glob('*.png'))) == 10
    else:
        assert len(pickle.loads(out.read_bytes())) == 10


def test_predictions_of_a_detector_and_no_time_augmentation_of_masks(trained, mini_root, run_python, tmp_path):
    arguments = [
        f'configs/mini/{TASKS["det"][0]}.py',
        checkpoint_of(trained('det')),
        '--work-dir',
        tmp_path / 'work',
    ]
    arguments += ['--out', tmp_path / 'predictions.pkl']
    succeeded(run_python('tools/test.py', *arguments, *options('det', mini_root)))
    assert len(pickle.loads((tmp_path / 'predictions.pkl').read_bytes())) == 10
    done = run_python('tools/test.py', *arguments, '--tta', *options('det', mini_root))
    assert done.returncode == 2 and 'error: --tta: mmdet merges the boxes' in done.stderr


@EVERY_TASK
def test_stock_tools_run_the_same_config(task, mini_root, run_python, tmp_path):
    """The unmodified train.py and test.py that ship inside the library."""
    config, layout, short, metric, library = TASKS[task]
    tools = Path(importlib.util.find_spec(library).origin).parent / '.mim' / 'tools'
    # they do not carry data_root to where it was used
    roots = [f'{split}_dataloader.dataset.data_root={mini_root / layout}' for split in ('train', 'val', 'test')]
    if task == 'det':
        file = mini_root / layout / 'annotations/instances_val2017.json'
        roots += [f'{split}_evaluator.ann_file={file}' for split in ('val', 'test')]
    overrides = ['--cfg-options', *roots, *options(task, mini_root)[2:]]
    config = f'configs/mini/{config}.py'
    succeeded(run_python(tools / 'train.py', config, '--work-dir', tmp_path, *overrides))
    test = [tools / 'test.py', config, checkpoint_of(tmp_path), '--work-dir', tmp_path]
    done = succeeded(run_python(*test, *overrides))
    assert metric in done.stdout + done.stderr


def test_resume_continues(trained, mini_root, run_python, tmp_path):
    folder = trained('cls')
    config = f'configs/mini/{TASKS["cls"][0]}.py'
    longer = [o.replace('max_epochs=1', 'max_epochs=2') for o in options('cls', mini_root)]
    arguments = [config, '--work-dir', tmp_path, '--resume', checkpoint_of(folder)]
    done = succeeded(run_python('tools/train.py', *arguments, *longer))
    assert 'resumed epoch: 1, iter: 2' in done.stdout + done.stderr
    assert checkpoint_of(tmp_path).name == 'epoch_2.pth'


def test_no_validate_and_scaled_learning_rate(mini_root, run_python, tmp_path):
    config = f'configs/mini/{TASKS["cls"][0]}.py'
    overrides = [*options('cls', mini_root), 'auto_scale_lr.base_batch_size=32']
    arguments = [config, '--work-dir', tmp_path, '--no-validate', '--auto-scale-lr', '--no-pin-memory']
    done = succeeded(run_python('tools/train.py', *arguments, *overrides))
    log = done.stdout + done.stderr
    assert 'accuracy/top1' not in log
    assert 'Scaling the original LR by 0.25' in log  # a batch of 8 for 32


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_two_processes_on_the_cpu(script, trained, mini_root, tmp_path):
    import os
    import subprocess
    import sys

    config = f'configs/mini/{TASKS["cls"][0]}.py'
    checkpoint = [checkpoint_of(trained('cls'))] * (script == 'dist_test.sh')
    command = [f'tools/{script}', config, *checkpoint, '2', '--work-dir', tmp_path, *options('cls', mini_root)]
    command = [str(c).replace('batch_size=8', 'batch_size=4') for c in command]
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    done = succeeded(subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600))
    assert 'accuracy/top1' in done.stdout + done.stderr


def test_scripts_name_what_is_missing(tmp_path):
    import subprocess

    for command in (
        ['tools/dist_train.sh', 'config.py', 'many'],
        ['tools/slurm_train.sh', 'partition', 'job'],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith('error: ')


@pytest.mark.parametrize('task', ['cls', pytest.param('seg', marks=needs_mmseg_without_ops)])
def test_mmcv_without_compiled_ops_is_enough(task, mini_root, run_python, tmp_path):
    """As pip's isolated build leaves it, and as mmcv-lite is."""
    code = 'import runpy, sys; sys.modules["mmcv._ext"] = None; del sys.argv[0]; '
    code += 'runpy.run_path(sys.argv[0], None, "__main__")'
    arguments = ['tools/train.py', f'configs/mini/{TASKS[task][0]}.py', '--work-dir', tmp_path]
    succeeded(run_python('-c', code, *arguments, *options(task, mini_root)))
    assert checkpoint_of(tmp_path).is_file()
