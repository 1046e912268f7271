"""Samples that cannot be trained on: skipped up to a budget, named once, and more of them stop the run.

In place of a bad sample another one is drawn, as a function of the place of the first in the data's order
(`data_order.py`), so that a resumed run draws the same. Loader processes of all ranks and nodes write what they
meet into one file of the work directory, which they have to share; a hook reads it. Nothing is skipped where
scores are made: they would be of another set.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import UserError
from ..registry import HOOKS
from .checkpoint_hook import save_now
from .sample_checks import BadSample, Fault, LoadingStopped, check_loading, parts_of, said

FILE = 'bad_samples.txt'
SHARE = 0.001  # of the set may be bad
FINDER = 'tools/dataset_tools/check_dataset.py CONFIG lists all that are'


def budget(images: int, most: int | None) -> int:
    """How many samples may be bad: what the user says, or 0.1 % of the images, and one at least."""
    return math.ceil(images * SHARE) if most is None else most


def check_budget(faults: Sequence[Fault], images: int, most: int | None, name: str) -> None:
    """Refuse to begin a run of which more samples are known to be bad than may be.

    Args:
        faults: those that are known.
        images: of the set.
        most: `--max-bad-samples`.
        name: of the data loader.

    Raises:
        UserError: they are more.
    """
    allowed = budget(images, most)
    if len(faults) > allowed:
        raise UserError(
            f'{name}: {faults[0].reason} ({len(faults)} bad samples are known before the first step, and '
            f'{allowed} of {images} may be skipped: repair them, or set --max-bad-samples; {FINDER})'
        )


def skip_bad_samples(cfg: Config, most: int | None = None, known: Sequence[Fault] = ()) -> None:
    """Have a run skip bad samples in training, and stop at one where it scores.

    Args:
        cfg: changed in place.
        most: how many may be bad; None for 0.1 % of the set.
        known: those found before the run.
    """
    hook = dict(type='mmdwnet.BadSamplesHook', most=most, known=[tuple(fault) for fault in known])
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def write_faults(file: str | Path, faults: Sequence[Fault]) -> None:
    """Write a list of faults in the format of `bad_samples.txt`."""
    Path(file).write_text(''.join(map(_line, faults)), encoding='utf-8')


class FaultFile:
    """The bad samples of a run: a line each of file, kind and reason, which many processes read and write.

    Args:
        path: of the file, which need not be there.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        self.faults: dict[str, Fault] = {}  # by the bad file; in place, for others look into it
        self._size = 0

    def read(self) -> dict[str, Fault]:
        """Take in what other processes have added, and return all."""
        try:
            if os.stat(self.path).st_size != self._size:
                with open(self.path, 'rb') as file:
                    self._take(file.read())
        except FileNotFoundError:
            pass
        return self.faults

    def add(self, fault: Fault) -> None:
        """Add a fault, unless its file is there already.

        Raises:
            LoadingStopped: it cannot be written.
        """
        if fault.file in self.faults:
            return
        try:
            with open(self.path, 'a+b', buffering=0) as file:  # whole lines to the end of the file
                with contextlib.suppress(OSError):  # some file systems have no locks; there two might add the same
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                self._take(file.read())
                if fault.file not in self.faults:
                    file.write(_line(fault).encode())
        except OSError as error:
            raise LoadingStopped(f'{self.path} cannot be written ({said(error)}), after {fault.reason}') from error
        self.faults.setdefault(fault.file, fault)

    def begin(self, resumed: bool, sources: Sequence[str]) -> None:
        """Begin a run: forget what an earlier run found, or, going on, what has been changed since it was listed.

        Args:
            resumed: the run goes on.
            sources: annotation files of the set.
        """
        listed = list(self.read().values())
        self.faults.clear()
        if not listed:
            return
        written = os.stat(self.path).st_mtime
        kept = [] if not resumed or any(_changed(s, written) for s in sources) else listed
        kept = [fault for fault in kept if not _changed(fault.file, written)]
        if kept:
            write_faults(self.path, kept)
        else:
            os.unlink(self.path)
        self._size = -1
        self.read()

    def _take(self, content: bytes) -> None:
        self._size = len(content)
        whole, _, _ = content.rpartition(b'\n')
        for line in whole.decode('utf-8', 'replace').split('\n'):
            if line.count('\t') == 2:
                fault = Fault(*line.split('\t'))
                self.faults.setdefault(fault.file, fault)


def _line(fault: Fault) -> str:
    return '\t'.join(' '.join(part.split()) for part in fault) + '\n'


def _changed(file: str, since: float) -> bool:
    """Whether a file has been replaced, repaired or removed; its ctime tells also where a copy keeps its mtime."""
    try:
        return os.stat(file).st_ctime > since
    except OSError:
        return True


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Skips bad samples in training up to a budget, and lets no bad sample pass where scores are made.

    Args:
        most: how many different samples may be bad in the whole run; None for 0.1 % of the set, one at least.
            One more stops the run, with a checkpoint.
        known: those found before the run, as `Fault`s.
        interval: optimizer steps from one look at the list to the next, on several processes; a process by itself
            looks after every step.
    """

    priority = 'LOWEST'  # when the schedules, averages and checkpoints of a step are done

    def __init__(self, most: int | None = None, known: Sequence[Sequence[str]] = (), interval: int = 10):
        self.most = most
        self.known = [Fault(*fault) for fault in known]
        self.interval = interval
        self._updates = 0
        self._named = 0

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        parts = list(parts_of(dataset))
        self._images = sum(len(part) for part in parts)
        self._list = FaultFile(Path(runner.work_dir, FILE))
        if is_main_process():
            sources = [os.path.abspath(part.ann_file) for part in parts if getattr(part, 'ann_file', '')]
            self._list.begin(runner._resume, sources)
            self._named = len(self._list.faults)
            if self._named:
                runner.logger.warning(f'{self._named} bad samples are known from before: {self._list.path}')
            for fault in self.known:
                self._list.add(fault)
        barrier()  # before loader processes of any rank read it
        check_loading(dataset, self._list.read())
        dataset.bad_samples = self._list
        self._stop_if_too_many(runner)

    def before_val(self, runner: Runner) -> None:
        check_loading(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        check_loading(runner.test_dataloader.dataset)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if not runner.optim_wrapper.should_update():
            return
        self._updates += 1
        if get_world_size() == 1 or self._updates % self.interval == 0:
            self._stop_if_too_many(runner, save=True)

    def after_train(self, runner: Runner) -> None:
        self._stop_if_too_many(runner)

    def _stop_if_too_many(self, runner: Runner, save: bool = False) -> None:
        """Name what is new, and stop on all processes alike if it is too much."""
        listed = list(self._list.read().values())
        if is_main_process():
            for fault in listed[self._named :]:
                runner.logger.warning(f'bad sample skipped: {fault.reason}')
            self._named = len(listed)
        found = torch.tensor(float(len(listed)))
        all_reduce(found, 'max')  # a file that others write may look older elsewhere
        allowed = budget(self._images, self.most)
        if found <= allowed:
            return
        saved = f'; {save_now(runner, "stopped").name} keeps the state' if save else ''
        raise UserError(
            f'stopped at iteration {runner.iter + save}: {int(found)} of {self._images} samples are bad, and '
            f'{allowed} may be skipped{saved}: repair those that {self._list.path} lists, or set '
            f'--max-bad-samples, and go on with --resume; {FINDER}'
        )


@contextlib.contextmanager
def bad_samples_in_one_line() -> Iterator[None]:
    """Turn a bad sample that could not be skipped into an error of one line; around a run.

    Only this process has met it, and the others wait for it: a launcher ends them.

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except BadSample as error:
        # a loader process hands on its traceback, which ends with the message
        message = str(error).strip().splitlines()[-1].rpartition(f'{type(error).__name__}: ')[2]
        if isinstance(error, LoadingStopped):
            raise UserError(message) from None
        raise UserError(
            f'{message}: no image is skipped where scores are made, for they would be of another set; repair it '
            f'or take it out of the set; {FINDER}'
        ) from None
