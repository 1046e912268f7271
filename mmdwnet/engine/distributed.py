"""Distributed runs on machines without an accelerator.

mmengine's launchers select a CUDA device before anything else and so fail there, but they use a process group
that exists already: it is made here, with gloo. SyncBN, which has no CPU kernel, becomes BN.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
from typing import Any

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import MODEL_WRAPPERS
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError


def prepare_cpu_run(cfg: Config, launcher: str) -> None:
    """Join the run's process group with gloo and make the model fit for it, where there is no accelerator.

    Everywhere, a `model_wrapper_cfg` of the config gets what mmengine chooses where there is none.

    Args:
        cfg: the config; its model and the wrapper for it are changed.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        UserError: the launcher's environment variables are not there, or without an accelerator it is mpi, or
            the model's wrapper cannot do without one.
    """
    if launcher == 'none':
        return
    if launcher == 'slurm':
        os.environ.update(slurm_environment(os.environ))
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing and launcher != 'mpi':
        raise UserError(
            f'--launcher {launcher}: {", ".join(missing)} not set: expected to be started by tools/dist_train.sh '
            '(torchrun) or tools/slurm_train.sh (srun)'
        )
    device = get_device()
    _complete_wrapper(cfg, device)
    if device != 'cpu':
        return
    if launcher == 'mpi':
        raise UserError('--launcher mpi needs a GPU, and none was found: use pytorch or slurm')
    torch_dist.init_process_group('gloo')
    replaced = _replace_sync_bn(cfg.model)
    if replaced:
        print_log(
            f'no accelerator: BN takes the place of SyncBN in {replaced} norm_cfg entries', 'current', logging.INFO
        )


def _complete_wrapper(cfg: Config, device: str) -> None:
    """Let `model_wrapper_cfg` change only what it names: where there is one, mmengine forgets its own choices."""
    given = cfg.get('model_wrapper_cfg') or {}
    if device != 'cpu' and not given:
        return
    stock = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    if device == 'cpu':
        stock['device_ids'] = None  # mmengine's own choice names a GPU
    kind = given.get('type', stock['type'])
    wrapper = MODEL_WRAPPERS.get(kind)
    if wrapper is not None and issubclass(wrapper, DistributedDataParallel):
        cfg.model_wrapper_cfg = {**stock, **given}
    elif device == 'cpu':
        raise UserError(
            f'model_wrapper_cfg.type={kind}: without a GPU expected a kind of DistributedDataParallel, such as '
            f'{stock["type"]}'
        )


def leave_process_group() -> None:
    """End this process's part in the run, before the interpreter exits: gloo's threads would abort it then."""
    if torch_dist.is_initialized():
        torch_dist.barrier()  # none ends while another still talks to it
        gc.collect()  # a model that is gone, and with it its hold on the group's threads
        torch_dist.destroy_process_group()


def rank_and_world_size(launcher: str) -> tuple[int, int]:
    """This process's rank and the number of processes, from what the launcher sets, before they have met."""
    rank, size = dict(slurm=('SLURM_PROCID', 'SLURM_NTASKS'), pytorch=('RANK', 'WORLD_SIZE')).get(
        launcher, ('', '')
    )
    return int(os.environ.get(rank, 0)), int(os.environ.get(size, 1))


def slurm_environment(environment: dict[str, str]) -> dict[str, str]:
    """What torch.distributed wants to know, from what srun sets; values that are set already are kept.

    Raises:
        UserError: this process was not started by srun.
    """
    try:
        found = dict(
            RANK=environment['SLURM_PROCID'],
            LOCAL_RANK=environment['SLURM_LOCALID'],
            WORLD_SIZE=environment['SLURM_NTASKS'],
        )
        nodes = environment['SLURM_JOB_NODELIST']
    except KeyError as error:
        raise UserError(
            f'--launcher slurm: {error.args[0]} not set: start it with srun (tools/slurm_train.sh)'
        ) from error
    if 'MASTER_ADDR' not in environment:
        try:
            command = ['scontrol', 'show', 'hostnames', nodes]
            listed = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(
                f'scontrol does not name the hosts of {nodes} ({error}): set MASTER_ADDR to the first node'
            ) from error
        found['MASTER_ADDR'] = listed.stdout.split()[0]
    # the same on all nodes of a job, and another one for another job on the same node
    job = int(environment.get('SLURM_JOB_ID', 0))
    found['MASTER_PORT'] = environment.get('MASTER_PORT', str(20_000 + job % 20_000))
    return found


def _replace_sync_bn(node: Any) -> int:
    """Turn every `type='SyncBN'` below a config node into BN; return how many there were."""
    if isinstance(node, dict):
        found = node.get('type') == 'SyncBN'
        if found:
            node['type'] = 'BN'
        return int(found) + sum(_replace_sync_bn(value) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(_replace_sync_bn(value) for value in node)
    return 0
