"""A run that was stopped and resumed is the run that never stopped: the same losses and weights, to the bit."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from warm_python import run_python, start_python

from mmdwnet.errors import Preempted

SCRIPT = Path(__file__).with_name('resumable_runs.py')


def command(folder, kind, **settings):
    return [SCRIPT, folder, kind, *(f'{key}={value!r}' for key, value in settings.items())]


def run(folder, kind, status=0, hash_seed=None, **settings):
    """Run it to an exit status; with a seed of hashes it is a process of its own."""
    env = {} if hash_seed is None else dict(PYTHONHASHSEED=str(hash_seed))
    done = run_python(*command(folder, kind, **settings), timeout=120, **env)
    assert done.returncode == status, done.stdout[-1000:] + done.stderr[-3000:]
    return done


def losses(folder, rank=0):
    """The loss of every step; a step that was run more than once, for its process was killed, had the same."""
    found = {}
    for line in (folder / f'losses-{rank}.txt').read_text().splitlines():
        step, loss = line.split()
        assert found.setdefault(int(step), loss) == loss, f'step {step} differs from its first run'
    return found


def end(folder, rank=0):
    return torch.load(folder / f'end-{rank}.pth', weights_only=False)


def assert_same(one, other):
    flat, other = (torch.utils._pytree.tree_flatten(value) for value in (one, other))
    assert flat[1] == other[1]
    for value, theirs in zip(flat[0], other[0], strict=True):
        assert torch.equal(value, theirs) if isinstance(value, torch.Tensor) else value == theirs


def assert_same_run(folder, other):
    assert losses(folder) == losses(other)
    assert_same(end(folder), end(other))


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """The folder of a run that nothing stopped, by its settings."""
    folders = {}

    def get(kind, **settings):
        key = kind, *sorted(settings.items())
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp('undisturbed')
            run(folders[key], kind, **settings)
        return folders[key]

    return get


KILL = 'import os; os.kill(os.getpid(), 9)'
USR1 = 'import os, signal; os.kill(os.getpid(), signal.SIGUSR1)'


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(('kind', 'step'), [('epochs', 13), ('epochs', 19), ('iterations', 17)])
def test_a_run_that_gave_way_goes_on_in_the_middle_of_its_epoch(kind, step, workers, undisturbed, tmp_path):
    """Step 13 is in an epoch of 10 steps, after step 19 one ends. The number of loader processes may differ."""
    done = run(tmp_path, kind, status=Preempted.status, events={step: USR1}, workers=workers)
    assert re.search(rf'gave way at iteration {step + 1} to SIGUSR1: --resume goes on from \S+\.pth', done.stderr)
    assert max(losses(tmp_path)) == step
    run(tmp_path, kind, resume=True, workers=2)
    assert_same_run(tmp_path, undisturbed(kind))


@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_a_killed_run_goes_on_from_its_last_checkpoint(kind, undisturbed, tmp_path):
    """In another process, in which sets have another order."""
    run(tmp_path, kind, status=-9, events={16: KILL}, hash_seed=1)
    run(tmp_path, kind, resume=True, hash_seed=2)
    assert_same_run(tmp_path, undisturbed(kind))


def test_without_a_seed_in_the_config_the_run_keeps_the_one_it_drew(tmp_path):
    """It differs from run to run, and a resumed one goes on with its own."""
    run(tmp_path / 'a', 'epochs', seed=None, epochs=2)
    run(tmp_path / 'b', 'epochs', status=Preempted.status, seed=None, epochs=2, events={13: USR1})
    before = losses(tmp_path / 'b')
    run(tmp_path / 'b', 'epochs', resume=True, seed=None, epochs=2)
    assert len(losses(tmp_path / 'b')) == 20 and before.items() <= losses(tmp_path / 'b').items()
    assert losses(tmp_path / 'a')[0] != before[0]


def test_accumulated_gradients_are_never_cut_in_two(undisturbed, tmp_path):
    """Asked in the middle of an optimizer step of three batches, it gives way at its end."""
    settings = dict(accumulate=3)
    done = run(tmp_path, 'iterations', status=Preempted.status, events={12: USR1}, **settings)
    assert 'gave way at iteration 15' in done.stderr
    run(tmp_path, 'iterations', resume=True, **settings)
    assert_same_run(tmp_path, undisturbed('iterations', **settings))


def test_a_second_signal_ends_at_once(tmp_path):
    twice = f'{USR1}; os.kill(os.getpid(), signal.SIGUSR1)'
    run(tmp_path, 'epochs', status=-9, events={3: twice})
    assert not list(tmp_path.glob('preempted*'))


def test_a_run_that_is_through_has_nothing_to_resume(undisturbed, tmp_path):
    run(tmp_path, 'epochs', epochs=2)
    run(tmp_path, 'epochs', epochs=2, resume=True)
    assert len(losses(tmp_path)) == 20


def test_resuming_nothing_starts_from_the_beginning(undisturbed, tmp_path):
    done = run(tmp_path, 'epochs', resume=True)
    assert 'nothing to resume' in done.stdout + done.stderr
    assert_same_run(tmp_path, undisturbed('epochs'))


def torchrun(folder, processes, kind='epochs', status=0, **settings):
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', str(processes), '--standalone']
    done = subprocess.run(
        [*launch, *command(folder, kind, launcher='pytorch', **settings)],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode != 0) == (status != 0), done.stdout[-1000:] + done.stderr[-3000:]
    return done


def test_two_processes_give_way_together_and_go_on(tmp_path):
    """The signal reaches one of them."""
    torchrun(tmp_path / 'whole', 2)
    torchrun(tmp_path / 'cut', 2, status=1, events={7: f'if rank == 1: {USR1}'})
    (saved,) = (tmp_path / 'cut').glob('preempted_iter_*.pth')
    assert int(saved.stem.rpartition('_')[2]) in range(8, 14)
    torchrun(tmp_path / 'cut', 2, resume=True)
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')
    # of rank 1 all but the statistics of its BN, of which checkpoints hold those of rank 0
    assert losses(tmp_path / 'cut', 1) == losses(tmp_path / 'whole', 1)


def test_another_number_of_processes_goes_on_at_the_same_image(tmp_path):
    """Without what differs per process (BN, dropout), two of half the batch are one of the whole to rounding."""
    alike = dict(norm=False, dropout=0.0, epochs=3)
    run(tmp_path / 'one', 'epochs', batch_size=8, **alike)
    torchrun(tmp_path / 'changed', 2, status=1, batch_size=4, events={7: f'if rank == 0: {USR1}'}, **alike)
    run(tmp_path / 'changed', 'epochs', batch_size=8, resume=True, **alike)
    whole, changed = losses(tmp_path / 'one'), losses(tmp_path / 'changed')
    assert whole.keys() == changed.keys()
    resumed = range(max(losses(tmp_path / 'changed', 1)) + 1, 15)
    assert len(resumed) > 3
    for step in resumed:  # of rank 0 before, which saw half of the images
        assert float(whole[step]) == pytest.approx(float(changed[step]), rel=1e-4)


def test_more_steps_of_fewer_images_keep_images_and_schedule(tmp_path):
    """Half the batch is twice the steps: the schedules are taken there too."""
    alike = dict(norm=False, dropout=0.0, epochs=2, interval=1)
    show = 'import math; print("lr", runner.iter, runner.optim_wrapper.get_lr()["lr"][0])'
    run(tmp_path, 'epochs', status=-9, batch_size=8, events={7: KILL}, **alike)  # epochs of 5 steps
    done = run(tmp_path, 'epochs', batch_size=4, resume=True, events={10: show}, **alike)  # of 10
    fresh = run(tmp_path / 'fresh', 'epochs', batch_size=4, events={10: show}, **alike)
    assert 'step 5 is now step 10' in done.stdout + done.stderr
    line = re.compile(r'^lr .*$', re.M)
    assert line.search(done.stdout)[0] == line.search(fresh.stdout)[0]


@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_killed_at_random_moments(kind, undisturbed, tmp_path):
    """Ten times each, also while a checkpoint is being written: every resume works and the end is the same."""
    chance, length = random.Random(0), dict(epochs=14, steps=140)  # more seconds of pauses than it runs for
    settings = dict(pause=0.05, interval=1 if kind == 'epochs' else 2, **length)
    kills = 0
    for _ in range(60):
        process = start_python(*command(tmp_path, kind, resume=True, **settings))
        while line := process.stdout.readline():
            if line.startswith('starting'):
                break
        time.sleep(chance.uniform(0, 1.2))
        if kills < 10:
            process.send_signal(signal.SIGKILL)
            kills += 1
        status = process.wait(60)
        if status == 0:
            break
    assert kills == 10 and status == 0
    assert_same_run(tmp_path, undisturbed(kind, **length))
