"""From what was measured to what a run would take: memory, batch, time, room on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .hardware import disk, shared_memory
from .page import Finding, duration, size
from .settings import steps_of, steps_per_epoch

# parts of the free memory that a run may take: allocators fragment, and loaders and validation want some too
HEAD_ROOM = dict(cuda=0.9, cpu=0.7)


class Forecast:
    """What the measurements say of a whole run on one process.

    Args:
        cfg: the config.
        images: of the training set; 0 if that is not known.
        results: what `measuring.measure` returned.
        problems: likewise.
    """

    def __init__(self, cfg: Config, images: int, results: dict[str, dict], problems: dict[str, str]):
        self.cfg, self.problems = cfg, problems
        self.batch = cfg.train_dataloader.get('batch_size') or 1
        self.step, self.loading = results.get('step'), results.get('loading')
        per_epoch = self.loading['per_epoch'] if self.loading else steps_per_epoch(cfg, images)
        self.steps = steps_of(cfg, per_epoch)

    def findings(self) -> Iterator[Finding]:
        """All of them, in the order of the page."""
        for part, problem in self.problems.items():
            if part == 'step':
                memory = 'memory' in problem  # torch's words and those of a killed process
                cure = 'set a smaller train_dataloader.batch_size' if memory else 'put right what it names'
                yield Finding('fails', 'step', f'forward, backward and update of random images: {problem}', cure)
            else:
                cure = (
                    'put right what it names; --cfg-options train_dataloader.num_workers=0 shows where it is from'
                )
                yield Finding('fails', 'loader', problem, cure)
        if self.step:
            yield self._one_step()
            yield self._batch()
        if self.loading:
            yield self._loader()
        if self.step:
            yield from self._run()
        if self.loading:
            # each process of the loader keeps two batches ready
            waiting = 2 * self.loading['workers'] * self.loading['batch_bytes']
            yield from shared_memory(waiting)
        yield from self._disk()

    def _one_step(self) -> Finding:
        last = self._nearest()
        how = 'tensors on the GPU' if self.step['device'] == 'cuda' else 'growth of resident memory'
        height, width = self.step['size']
        text = (
            f'{last["batch"]} random images of {height} x {width}: {duration(last["seconds"])}, peak '
            f'{size(last["peak"])} ({how})'
        )
        values = dict(seconds=last['seconds'], peak=last['peak'], batch=last['batch'], loss=last['loss'])
        if not math.isfinite(last['loss']):
            cure = 'lower the learning rate, or train without mixed precision, and look at the loss'
            return Finding(
                'fails',
                'step',
                f'{text}; its loss is {last["loss"]} after a few steps from random weights',
                cure,
                values,
            )
        return Finding('ok', 'step', text, values=values)

    def _nearest(self) -> dict[str, Any]:
        """The step of the config's batch, or of the larger one that was measured."""
        return next((step for step in self.step['steps'] if step['batch'] == self.batch), self.step['steps'][-1])

    def _batch(self) -> Finding:
        """Whether the config's batch fits, and how many images would."""
        each, fixed = self._memory()
        limit = HEAD_ROOM[self.step['device']] * self.step['limit']
        most = int((limit - fixed) / each)
        if self.step['full'] is not None:
            most = min(most, self.step['full'] - 1)
        suggested = min(self.batch, most) if most < 8 else min(self.batch, most // 8 * 8)
        suggested = self.batch if most >= self.batch else suggested
        values = dict(largest=most, suggested=max(suggested, 1), per_image=each, fixed=fixed)
        room = f'{HEAD_ROOM[self.step["device"]]:.0%} of the free {size(self.step["limit"])}'
        about = f'{float(f"{most:.2g}"):,.0f}'
        numbers = f'{size(each)} an image + {size(fixed)}; about {about} images in {room}'
        if most >= self.batch:
            return Finding('ok', 'batch', f'{self.batch} fits: {numbers}', values=values)
        accumulated = -(-self.batch // values['suggested']) * self.cfg.optim_wrapper.get('accumulative_counts', 1)
        cure = (
            f'--cfg-options train_dataloader.batch_size={values["suggested"]} '
            f'optim_wrapper.accumulative_counts={accumulated}; or use a GPU with more memory'
        )
        return Finding('fails', 'batch', f'{self.batch} does not fit: {numbers}', cure, values)

    def _memory(self) -> tuple[float, float]:
        """Bytes per image and besides, by the line through the two largest batches."""
        steps = self.step['steps']
        small, large = steps[max(len(steps) - 2, 0)], steps[-1]
        if small['batch'] == large['batch']:  # one size alone fitted: all of it is taken to be the images'
            return large['peak'] / large['batch'], 0.0
        each = (large['peak'] - small['peak']) / (large['batch'] - small['batch'])
        # small nets drown in what an allocator keeps: no less than a share of what was taken
        each = max(each, 0.1 * large['peak'] / large['batch'], 1.0)
        return each, max(large['peak'] - each * large['batch'], 0.0)

    def _loader(self) -> Finding:
        rate, workers = self.loading['rate'], self.loading['workers']
        over = f'from {workers} processes, over {self.loading["batches"]} batches'
        text = f'{float(f"{rate:.3g}"):,g} images a second {over}'
        return Finding('ok', 'loader', text, values=dict(images_per_second=rate))

    def _run(self) -> Iterator[Finding]:
        """The time of the whole run, and whether the step or the loader sets it."""
        if self.steps is None:
            yield Finding('note', 'run', 'its length is not known, for the number of images is not')
            return
        last = self._nearest()
        step = last['seconds'] * self.batch / last['batch']
        how = 'measured' if last['batch'] == self.batch else f'scaled from {last["batch"]} images'
        load = self.batch / self.loading['rate'] if self.loading else 0.0
        aside = self.loading is not None and self.loading['workers'] > 0
        total = self.steps * (max(step, load) if aside else step + load)
        values = dict(steps=self.steps, seconds=total, step=step, loading=load)
        text = f'about {duration(total)}: {self.steps:,} steps of {self.batch} images in one process'
        yield Finding('ok', 'run', f'{text}, validation aside', values=values)
        text = f'a step takes {duration(step)} ({how}), loading its images'
        if self.loading is None:
            yield Finding('note', 'limit', f'{text} was not measured')
        elif load > step:
            cure = 'more train_dataloader.num_workers where there are cores, smaller images on disk, a faster disk'
            yield Finding('warning', 'limit', f'{text} {duration(load)}: the data loader limits', cure)
        else:
            yield Finding('ok', 'limit', f'{text} {duration(load)}: the step limits')

    def _disk(self) -> Iterator[Finding]:
        """Room for the checkpoints; what they take is not known without a step."""
        folder = Path(self.cfg.work_dir)
        hook = (self.cfg.get('default_hooks') or {}).get('checkpoint')
        if not self.step or not hook:
            yield from disk(folder)
            return
        yield from disk(folder, self._kept(hook), self.step['checkpoint'])

    def _kept(self, hook: dict[str, Any]) -> int:
        """How many checkpoints lie on the disk at most: an old one goes after the new one is there."""
        interval, most = hook.get('interval', -1), hook.get('max_keep_ckpts', -1)
        loop = self.cfg.train_cfg
        length = loop.get('max_epochs') if hook.get('by_epoch', True) else self.steps
        made = length // interval if length and interval > 0 else 0
        made += bool(hook.get('save_last', True)) and (made == 0 or length % interval > 0)
        best = hook.get('save_best')
        bests = len(best) if isinstance(best, (list, tuple)) else int(bool(best))
        return (made if most <= 0 else min(made, most + 1)) + bests
