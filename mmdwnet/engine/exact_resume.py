"""A resumed run is the run that never stopped: what makes it so, switched on in one place.

All randomness is a function of the seed and of how far the run has come: that of a sample of its place in the
data's order (`data_order.py`), that of a training step, such as drop path and mixup, of rank and iteration (here).
So checkpoints need not hold any random state and keep the stock format; beside what they have anyway they say how
many images a step took on all processes.
"""

from __future__ import annotations

import logging
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoints.durable import newest_whole, remove_partial_files
from ..errors import UserError
from ..registry import HOOKS
from .data_order import seed_all

# a loop of mmengine, and ours in its place
LOOPS = {'EpochBasedTrainLoop': 'mmdwnet.ResumableEpochLoop', 'IterBasedTrainLoop': 'mmdwnet.ResumableIterLoop'}
META = 'mmdwnet'  # in the `meta` of checkpoints


def make_resumable(cfg: Config) -> None:
    """Change a config so that a run of it can be resumed exactly: its loop, its samplers, a hook.

    Args:
        cfg: a config with a training part; changed in place.
    """
    loop = dict(cfg.train_cfg)
    by_epoch = loop.pop('by_epoch', None)
    kind = loop.pop('type', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
    if kind not in LOOPS:
        print_log(f'{kind} is a training loop that cannot be resumed exactly', 'current', logging.WARNING)
        return
    cfg.train_cfg = dict(type=LOOPS[kind], **loop)
    loader = cfg.train_dataloader
    loader.sampler = dict(type='mmdwnet.PlacedSampler', sampler=loader.sampler)
    loader.batch_sampler = dict(
        type='mmdwnet.ResumableBatchSampler',
        drop_last=loader.pop('drop_last', False),
        batch_sampler=loader.pop('batch_sampler', None),
    )
    kinds = 'ExactResumeHook', 'MeanLossHook', 'PreemptionHook'
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *(dict(type=f'mmdwnet.{kind}') for kind in kinds)]
    checkpoint = cfg.default_hooks.get('checkpoint')
    if checkpoint and checkpoint.get('type') == 'CheckpointHook':
        checkpoint.type = 'mmdwnet.DurableCheckpointHook'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seeds every training step, and takes a run on where it was, also on another number of processes."""

    priority = 'VERY_HIGH'  # before anything draws a random number

    def __init__(self):
        self._resumed: dict[str, Any] | None = None

    def before_run(self, runner: Runner) -> None:
        if not runner._resume or runner._load_from is not None:
            return
        found: list[Any] = [None, None]
        if is_main_process():
            remove_partial_files(runner.work_dir)
            try:
                found[0], skipped = newest_whole(runner.work_dir)
                for line in skipped:
                    runner.logger.warning(line)
            except UserError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        path, problem = found
        if problem:
            raise UserError(problem)
        if path is None:
            runner.logger.info(f'nothing to resume in {runner.work_dir}: the run starts from the beginning')
        runner._load_from, runner._resume = path and str(path), path is not None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self._resumed = checkpoint['meta'].get(META)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta'][META] = dict(
            images_per_step=self._images_per_step(runner), steps_per_epoch=len(runner.train_dataloader)
        )

    def before_train(self, runner: Runner) -> None:
        seed = [runner.seed]
        broadcast_object_list(seed)  # each process may have its own, counted up by its rank
        self._seed = seed[0]
        runner.train_dataloader.batch_sampler.sampler.set_seed(self._seed)
        before = self._resumed or {}
        if before and before['images_per_step'] != self._images_per_step(runner):
            self._continue_at_the_same_image(runner, before)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(self._seed, 1, get_rank(), runner.iter)

    @staticmethod
    def _images_per_step(runner: Runner) -> int:
        return runner.train_dataloader.batch_sampler.batch_size * get_world_size()

    def _continue_at_the_same_image(self, runner: Runner, before: dict[str, int]) -> None:
        """Count the steps so far in steps of another number of images, and let the schedules follow."""
        loop, now = runner.train_loop, self._images_per_step(runner)
        old = loop._iter
        if isinstance(loop, EpochBasedTrainLoop):
            seen = (loop._iter - loop._epoch * before['steps_per_epoch']) * before['images_per_step']
            loop._iter = loop._epoch * len(runner.train_dataloader) + seen // now
        else:
            loop._iter = loop._iter * before['images_per_step'] // now
        runner.logger.info(
            f'{now} images a step instead of {before["images_per_step"]}: step {old} is now step {loop._iter}'
        )
        _replay_schedules(runner, loop._iter)


def _replay_schedules(runner: Runner, steps: int) -> None:
    """Build the parameter schedules anew and take them to a step, where they count steps; those of epochs stay."""
    if not isinstance(runner.param_schedulers, list):
        raise UserError(
            'resuming on another number of processes needs one list of param_scheduler: use as many as before'
        )
    counted = [scheduler for scheduler in runner.param_schedulers if not scheduler.by_epoch]
    if not counted:
        return
    for group in runner.optim_wrapper.optimizer.param_groups:
        for name in [name for name in group if name.startswith('initial_')]:
            group[name.removeprefix('initial_')] = group[name]
    epochs = runner.epoch
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    per_epoch = len(runner.train_dataloader)
    for step in range(steps):
        for scheduler in runner.param_schedulers:
            if not scheduler.by_epoch or (step + 1) % per_epoch == 0 and (step + 1) // per_epoch <= epochs:
                scheduler.step()
