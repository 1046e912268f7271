"""Checkpoint files are whole or not there, and a resume finds the newest whole one."""

import errno
import os
import subprocess
import time

import pytest
import torch

from mmdwnet.checkpoints import durable
from mmdwnet.checkpoints.durable import DurableBackend, fault, newest_whole, remove_partial_files
from mmdwnet.errors import UserError


def content(value, size=20_000):
    """The bytes of a checkpoint."""
    import io

    buffer = io.BytesIO()
    torch.save(dict(state_dict=dict(weight=torch.full((size,), float(value)))), buffer)
    return buffer.getvalue()


def put(folder, name, value, seconds_ago=0):
    path = folder / name
    DurableBackend().put(content(value), path)
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


def test_the_file_is_a_stock_checkpoint_with_a_checksum_that_sha256sum_reads(tmp_path):
    path = put(tmp_path, 'epoch_1.pth', 3)
    assert torch.load(path, weights_only=True)['state_dict']['weight'][0] == 3
    subprocess.run(['sha256sum', '-c', 'epoch_1.pth.sha256'], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'epoch_1.pth.sha256']
    assert fault(path) is None


def test_the_newest_whole_one_is_found_and_the_others_are_named(tmp_path):
    whole = put(tmp_path, 'epoch_3.pth', 3, seconds_ago=30)
    put(tmp_path, 'epoch_2.pth', 2, seconds_ago=40)
    flipped = put(tmp_path, 'epoch_4.pth', 4, seconds_ago=20)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    os.utime(flipped, (time.time() - 20,) * 2)
    cut = tmp_path / 'iter_70.pth'
    cut.write_bytes(content(5)[:9000])  # in place, without a checksum, as other tools write
    path, skipped = newest_whole(tmp_path)
    assert path == whole
    assert skipped == [
        'iter_70.pth is skipped: it is cut off or no checkpoint',
        'epoch_4.pth is skipped: its checksum is not that in epoch_4.pth.sha256',
    ]


def test_a_damaged_one_without_a_checksum_is_seen_too(tmp_path):
    data = bytearray(content(1))
    data[len(data) // 2] ^= 1
    (tmp_path / 'epoch_1.pth').write_bytes(data)
    assert 'is damaged' in fault(tmp_path / 'epoch_1.pth')


def test_other_files_are_no_state_of_a_run(tmp_path):
    put(tmp_path, 'epoch_1.pth', 1, seconds_ago=50)
    put(tmp_path, 'best_accuracy_top1_epoch_1.pth', 1)
    put(tmp_path, 'deployed.pth', 1)
    assert newest_whole(tmp_path)[0].name == 'epoch_1.pth'
    assert newest_whole(tmp_path / 'nowhere') == (None, [])


def test_none_that_is_whole_is_an_error_and_no_fresh_start(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(UserError, match=r'no checkpoint in \S+ is whole \(epoch_1.pth is skipped: it is cut off'):
        newest_whole(tmp_path)


@pytest.mark.parametrize('moment', ['replace', 'fsync'])
def test_a_process_killed_while_it_writes_leaves_what_was_there(moment, tmp_path, monkeypatch):
    """Just before the rename, and before all is on the disk; a new file of the same name, the harder case."""
    path = put(tmp_path, 'epoch_1.pth', 1)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            DurableBackend().put(content(2), path)
    assert fault(path) is None
    assert torch.load(path, weights_only=True)['state_dict']['weight'][0] == 1


def test_a_process_killed_between_file_and_checksum_leaves_a_whole_file(tmp_path, monkeypatch):
    path = put(tmp_path, 'epoch_1.pth', 1)
    replace = os.replace

    def killed_after(source, target):
        replace(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', killed_after)
        with pytest.raises(KeyboardInterrupt):
            DurableBackend().put(content(2), path)
    assert fault(path) is None
    assert torch.load(path, weights_only=True)['state_dict']['weight'][0] == 2


def test_a_full_disk_leaves_what_was_there_and_nothing_half(tmp_path, monkeypatch):
    path = put(tmp_path, 'epoch_1.pth', 1)

    def full(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(UserError, match=r'epoch_2.pth cannot be written: .*No space left on device'):
            DurableBackend().put(content(2), tmp_path / 'epoch_2.pth')
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'epoch_1.pth.sha256']
    assert newest_whole(tmp_path)[0] == path


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    (tmp_path / '.epoch_2.pth.4711.partial').write_bytes(b'half')
    put(tmp_path, 'epoch_1.pth', 1)
    remove_partial_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'epoch_1.pth.sha256']


def test_removing_one_removes_its_checksum(tmp_path):
    path = put(tmp_path, 'epoch_1.pth', 1)
    DurableBackend().remove(path)
    assert not os.listdir(tmp_path)


def test_a_big_file_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, 'CHUNK', 1000)
    assert fault(put(tmp_path, 'epoch_1.pth', 1)) is None
