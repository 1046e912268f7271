"""Processors, memory, disk, /dev/shm, Slurm and the network of this machine."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from .page import Finding, size

PORT = 29500  # what torch and the Slurm launcher take when none is given
SLURM = ('srun', 'sbatch', 'scontrol')
GIB = 2**30


def cores() -> int:
    """Processor cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = _cgroup_values('cpu.max')
    shares = [int(share) / int(period) for share, period in (value.split() for value in quota) if share != 'max']
    return max(min([allowed, *(int(share) for share in shares)]), 1)


def memory() -> tuple[int, int]:
    """Bytes of memory that this process may use, all of them and those that are free."""
    if not Path('/proc/meminfo').exists():  # not Linux: what there is
        total = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        return total, total
    numbers = dict(line.split(':') for line in Path('/proc/meminfo').read_text().splitlines())
    total, free = (int(numbers[name].split()[0]) * 1024 for name in ('MemTotal', 'MemAvailable'))
    for limit, used in zip(_cgroup_values('memory.max'), _cgroup_values('memory.current'), strict=False):
        if limit != 'max':
            total, free = min(total, int(limit)), min(free, int(limit) - int(used))
    return total, free


def _cgroup_values(name: str) -> list[str]:
    """A setting of this process's control group (version 2) and of those above it, where they have it."""
    try:
        lines = Path('/proc/self/cgroup').read_text().splitlines()
        group = next(line[3:] for line in lines if line.startswith('0::'))
    except (OSError, StopIteration):
        return []
    folder = Path('/sys/fs/cgroup', group.lstrip('/'))
    files = [
        parent / name
        for parent in (folder, *folder.parents)
        if Path('/sys/fs/cgroup') in (parent, *parent.parents)
    ]
    return [file.read_text().strip() for file in files if file.is_file()]


def processors() -> Iterator[Finding]:
    """Cores and memory."""
    count = cores()
    total, free = memory()
    text = f'{count} core{"s" * (count != 1)}; memory {size(total)}, of which {size(free)} free'
    busy = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    values = dict(cores=count, memory=total, free=free, load=busy)
    if busy > count + 1:  # more than this program
        text += f'; about {busy:.0f} processes want the cores: what is measured now is slower than alone'
        yield Finding('warning', 'CPU', text, 'look again when the machine is idle', values)
    else:
        yield Finding('ok', 'CPU', text, values=values)


def shared_memory(needed: int = 0) -> Iterator[Finding]:
    """/dev/shm, through which the loader's processes hand over their batches.

    Args:
        needed: bytes that the batches of a config take there, 0 if there is none.
    """
    if not Path('/dev/shm').is_dir():
        yield Finding('note', '/dev/shm', 'not there; only Linux hands batches over there')
        return
    free = shutil.disk_usage('/dev/shm').free
    text = f'{size(free)} free'
    if needed:
        text += f'; batches that wait for a step take up to {size(needed)}'
    small = free < max(needed, GIB)
    cure = 'give it more (docker run --shm-size=8g, or remount it), or set train_dataloader.num_workers lower'
    status = 'ok' if not small else 'fails' if needed > free else 'warning'
    yield Finding(status, '/dev/shm', text, cure if small else '', dict(free=free, needed=needed))


def disk(folder: Path, count: int = 0, each: int = 0) -> Iterator[Finding]:
    """Room for checkpoints.

    Args:
        folder: the work directory; it need not be there yet.
        count: checkpoints that a config keeps, 0 if that is not known.
        each: bytes of one.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    needed = count * each
    values = dict(free=free, needed=needed)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            'fails', 'disk', f'{folder}: {there} cannot be written to', 'choose another --work-dir', values
        )
        return
    text = f'{size(free)} free for {folder}' + (f'; {count} checkpoints of {size(each)}' if count else '')
    cure = 'make room, choose another --work-dir, or keep fewer (default_hooks.checkpoint.max_keep_ckpts)'
    small = free < max(needed, 5 * GIB)
    status = 'ok' if not small else 'fails' if needed > free else 'warning'
    yield Finding(status, 'disk', text, cure if small else '', values)


def port() -> Iterator[Finding]:
    """The rendezvous port that is taken when none is given."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', PORT))
        except OSError as error:
            cure = 'set MASTER_PORT to a free one (dist_train.sh chooses one by itself)'
            yield Finding('warning', f'port {PORT}', f'cannot be used: {error.strerror}', cure)
        else:
            yield Finding('ok', f'port {PORT}', 'free')


def slurm() -> Iterator[Finding]:
    """Whether jobs can be handed to Slurm from here."""
    missing = [command for command in SLURM if shutil.which(command) is None]
    job = os.environ.get('SLURM_JOB_ID')
    if not missing:
        text = f'{", ".join(SLURM)} found'
    elif len(missing) == len(SLURM):
        text = 'not here; tools/train.py and tools/dist_train.sh do without'
    else:
        text = f'{", ".join(missing)} not found, other commands are'
    yield Finding('note', 'Slurm', text + (f'; inside of job {job}' if job else ''))
