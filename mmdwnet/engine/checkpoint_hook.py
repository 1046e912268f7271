"""mmengine's CheckpointHook on files that are never half; an old one goes after the new one is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..checkpoints.durable import BACKEND, newest_whole
from ..errors import UserError
from ..registry import HOOKS
from .sharding import gather_optimizer_state


@HOOKS.register_module()
class DurableCheckpointHook(CheckpointHook):
    """Saves checkpoints so that the last whole one is always there.

    Args:
        interval: epochs or iterations from one checkpoint to the next.
        backend_args: file backend; the default writes atomically with a checksum.
        options: the other arguments of mmengine's CheckpointHook.
    """

    def __init__(self, interval: int = -1, backend_args: dict | None = None, **options: Any):
        super().__init__(interval, backend_args=backend_args or dict(backend=BACKEND), **options)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = [*self.keep_ckpt_ids, step]
            outdated, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        most, self.max_keep_ckpts = self.max_keep_ckpts, -1  # mmengine's would delete before it saves
        parent = super()._save_checkpoint_with_step
        try:
            save_together(runner, lambda: parent(runner, step, meta))
        finally:
            self.max_keep_ckpts = most
        if is_main_process():
            for old in outdated:
                path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)


def save_together(runner: Runner, save: Callable[[], object]) -> None:
    """Have the main process save, and all processes end with one line if it could not.

    Raises:
        UserError: it could not be saved; the line names the last checkpoint that is whole.
    """
    problem = [None]
    gather_optimizer_state(runner)
    try:
        save()
    except (OSError, UserError) as error:
        problem = [str(error)]
    broadcast_object_list(problem)
    if problem[0] is not None:
        raise UserError(
            f'stopped at iteration {runner.iter + 1}, for the checkpoint could not be saved: {problem[0]}; '
            f'{_last_whole(runner.work_dir)}: make room or choose another --work-dir'
        )


def save_now(runner: Runner, prefix: str) -> Path:
    """Save a checkpoint at the end of a training step, in the place of an earlier one of the same prefix.

    Args:
        runner: in `after_train_iter`.
        prefix: the file is `<prefix>_iter_<N>.pth`, which `--resume` finds if `RUN_CHECKPOINT` has the prefix.

    Raises:
        UserError: it could not be saved.
    """
    path = Path(runner.work_dir, f'{prefix}_iter_{runner.iter + 1}.pth')
    meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
    options = dict(meta=meta, by_epoch=False, backend_args=dict(backend=BACKEND))
    save_together(runner, lambda: runner.save_checkpoint(runner.work_dir, path.name, **options))
    if is_main_process():
        for old in path.parent.glob(f'{prefix}_iter_*.pth*'):
            if not old.name.startswith(path.name):
                old.unlink()
    return path


def _last_whole(folder: str) -> str:
    try:
        last = newest_whole(folder)[0]
    except UserError:
        last = None
    return f'the last whole one, which --resume finds, is {last}' if last else 'no earlier one is whole'
