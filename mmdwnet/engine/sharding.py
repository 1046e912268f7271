"""AdamW whose state is divided among the processes of a run: ZeRO stage 1 (Rajbhandari et al. 2020), torch's.

mmengine's own ZeroRedundancyOptimizer hangs at the first checkpoint of its Runner: all processes have to help with
the state, and only the first one saves. Here they are asked before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import AdamW, Optimizer

from ..errors import UserError
from ..registry import OPTIMIZERS

SHARDED = 'mmdwnet.ShardedAdamW'


@OPTIMIZERS.register_module('ShardedAdamW')
def sharded_adamw(params: Iterable[Any], **options: Any) -> Optimizer:
    """Make an AdamW of which every process holds and computes a part; on one process an AdamW.

    Its checkpoints are those of AdamW: either resumes from the other's, on any number of processes.

    Args:
        params: parameters or groups of them.
        options: of torch's AdamW.
    """
    if get_world_size() == 1:
        return AdamW(params, **options)
    return ZeroRedundancyOptimizer(list(params), AdamW, **options)


def gather_optimizer_state(runner: Runner) -> None:
    """Bring the parts of a sharded optimizer's state to the main process; to be called on all, before it saves."""
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.consolidate_state_dict()


def check_optimizer(cfg: Config) -> None:
    """Refuse the optimizer that would hang.

    Raises:
        UserError: it is mmengine's ZeroRedundancyOptimizer.
    """
    kind = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
    if kind == 'ZeroRedundancyOptimizer':
        raise UserError(
            f'optim_wrapper.optimizer.type={kind} hangs at the first checkpoint: use {SHARDED}, without '
            'optimizer_type'
        )
