"""Every run leaves a page to look at, `report.html` in its work directory.

The page is made from what mmengine writes anyway, and from what the hook writes beside it: the facts of the run,
and a record of its last evaluation. It reads and draws, and nothing of it is in a checkpoint: a run with the hook
is the run without it. Whatever goes wrong with the report is one warning in the log.
"""

from __future__ import annotations

import contextlib
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..analysis.benchmark.machine import describe_machine
from ..analysis.run_report.facts import EVALUATION, FOLDER, hold, write_facts
from ..analysis.run_report.records import Records, merged
from ..errors import Preempted, UserError
from ..registry import HOOKS
from .config import TASKS

PAGE = 'report.html'


@HOOKS.register_module()
class RunReportHook(Hook):
    """Writes the report of a training or a test when it ends.

    Args:
        config: the config file that the run came from; None where it is not known.
        differences: dotted keys, with their values in that file and in the run; None where they are not known.
    """

    priority = 'LOWEST'  # when everything of a step or an evaluation is logged

    def __init__(self, config: str | None = None, differences: Sequence[Sequence[Any]] | None = None):
        self._facts: dict[str, Any] = dict(config=config, differences=differences)
        self._records: Any = None
        self._lock: Any = None
        self._given_up = False
        self._seconds = 0.0

    def before_run(self, runner: Runner) -> None:
        self._begun = datetime.now(timezone.utc)

    def before_train(self, runner: Runner) -> None:
        self._guarded(runner, lambda: self._begin(runner, 'train'))

    def before_test(self, runner: Runner) -> None:
        self._guarded(runner, lambda: self._begin(runner, 'test'))

    def before_val_epoch(self, runner: Runner) -> None:
        self._guarded(runner, lambda: self._watch(runner, runner.val_dataloader.dataset))

    def before_test_epoch(self, runner: Runner) -> None:
        self._guarded(runner, lambda: self._watch(runner, runner.test_dataloader.dataset))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        if self._records is not None:
            self._guarded(runner, lambda: self._records.add(data_batch['inputs'], outputs))

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(runner, 'val', metrics or {})

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(runner, 'test', metrics or {})

    def after_run(self, runner: Runner) -> None:
        self.end(runner, 'finished')

    def end(self, runner: Runner, how: str, why: str = '') -> None:
        """Write the page, on the main process.

        Args:
            runner: of the run.
            how: 'finished', 'preempted' or 'failed'.
            why: what the run said when it ended early.
        """
        if not is_main_process():
            return

        def finish() -> None:
            self._facts['ended'] = dict(how=how, why=why, when=_now(), **_place(runner, self._facts))
            self._finish(runner)

        self._given_up = False  # of the page only what is there
        self._guarded(runner, finish)

    def _begin(self, runner: Runner, phase: str) -> None:
        if not is_main_process():
            return
        self._facts.update(
            phase=phase,
            task=TASKS.get(runner.cfg.get('default_scope')),
            command=shlex.join([Path(sys.executable).name, *sys.argv]),
            started=self._begun.isoformat(timespec='seconds'),
            machine=describe_machine('cuda' if torch.cuda.is_available() else 'cpu'),
            processes=get_world_size(),
            parameters=sum(parameter.numel() for parameter in runner.model.parameters()),
            load_from=runner._load_from,
            resumed=bool(runner._resume),
        )
        if phase == 'train':
            loader = runner.train_dataloader
            self._facts.update(
                batch_size=_batch_size(loader),
                accumulated=getattr(runner.optim_wrapper, '_accumulative_counts', 1),
                images=len(loader.dataset),
                steps_per_epoch=len(loader),
                by_epoch=isinstance(runner.train_loop, EpochBasedTrainLoop),
                first_step=runner.iter,
                last_step=runner.max_iters,
                epochs=runner.max_epochs,
            )
        else:
            self._facts.update(images=len(runner.test_dataloader.dataset))
        self._folder(runner).mkdir(parents=True, exist_ok=True)
        self._write(runner)
        self._lock = hold(self._folder(runner))

    def _watch(self, runner: Runner, dataset: Any) -> None:
        task = TASKS.get(runner.cfg.get('default_scope'))
        self._records = None
        if task is not None:
            self._records = Records(task, dataset.metainfo, len(dataset), get_rank(), get_world_size())

    def _keep(self, runner: Runner, phase: str, metrics: dict[str, float]) -> None:
        """Put together what all processes have kept, and write it on the main process."""
        records, self._records = self._records, None
        mine: list[dict[str, Any]] = []  # empty where there is nothing, or it failed
        if records is not None:
            self._guarded(runner, lambda: mine.append(records.parts()))
        # by all of them, also by one that has given up: the others would wait for it
        parts = all_gather_object(mine[0] if mine else None)
        if not is_main_process():
            return

        def write() -> None:
            facts = dict(phase=phase, classes=records.classes, palette=records.palette, images=records.images)
            facts.update(task=self._facts.get('task'), **_place(runner, self._facts))
            facts['metrics'] = {name: float(value) for name, value in metrics.items() if _is_number(value)}
            evaluation = merged(parts, facts)
            if evaluation is not None:
                evaluation.save(self._folder(runner) / EVALUATION)
            self._write(runner)

        if records is not None:
            self._guarded(runner, write)

    def _finish(self, runner: Runner) -> None:
        if 'phase' not in self._facts:
            return  # it ended before it began: there is nothing to show
        self._write(runner)
        if self._lock is not None:
            self._lock.close()
        from ..analysis.run_report.page import write_report  # which needs matplotlib

        write_report(Path(runner.work_dir), Path(runner.work_dir, PAGE))
        runner.logger.info(f'report: {Path(runner.work_dir, PAGE)}')

    def _write(self, runner: Runner) -> None:
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._facts.update(peak_memory=kilobytes * 1024, seconds_of_report=round(self._seconds, 3))
        write_facts(self._folder(runner), self._facts)

    def _guarded(self, runner: Runner, work: Callable[[], None]) -> None:
        """Do something for the report; what goes wrong is a warning, and the end of its records."""
        if self._given_up:
            return
        started = time.perf_counter()
        try:
            work()
        except Exception as error:  # a report may not end a run, whatever is wrong with it
            self._given_up = True
            reason = ' '.join(str(error).split())[:300]
            runner.logger.warning(f'the report lacks a part: {type(error).__name__}: {reason}')
        finally:
            self._seconds += time.perf_counter() - started

    @staticmethod
    def _folder(runner: Runner) -> Path:
        return Path(runner.log_dir, FOLDER)


@contextlib.contextmanager
def reported(runner: Runner, config: str, differences: Sequence[Sequence[Any]]) -> Iterator[None]:
    """Have a run leave a report, however it ends; around it.

    Args:
        runner: of the run.
        config: the config file that it came from.
        differences: what it does in another way, as `RunReportHook` takes it.
    """
    hook = RunReportHook(config, differences)
    runner.register_hook(hook)
    try:
        yield
    except Preempted as pause:
        hook.end(runner, 'preempted', str(pause))
        raise
    except BaseException as error:  # an interrupt from the keyboard too
        # the error of a loader process ends with its message, behind its traceback
        why = (str(error).strip().splitlines() or [''])[-1]
        if not isinstance(error, UserError):
            why = f'{type(error).__name__}: {why}'
        hook.end(runner, 'failed', why[:500])
        raise


def keep_scalars(cfg: Config) -> None:
    """Have a run write its scalars to files, also where the config has another backend in place of that."""
    visualizer = cfg.get('visualizer')
    if not visualizer:  # mmengine makes one that writes them
        return
    backends = visualizer.get('vis_backends') or []
    backends = [backends] if isinstance(backends, dict) else list(backends)
    if all(str(backend.get('type')).split('.')[-1] != 'LocalVisBackend' for backend in backends):
        visualizer['vis_backends'] = [*backends, dict(type='LocalVisBackend')]


def _batch_size(loader: Any) -> int | None:
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)


def _place(runner: Runner, facts: dict[str, Any]) -> dict[str, int]:
    """How far a training has come, in steps and epochs; nothing of a test."""
    if facts.get('phase') != 'train':
        return {}
    return dict(step=runner.iter, epoch=runner.epoch, by_epoch=facts.get('by_epoch'))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, 'size', 0) == 1


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')
