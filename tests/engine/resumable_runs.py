"""A small training run with all that a resume has to bring back; the tests of this folder stop and resume it.

Augmentation draws from Python's, numpy's and torch's generators in loader processes, the model has dropout and a
BN, the batches are mixed up by the main process; there are EMA, a schedule per step and accumulation. As a script
it is one process of a run: `resumable_runs.py FOLDER epochs|iterations [key=value ...]`, the values in Python's
notation. It appends `step loss` to FOLDER/losses-RANK.txt and leaves FOLDER/end-RANK.pth.
"""

from __future__ import annotations

import ast
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from mmengine.runner import runner as runner_module
from torch import Tensor, nn

from mmdwnet.engine.distributed import leave_process_group, prepare_cpu_run
from mmdwnet.engine.exact_resume import make_resumable
from mmdwnet.engine.sharding import gather_optimizer_state
from mmdwnet.errors import Preempted, UserError, run_tool

runner_module.collect_env = dict  # calls compilers to log their versions


@DATASETS.register_module()
class RandomDataset(BaseDataset):
    """Images whose every pixel depends on the random state that they are loaded in."""

    METAINFO = dict(classes=('a', 'b', 'c'))

    def load_data_list(self) -> list[dict]:
        return [dict(index=index) for index in range(40)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = random.random() + np.random.rand() + torch.rand(3, 8, 8)
        return dict(inputs=drawn + index / 40, labels=torch.tensor(index % 3))


@MODELS.register_module()
class RandomModel(BaseModel):
    """A convolution, a norm, dropout and a head; `norm=False` and `dropout=0` make it alike on many processes."""

    def __init__(self, norm: bool = True, dropout: float = 0.2):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.mixes = dropout > 0
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        if self.mixes:  # as mixup does, with numpy's generator of the main process
            inputs = inputs + np.random.beta(0.8, 0.8) * inputs.flip(0)
        features = self.norm(self.conv(inputs)).relu().mean((2, 3))
        return dict(loss=F.cross_entropy(self.head(self.dropout(features)), labels))


@HOOKS.register_module()
class Recorder(Hook):
    """Writes the losses, and slows the steps down for those who want to hit one."""

    def __init__(self, folder: str, pause: float, events: dict[int, str]):
        self.folder, self.pause, self.events = Path(folder), pause, events

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(self.pause)
        with (self.folder / f'losses-{get_rank()}.txt').open('a') as file:
            print(runner.iter, repr(outputs['loss'].item()), file=file, flush=True)
        if runner.iter in self.events:
            exec(self.events[runner.iter], dict(runner=runner, rank=get_rank()))


def config_of(folder: Path, kind: str, **settings: Any) -> Config:
    """A run in a folder.

    Args:
        folder: for everything that it writes.
        kind: 'epochs' or 'iterations', of the loop and of its checkpoints.
        settings: `resume`, `pause` (seconds a step), `events` (step: Python code to run after it), `batch_size`,
            `accumulate`, `workers`, `norm`, `dropout`, `launcher`, `optimizer`, `wrapper`
            (model_wrapper_cfg), `interval` (of checkpoints), `keep`, `epochs`, `steps`.
    """
    get = settings.get
    by_epoch = kind == 'epochs'
    epochs, steps = get('epochs', 4), get('steps', 40)
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    end = epochs if by_epoch else steps
    cfg = Config(
        dict(
            model=dict(type='RandomModel', norm=get('norm', True), dropout=get('dropout', 0.2)),
            work_dir=str(folder),
            train_dataloader=dict(
                batch_size=get('batch_size', 4),
                num_workers=get('workers', 2),
                persistent_workers=get('workers', 2) > 0,
                sampler=dict(type=sampler, shuffle=True),
                dataset=dict(type='RandomDataset'),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=by_epoch, **{'max_epochs' if by_epoch else 'max_iters': end}),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type=get('optimizer', 'AdamW'), lr=1e-2),
                accumulative_counts=get('accumulate', 1),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, end=1 if by_epoch else 10, by_epoch=by_epoch),
                dict(type='CosineAnnealingLR', T_max=end, by_epoch=by_epoch),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook',
                    by_epoch=by_epoch,
                    interval=get('interval', 1 if by_epoch else 7),
                    max_keep_ckpts=get('keep', 2),
                ),
                logger=dict(type='LoggerHook', interval=100),
            ),
            custom_hooks=[
                dict(type='EMAHook', momentum=0.1, update_buffers=True),
                dict(type='Recorder', folder=str(folder), pause=get('pause', 0.0), events=get('events', {})),
            ],
            randomness=dict(seed=None, diff_rank_seed=True),
            launcher=get('launcher', 'none'),
            model_wrapper_cfg=get('wrapper'),
            resume=get('resume', False),
        )
    )
    for scheduler in cfg.param_scheduler if by_epoch else ():
        scheduler.convert_to_iter_based = True
    if get('seed', 3) is not None:
        cfg.randomness.seed = get('seed', 3)
    return cfg


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    settings = {key: ast.literal_eval(value) for key, _, value in (item.partition('=') for item in sys.argv[3:])}
    cfg = config_of(folder, kind, **settings)
    folder.mkdir(parents=True, exist_ok=True)
    make_resumable(cfg)
    prepare_cpu_run(cfg, cfg.launcher)
    runner = Runner.from_cfg(cfg)
    print('starting', flush=True)
    try:
        runner.train()
    except (UserError, Preempted):
        leave_process_group()
        raise
    model = runner.model.module if cfg.launcher != 'none' else runner.model
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    gather_optimizer_state(runner)
    optimizer = runner.optim_wrapper.state_dict() if get_rank() == 0 else None
    end = dict(model=model.state_dict(), ema=ema.ema_model.state_dict(), optimizer=optimizer)
    torch.save(end, folder / f'end-{get_rank()}.pth')
    del runner, model, ema
    leave_process_group()


if __name__ == '__main__':
    run_tool(main)
