"""The command line of `tools/predict.py`, and the run itself: load ahead, predict in batches, write as it goes."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ...errors import UserError
from ...zoo import OFFICIAL, TASKS, Entry, find_model, official_weights
from ..amp import AMP_DTYPES
from ..config import task_of, values_of
from ..models import load_whole_model
from .inputs import Source, Video, find_sources, frames_of, look_at, silence_decoders
from .interrupting import interrupts_between_steps
from .output import Output, check_folder, in_a_line, plural
from .pictures import Drawer
from .predictor import Item, Loaded, Predictor, ahead, batches
from .results import class_names

RANDOM = 'none'  # in place of weights
SHOWN = 10  # images whose predictions are printed
INTERRUPTED = 130  # the status of a program that Ctrl-C ended


def predict_parser() -> argparse.ArgumentParser:
    """The options of `tools/predict.py`."""
    parser = argparse.ArgumentParser(
        description='Predict images and videos: classes, objects, or a class a pixel.'
    )
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, video, folder (at any depth) or glob')
    parser.add_argument(
        '--model', required=True, help='name, such as dwnet-tiny (mmdwnet.list_models() has all), or config file'
    )
    parser.add_argument('--task', choices=TASKS, help='which model of a short name is meant; default cls')
    parser.add_argument(
        '--weights',
        help='checkpoint, path or URL; default the published ones of the model; "none" for random weights',
    )
    parser.add_argument('--out', default='predictions', help='folder for the results; default predictions')
    parser.add_argument('--force', action='store_true', help='overwrite the results that are there')
    parser.add_argument('--no-pictures', action='store_true', help='draw nothing, write results.json alone')
    parser.add_argument(
        '--score-threshold',
        type=float,
        default=0.3,
        metavar='S',
        help='draw no detection of a lower score (default 0.3); results.json has all of them',
    )
    parser.add_argument('--device', help='such as cuda, cuda:1 or cpu; default a GPU if there is one')
    parser.add_argument('--batch-size', type=int, default=8, help='images at once; default 8')
    parser.add_argument('--amp-dtype', choices=AMP_DTYPES, help='predict in mixed precision of this type')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle weights that hold more than weights, which runs code from them; only for files of people '
        'you trust',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings to override, key=value, as in training'
    )
    parser.add_argument('--verbose', action='store_true', help='show the traceback of an error')
    return parser


def predict(args: argparse.Namespace, console: Console) -> None:
    """Predict as the command line says.

    What cannot be read is named, the rest is predicted, and the exit status is then 1. Interrupted, it ends the
    batch and leaves the results of what was done.

    Raises:
        UserError: nothing can be predicted: the inputs, the model, the weights, the device or the folder is wrong.
    """
    if args.batch_size < 1:
        raise UserError(f'--batch-size {args.batch_size}: expected 1 or more')
    if not 0 <= args.score_threshold <= 1:
        raise UserError(f'--score-threshold {args.score_threshold:g}: expected a number from 0 to 1')
    silence_decoders()
    entry = find_model(args.model, args.task)
    sources, others = find_sources(args.inputs)
    videos, broken = _look_at_videos(sources)
    if len(broken) == len(sources):
        raise UserError(next(iter(broken.values())))
    cfg, model, weights = _load(args, entry)
    predictor = Predictor(cfg, model, args.amp_dtype)
    folder = check_folder(args.out, args.force)
    if others:
        console.print(f'left out: {plural(others, "file")} of other kinds in the folders')
    task, threshold = task_of(cfg), args.score_threshold
    names = class_names(model.dataset_meta, max(values_of(cfg.model, 'num_classes'), default=0))
    drawer = None if args.no_pictures else Drawer(task, model.dataset_meta, names, threshold)
    run = Run(predictor, Output(folder, task, names, drawer, videos, threshold), console, args.batch_size)
    for source, reason in broken.items():
        run.fail(source, reason)
    header = dict(model=entry.name, config=str(entry.config), weights=weights)
    complete = run.over([source for source in sources if source not in broken], videos, header)
    if not run.done and run.failures:
        raise UserError(f'nothing could be predicted: {run.failures[0]}')
    if run.done:
        run.report(entry.name, weights == RANDOM)
    if not complete:
        raise SystemExit(INTERRUPTED)
    if run.failures:
        raise SystemExit(1)


def _load(args: argparse.Namespace, entry: Entry) -> tuple[Config, nn.Module, str]:
    """The config, the model, and what its weights are."""
    weights = official_weights(entry) if args.weights in (None, OFFICIAL) else args.weights
    cfg, model = load_whole_model(
        str(entry.config),
        None if weights == RANDOM else weights,
        args.device or get_device(),
        args.cfg_options,
        args.task or entry.task,
        args.trust_checkpoint,
    )
    return cfg, model, weights


def _look_at_videos(sources: Sequence[Source]) -> tuple[dict[Source, Video], dict[Source, str]]:
    """What the videos say of themselves, and what is wrong with the others."""
    videos, broken = {}, {}
    for source in sources:
        if source.is_video:
            try:
                videos[source] = look_at(source.path)
            except UserError as error:
                broken[source] = str(error)
    return videos, broken


class Run:
    """One run over all sources.

    Args:
        predictor: loads and predicts.
        output: where the predictions go.
        console: where progress goes.
        batch_size: images at once.
    """

    def __init__(self, predictor: Predictor, output: Output, console: Console, batch_size: int):
        self.predictor, self.output, self.console, self.batch_size = predictor, output, console, batch_size
        self.failures: list[str] = []
        self.done = 0
        self.sources: dict[Source, int] = {}  # frames, 1 of an image
        self.seconds = 0.0

    def over(self, sources: Sequence[Source], videos: dict[Source, Video], header: dict[str, Any]) -> bool:
        """Predict all of them, and write the results of what was done, whatever ends it.

        Returns:
            Whether it was not interrupted.
        """
        complete = False
        try:
            self._predict_all(sources, videos)
            complete = True
        except KeyboardInterrupt:
            self.console.print('interrupted: the results are those of what was done')
        finally:
            try:
                if self.done:
                    self.output.finish(header, complete)
            finally:
                self.output.close()
        return complete

    def _predict_all(self, sources: Sequence[Source], videos: dict[Source, Video]) -> None:
        started = time.monotonic()
        total = sum(videos[source].frames if source.is_video else 1 for source in sources)
        columns = (TextColumn('predict'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        try:
            with Progress(*columns, console=self.console) as progress, interrupts_between_steps() as step:
                bar = progress.add_task('', total=total)
                threads = min(4, os.cpu_count() or 1)
                loaded = ahead(self.predictor.load, self._items(sources, videos), threads)
                for batch in batches(self._readable(loaded), self.batch_size):
                    step()
                    self._predict(batch)
                    progress.update(bar, completed=self.done + len(self.failures))
                progress.update(bar, completed=total)
        finally:
            self.seconds = time.monotonic() - started

    def fail(self, source: Source, reason: str) -> None:
        """Name what cannot be predicted, at once and in the results."""
        self.failures.append(reason)
        self.output.fail(source.path, reason)
        self.console.print(f'failed: {reason}', style='red', soft_wrap=True, highlight=False, markup=False)

    def report(self, model: str, random: bool) -> None:
        """Say what was done, and where it is."""
        speed = f'{self.done / self.seconds:.3g} images/s' if self.seconds else ''
        what = in_a_line(list(self.sources), sum(n for source, n in self.sources.items() if source.is_video))
        self.console.print(
            f'{what} predicted by {model}, {speed}; all of it is in {self.output.folder}',
            soft_wrap=True,
            markup=False,
        )
        if random:
            self.console.print('the weights are random: these predictions mean nothing')
        if self.failures:
            self.console.print(f'{plural(len(self.failures), "failure")}, named above and in results.json')

    def _items(self, sources: Sequence[Source], videos: dict[Source, Video]) -> Iterator[Item]:
        for source in sources:
            if not source.is_video:
                yield Item(source)
                continue
            count = 0
            for count, pixels in enumerate(frames_of(source.path), start=1):
                yield Item(source, count - 1, pixels)
            stated = videos[source].frames
            if count < min(stated - 1, stated * 0.99):  # what some containers state is an estimate
                self.fail(
                    source, f'video {source.path} is cut short: {count} of the {stated} frames that it states'
                )

    def _readable(self, loaded: Iterator[Loaded]) -> Iterator[Loaded]:
        for one in loaded:
            if one.fault is None:
                yield one
            else:
                self.fail(one.item.source, one.fault)

    def _predict(self, batch: Sequence[Loaded]) -> None:
        for one, sample in zip(batch, self.predictor.predict(batch), strict=True):
            words = self.output.add(one.item, one.pixels, sample)
            source = one.item.source
            if len(self.sources) < SHOWN and source not in self.sources:
                first = ', first frame' * source.is_video
                self.console.print(f'{source.path}{first}: {words}', soft_wrap=True, highlight=False, markup=False)
            self.sources[source] = self.sources.get(source, 0) + 1
            self.done += 1
