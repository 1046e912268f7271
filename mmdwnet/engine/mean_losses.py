"""The losses in the log are those of the whole batch, not of the images that rank 0 had."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ..registry import HOOKS


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Averages what a training step returns over all processes, before it is logged."""

    priority = 'HIGHEST'  # before mmengine's RuntimeInfoHook takes the losses

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if get_world_size() == 1 or not outputs:
            return
        names = sorted(name for name, value in outputs.items() if isinstance(value, Tensor) and value.numel() == 1)
        if not names:
            return
        values = torch.stack([outputs[name].detach().float().reshape(()) for name in names])
        all_reduce(values, 'mean')
        for name, value in zip(names, values, strict=True):
            outputs[name] = value.reshape(outputs[name].shape)
