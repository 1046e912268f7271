"""Real training runs of a small DWNet, some of whose batches are bad; for the tests of this folder.

Run as a script under torchrun, it trains in several processes, of which only the last one gets the bad batch, then
once more without that batch, and once with a guard that stops at it, and writes what each process ended with.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdwnet import DWNet
from mmdwnet.engine.distributed import leave_process_group, prepare_cpu_run
from mmdwnet.errors import UserError

# what is wrong with the batch of one process of several
BAD_ON_ONE = ('image', 'loss', 'statistics', 'gradient')

_names = (f'guarded_run_{i}' for i in itertools.count())


@MODELS.register_module()
class SmallClassifier(BaseModel):
    """Two blocks and a head; a batch is images and labels, and what is wrong with it."""

    def __init__(self, mixer: str = 'DepthwiseConv'):
        super().__init__()
        self.backbone = DWNet(dict(embed_dims=8, depths=(1, 1)), mixer, norm_cfg=dict(type='BN'))
        self.head = nn.Linear(16, 4)
        self.side = nn.BatchNorm2d(3, affine=False)

    def forward(self, inputs: Tensor, labels: Tensor, wrong: str, mode: str) -> dict[str, Tensor]:
        scores = self.head(self.backbone(inputs)[0].mean((2, 3)))
        loss = F.cross_entropy(scores, labels)
        if wrong == 'loss':
            loss = loss + float('nan')  # and a good gradient
        elif wrong == 'statistics':  # the variance overflows, and the output is 0
            loss = loss + self.side(inputs * 1e25).mean()
        elif wrong == 'gradient':  # of the square root at 0
            loss = loss + torch.sqrt((self.head.weight * 0).sum())
        elif wrong == 'large gradient':  # more than float16 holds
            more = (scores.float() * 1e6).sum()
            loss = loss + more - more.detach()
        return dict(loss=loss)


def batches(*wrong: str) -> list[dict[str, Any]]:
    """One batch for every argument, the same ones in every call; 'left out' leaves its batch out."""
    made = []
    for seed, what in enumerate(wrong):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        if what == 'image':
            images[1, 0, 3, 5] = float('inf')
        made.append(dict(inputs=images, labels=torch.arange(4), wrong=what))
    return [batch for batch, what in zip(made, wrong, strict=True) if what != 'left out']


def runner_of(data: Sequence[dict], work_dir: Path, **settings: Any) -> Runner:
    """A Runner over these batches, one epoch of them, with EMA and the guard.

    Args:
        data: what `batches` returns.
        work_dir: where logs and checkpoints go.
        **settings: `wrapper` updates the optimizer wrapper, `guard` the guard (None: without one), `mixer` is the
            model's, the others are the Runner's.
    """
    guard = settings.pop('guard', {})
    guards = [] if guard is None else [dict(type='mmdwnet.NonFiniteGuard', **guard)]
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2), clip_grad=dict(max_norm=5.0))
    settings.setdefault('train_cfg', dict(by_epoch=True, max_epochs=1))
    return Runner(
        model=dict(type='SmallClassifier', mixer=settings.pop('mixer', 'DepthwiseConv')),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(data, batch_size=1, collate_fn=lambda items: items[0]),
        optim_wrapper={**wrapper, **settings.pop('wrapper', {})},
        custom_hooks=[dict(type='EMAHook', momentum=0.1, update_buffers=True), *guards],
        randomness=dict(seed=0),
        experiment_name=next(_names),
        **settings,
    )


def end_of(runner: Runner) -> dict[str, Tensor]:
    """Everything that a run leaves: weights, buffers, EMA, and the optimizer's state."""
    state = {f'model.{key}': value for key, value in runner.model.state_dict().items()}
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
    state |= {f'ema.{key}': value for key, value in ema.ema_model.state_dict().items()}
    for index, values in runner.optim_wrapper.optimizer.state_dict()['state'].items():
        state |= {f'optimizer.{index}.{key}': value for key, value in values.items()}
    return state


def main(out: Path) -> None:
    cfg = Config(dict(model=dict(type='SmallClassifier')))
    prepare_cpu_run(cfg, 'pytorch')
    rank = get_rank()
    ends = {}
    settings = dict(launcher='pytorch', cfg=dict(model_wrapper_cfg=cfg.model_wrapper_cfg))
    for wrong in (*BAD_ON_ONE, 'left out'):
        mine = wrong if rank == 1 or wrong == 'left out' else ''
        runner = runner_of(batches('', mine, '', ''), out / wrong, **settings)
        runner.train()
        ends[wrong] = end_of(runner)
    bad = batches('', '', 'image' if rank == 1 else '', '')
    runner = runner_of(bad, out / 'stopped', guard=dict(max_skipped=0), **settings)
    try:
        runner.train()
    except UserError as error:
        ends['stopped'] = str(error)
    torch.save(ends, out / f'{rank}.pth')
    leave_process_group()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
