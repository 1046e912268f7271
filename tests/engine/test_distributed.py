"""What a process learns of the others from its launcher, and what a run without an accelerator changes."""

import pytest
from mmengine.config import Config

from mmdwnet.engine.distributed import (
    _complete_wrapper,
    _replace_sync_bn,
    prepare_cpu_run,
    rank_and_world_size,
    slurm_environment,
)
from mmdwnet.errors import UserError

SRUN = dict(SLURM_PROCID='3', SLURM_LOCALID='1', SLURM_NTASKS='4', SLURM_JOB_NODELIST='node[1-2]')


def test_slurm_says_who_one_is_and_where_the_first_node_is(tmp_path, monkeypatch):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho node1\necho node2\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    found = slurm_environment(SRUN)
    assert found == dict(RANK='3', LOCAL_RANK='1', WORLD_SIZE='4', MASTER_ADDR='node1', MASTER_PORT='20000')
    # another job on the same node has another port
    assert slurm_environment({**SRUN, 'SLURM_JOB_ID': '4711'})['MASTER_PORT'] == '24711'
    kept = slurm_environment({**SRUN, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1234'})
    assert 'MASTER_ADDR' not in kept and kept['MASTER_PORT'] == '1234'


def test_outside_of_srun_the_missing_variable_is_named(monkeypatch, tmp_path):
    with pytest.raises(UserError, match='SLURM_PROCID not set: start it with srun'):
        slurm_environment({})
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='scontrol does not name the hosts'):
        slurm_environment(SRUN)


def test_outside_of_torchrun_the_missing_variables_are_named(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match='RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set'):
        prepare_cpu_run(Config(), 'pytorch')


def test_rank_and_size_before_the_processes_have_met(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '8')
    assert rank_and_world_size('pytorch') == (1, 8)
    assert rank_and_world_size('none') == (0, 1)


def test_every_sync_bn_of_a_model_becomes_bn():
    model = dict(
        backbone=dict(norm_cfg=dict(type='SyncBN', eps=1e-3)),
        roi_head=dict(bbox_head=[dict(norm_cfg=dict(type='SyncBN')), dict(norm_cfg=dict(type='GN'))]),
    )
    assert _replace_sync_bn(model) == 2
    assert model['backbone']['norm_cfg'] == dict(type='BN', eps=1e-3)
    assert [head['norm_cfg']['type'] for head in model['roi_head']['bbox_head']] == ['BN', 'GN']


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_a_wrapper_changes_what_it_names_and_nothing_else(device):
    """mmengine's own choice where there is none: no broadcast of buffers, which torch would do."""
    cfg = Config(dict(model_wrapper_cfg=dict(bucket_cap_mb=100), find_unused_parameters=True))
    _complete_wrapper(cfg, device)
    found = cfg.model_wrapper_cfg.to_dict()
    assert found.pop('device_ids', 'of mmengine') == (None if device == 'cpu' else 'of mmengine')
    assert found == dict(
        type='MMDistributedDataParallel',
        bucket_cap_mb=100,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )


def test_without_a_wrapper_a_gpu_is_left_to_mmengine():
    cfg = Config()
    _complete_wrapper(cfg, 'cuda')
    assert 'model_wrapper_cfg' not in cfg
    _complete_wrapper(cfg, 'cpu')
    assert cfg.model_wrapper_cfg.device_ids is None


def test_a_wrapper_that_needs_a_gpu_is_refused_without_one():
    cfg = Config(dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')))
    with pytest.raises(
        UserError, match='MMFullyShardedDataParallel: without a GPU expected a kind of Distributed'
    ):
        _complete_wrapper(cfg, 'cpu')
    _complete_wrapper(cfg, 'cuda')
    assert cfg.model_wrapper_cfg == dict(type='MMFullyShardedDataParallel')
