"""What goes wrong on clusters: full disks, damaged files, processes that die, ports in use. Nothing is lost."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from test_exact_resume import KILL, assert_same_run, losses, run, torchrun

from mmdwnet.checkpoints.durable import fault, newest_whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    run(folder, 'epochs')
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 250 kB, and how to make it large."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=250k', 'tmpfs', folder]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip('no mount here')
    if done.returncode:
        pytest.skip(f'no file system can be mounted here: {done.stderr.strip()}')
    enlarge = ['mount', '-o', 'remount,size=10m', folder]
    yield folder, lambda: subprocess.run(enlarge, check=True)
    subprocess.run(['umount', folder], check=True)


def test_a_full_disk_ends_the_run_with_a_line_and_the_last_good_checkpoint(small_disk, undisturbed):
    folder, enlarge = small_disk
    settings = dict(interval=1, keep=-1)
    filler = 'open(runner.work_dir + "/filler", "wb").write(bytes(150_000))'
    done = run(folder, 'epochs', status=2, events={15: filler}, **settings)
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    named = re.search(
        r'stopped at iteration \d+, for the checkpoint could not be saved: .*No space left on device.*'
        r'the last whole one, which --resume finds, is (\S+):',
        errors[0],
    )
    assert named, errors[0]
    last = newest_whole(folder)[0]
    assert str(last) == named[1] and fault(last) is None
    assert not list(folder.glob('.*.partial'))
    enlarge()
    run(folder, 'epochs', resume=True, **settings)
    assert_same_run(folder, undisturbed)


def test_a_truncated_newest_checkpoint_is_skipped_and_said_so(tmp_path, undisturbed):
    run(tmp_path, 'epochs', status=-9, events={25: KILL})
    newest = newest_whole(tmp_path)[0]
    assert newest.name == 'epoch_2.pth'
    os.truncate(newest, newest.stat().st_size // 2)
    done = run(tmp_path, 'epochs', resume=True)
    assert 'epoch_2.pth is skipped: its checksum is not that in epoch_2.pth.sha256' in done.stdout + done.stderr
    assert_same_run(tmp_path, undisturbed)


def test_the_last_whole_checkpoint_is_kept_until_the_next_is_whole(tmp_path, undisturbed):
    """With one to keep, killed while the next one is being written: the first is there still."""
    kill = 'lambda file: os.kill(os.getpid(), 9)'
    in_the_middle = f'import os; from mmdwnet.checkpoints import durable; durable.os.fsync = {kill}'
    run(tmp_path, 'epochs', status=-9, keep=1, events={12: in_the_middle})
    assert newest_whole(tmp_path)[0].name == 'epoch_1.pth'
    run(tmp_path, 'epochs', keep=1, resume=True)
    assert [path.name for path in tmp_path.glob('epoch_*.pth')] == ['epoch_4.pth']
    assert_same_run(tmp_path, undisturbed)


def test_a_process_that_dies_ends_the_others_and_costs_one_interval(tmp_path):
    torchrun(tmp_path / 'whole', 2)
    torchrun(tmp_path / 'cut', 2, status=1, events={13: f'if rank == 1: {KILL}'})
    assert newest_whole(tmp_path / 'cut')[0].name == 'epoch_2.pth'  # 10 steps of two processes: epochs of 5
    torchrun(tmp_path / 'cut', 2, resume=True)
    assert_same_run(tmp_path / 'cut', tmp_path / 'whole')


def test_a_signal_in_the_first_step(tmp_path, undisturbed):
    early = f'import os; os.kill(os.getpid(), {int(signal.SIGTERM)})'
    done = run(tmp_path, 'epochs', status=75, events={0: early})
    assert 'gave way at iteration 1 to SIGTERM' in done.stderr
    run(tmp_path, 'epochs', resume=True)
    assert_same_run(tmp_path, undisturbed)
    assert len(losses(tmp_path)) == 40


def test_a_port_in_use_is_named_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ['tools/dist_train.sh', 'configs/mini/dwnet-nano_cls_mini.py', '2']
        environment = {**os.environ, 'PORT': str(port)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f'error: PORT={port} is in use: choose another one, or leave PORT out on a single node\n'
