"""Detection and segmentation: interrupted and resumed to the same weights, and trained by two processes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from warm_python import environment, start_python

ROOT = Path(__file__).resolve().parents[2]
# config, layout of the data, the settings of a few steps, the last checkpoint
TASKS = {
    'det': (
        'dwnet-nano_mask-rcnn_mini',
        'coco',
        ['train_cfg.max_epochs=3', 'train_cfg.val_interval=3'],
        'epoch_3.pth',
    ),
    'seg': (
        'dwnet-nano_upernet_mini',
        'ade',
        ['train_cfg.max_iters=9', 'train_cfg.val_interval=9', 'default_hooks.checkpoint.interval=9'],
        'iter_9.pth',
    ),
}


def arguments(task, mini_root, work_dir):
    config, layout, steps, _ = TASKS[task]
    few = ['train_dataloader.batch_size=4', 'train_dataloader.num_workers=1', 'default_hooks.logger.interval=1']
    few += [f'{part}_dataloader.num_workers=0' for part in ('val', 'test')]
    few += [f'{part}_dataloader.persistent_workers=False' for part in ('val', 'test')]
    options = [f'data_root={mini_root / layout}', *steps, *few]
    return [f'configs/mini/{config}.py', '--work-dir', str(work_dir), '--cfg-options', *options]


def weights(work_dir, task):
    return torch.load(work_dir / TASKS[task][3], weights_only=False)['state_dict']


@pytest.mark.parametrize('task', TASKS)
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(task, run_python, mini_root, tmp_path):
    """Signalled in its third step, to the bit; augmentation, and what detectors sample, are random."""
    whole = run_python('tools/train.py', *arguments(task, mini_root, tmp_path / 'whole'))
    assert whole.returncode == 0, whole.stderr[-3000:]
    cut = arguments(task, mini_root, tmp_path / 'cut')
    process = start_python('tools/train.py', *cut)
    seen = ''
    for line in process.stdout:
        seen += line
        if re.search(r'\((train)\).*\[\s*2/', line):
            process.send_signal(signal.SIGUSR1)
            break
    status = process.wait(120)
    seen += process.stdout.read()
    assert status == 75, seen[-3000:]
    assert re.search(r'gave way at iteration \d+ to SIGUSR1', seen)
    config, *options = cut
    # a process of its own, in which sets have another order
    again = run_python('tools/train.py', config, '--resume', *options, PYTHONHASHSEED='1')
    assert again.returncode == 0, again.stderr[-3000:]
    expected, measured = weights(tmp_path / 'whole', task), weights(tmp_path / 'cut', task)
    assert expected.keys() == measured.keys()
    for key, value in expected.items():
        assert torch.equal(measured[key], value), key


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_two_processes_train(task, mini_root, tmp_path):
    started = time.time()
    config, *options = arguments(task, mini_root, tmp_path)
    done = subprocess.run(
        ['tools/dist_train.sh', config, '2', *options],
        cwd=ROOT,
        env={**environment(), 'PYTHON': sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (tmp_path / TASKS[task][3]).stat().st_mtime > started
    losses = [float(loss) for loss in re.findall(r'\(train\).* loss: (\S+)', done.stdout + done.stderr)]
    assert len(losses) > 4 and all(0 < loss < 1e3 for loss in losses)
