"""Give way to a signal: save at a step that all processes agree on, and end with a status that asks for a restart.

Slurm announces a time limit or a pre-emption by a signal (`--signal`), and so does a person. Two signals mean
hurry.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import Preempted
from ..registry import HOOKS
from .checkpoint_hook import save_now

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """After SIGUSR1 or SIGTERM, saves a checkpoint and raises `Preempted`; a second one ends the process at once.

    Args:
        interval: optimizer steps from one question to the other processes to the next; a process by itself
            asks itself after every step.
    """

    priority = 'LOWEST'  # when the schedules, averages and checkpoints of a step are done

    def __init__(self, interval: int = 5):
        self.interval = interval
        self._signal: str | None = None
        self._updates = 0

    def before_run(self, runner: Runner) -> None:  # a signal waits while checkpoints and data are loaded
        self._before: dict[int, Any] = {number: signal.signal(number, self._note) for number in SIGNALS}

    def after_train(self, runner: Runner) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            self._restore()
            os.kill(os.getpid(), signal.SIGKILL)
        self._signal = signal.Signals(number).name

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if not runner.optim_wrapper.should_update():
            return  # the gradients that are accumulated so far are in no checkpoint
        self._updates += 1
        if get_world_size() > 1:
            if self._updates % self.interval:
                return
            asked = torch.tensor(float(self._signal is not None))
            all_reduce(asked, 'max')
            asked = bool(asked)
        else:
            asked = self._signal is not None
        if asked:
            self._give_way(runner)

    def _give_way(self, runner: Runner) -> None:
        path = save_now(runner, 'preempted')
        self._restore()
        raise Preempted(
            f'gave way at iteration {runner.iter + 1} to {self._signal or "a signal that another process got"}: '
            f'--resume goes on from {path}'
        )
