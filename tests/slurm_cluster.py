"""A real Slurm cluster of several nodes on this one machine, for tests: one controller, one slurmd a node.

Needs Debian's slurm-wlm and munge and to be root. Facts of how nodes share a host: Slurm's documentation of
`slurmd -N` ("multiple slurmd support").
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ('slurmctld', 'slurmd', 'srun', 'sbatch', 'scontrol', 'munged')
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=60
MessageTimeout=60
"""
NODE = (
    'NodeName=node{number} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs={cpus} RealMemory=4000 '
    'State=UNKNOWN\n'
)


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f'no {", ".join(absent)}: apt-get install slurm-wlm munge'
    return None if os.geteuid() == 0 else 'a cluster of this kind needs to be started as root'


def _path() -> str:
    return f'{os.environ["PATH"]}:/usr/sbin:/sbin'


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 2) -> Iterator[dict[str, str]]:
    """Start a cluster; yield the environment in which its commands talk to it.

    Args:
        folder: for its state and logs.
        nodes: how many; each has all of the machine's processors.
    """
    environment = {**os.environ, 'PATH': _path(), 'SLURM_CONF': str(folder / 'slurm.conf')}
    host, ports = socket.gethostname().split('.')[0], _free_ports(nodes + 1)
    lines = [CONF.format(host=host, folder=folder, ports=ports)]
    for number in range(nodes):
        (folder / f'spool.node{number}').mkdir(parents=True)
        lines.append(NODE.format(number=number, host=host, port=ports[1 + number], cpus=os.cpu_count()))
    lines.append('PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n')
    (folder / 'state').mkdir()
    (folder / 'slurm.conf').write_text(''.join(lines))

    def run(*command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    if run('munge', '-n').returncode:
        run('install', '-d', '-o', 'munge', '-g', 'munge', '/run/munge').check_returncode()
        run('runuser', '-u', 'munge', '--', _which('munged')).check_returncode()
    run('slurmctld', '-f', environment['SLURM_CONF']).check_returncode()
    try:
        for number in range(nodes):
            run('slurmd', '-f', environment['SLURM_CONF'], '-N', f'node{number}').check_returncode()
        for _ in range(60):
            if run('sinfo', '-h', '-t', 'idle', '-o', '%D').stdout.strip() == str(nodes):
                break
            time.sleep(0.5)
        else:
            raise RuntimeError('the nodes did not come up: ' + (folder / 'slurmctld.log').read_text()[-2000:])
        yield environment
    finally:
        run('scancel', '--user', 'root')
        for file in folder.glob('*.pid'):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), 15)


def _which(name: str) -> str:
    return shutil.which(name, path=_path()) or name


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in sockets]
