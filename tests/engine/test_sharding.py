"""Knobs of many processes, tried on two: a sharded AdamW and other buckets train what the plain run trains."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from test_exact_resume import KILL, assert_same_run, losses, torchrun

from mmdwnet.engine.config import load_config
from mmdwnet.engine.sharding import SHARDED, check_optimizer
from mmdwnet.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DDP = CONFIGS / '_base_' / 'scale' / 'ddp.py'
SHORT = dict(epochs=2, workers=0)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """The folder of a run on two processes with mmengine's own choices."""
    folder = tmp_path_factory.mktemp('plain')
    torchrun(folder, 2, **SHORT)
    return folder


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
    """The folder of a run with a sharded optimizer that was killed in its second epoch of five steps."""
    folder = tmp_path_factory.mktemp('cut')
    torchrun(folder, 2, status=1, optimizer=SHARDED, events={7: KILL}, **SHORT)
    assert (folder / 'epoch_1.pth').is_file()
    return folder


@pytest.mark.parametrize('optimizer', [SHARDED, 'AdamW'])
def test_a_sharded_run_is_the_plain_one_and_either_goes_on_from_its_checkpoint(optimizer, cut, plain, tmp_path):
    """To the bit: losses, weights, averages, and the state of the optimizer, whole and in the form of AdamW's."""
    folder = tmp_path / 'resumed'
    shutil.copytree(cut, folder)
    torchrun(folder, 2, resume=True, optimizer=optimizer, **SHORT)
    assert_same_run(folder, plain)
    assert len(torch.load(folder / 'end-0.pth', weights_only=False)['optimizer']['state']) == 6


def test_gradients_in_their_buckets_of_any_size_change_nothing(plain, tmp_path):
    """Of two numbers the order does not matter to the sum, so all is equal to the bit. Buckets hold 100 bytes."""
    wrapper = Config.fromfile(DDP).model_wrapper_cfg.to_dict()
    assert wrapper['gradient_as_bucket_view']
    torchrun(tmp_path, 2, wrapper={**wrapper, 'bucket_cap_mb': 1e-4}, **SHORT)
    assert losses(tmp_path, 1) == losses(plain, 1)
    assert_same_run(tmp_path, plain)


@pytest.mark.parametrize('task', ['cls', 'mask-rcnn', 'upernet'])
def test_the_base_file_adds_to_a_config_of_any_task(task, tmp_path):
    config = CONFIGS / 'mini' / f'dwnet-nano_{task}_mini.py'
    child = tmp_path / 'child.py'
    child.write_text(f'_base_ = {[str(config), str(DDP)]}\n')
    cfg, alone = load_config(str(child)), load_config(str(config))
    assert cfg.pop('model_wrapper_cfg').gradient_as_bucket_view
    assert cfg.to_dict() == alone.to_dict()


def test_on_one_process_it_is_adamw():
    wrapper = dict(optimizer=dict(type=SHARDED, lr=0.1, weight_decay=0.3))
    optimizer = build_optim_wrapper(torch.nn.Linear(2, 2), wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert (optimizer.defaults['lr'], optimizer.defaults['weight_decay']) == (0.1, 0.3)


def test_the_optimizer_that_hangs_is_refused():
    wrapper = dict(optimizer=dict(type='ZeroRedundancyOptimizer', optimizer_type='AdamW'))
    with pytest.raises(UserError, match=f'hangs at the first checkpoint: use {SHARDED}'):
        check_optimizer(Config(dict(optim_wrapper=wrapper)))
