"""Train several classifiers for the same time, one after another, and read how they converged from their logs.

The question is that of figure 4 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic
Convolutions": which mixer learns faster? Theirs is over epochs of ImageNet; over minutes, a mixer also pays for
what its epochs cost.

Each training is `tools/train.py` as a process of its own. First two epochs are timed; then the cosine is laid over
as many epochs as fill the time. Validation counts in none of the times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from mmengine.registry import MODELS
from rich.console import Console

from ..engine.config import load_config
from ..engine.tool_runs import train_with_progress
from ..errors import UserError

METRIC = 'accuracy/top1'
VALIDATIONS = 12  # over a training, about


@dataclass(frozen=True)
class Run:
    """How a training went.

    Args:
        name: that of its config, without `_cls_mini`.
        asked: minutes that the training was to take.
        minutes: that its steps took, data loading counted, validation not.
        epochs: that it saw.
        images_per_second: in training.
        parameters: of the model, all that are learned.
        losses: by epoch, the mean over it.
        accuracies: top-1 in percent on the held-out images, by epoch, where it was validated.
    """

    name: str
    asked: float
    minutes: float
    epochs: int
    images_per_second: float
    parameters: int
    losses: dict[int, float]
    accuracies: dict[int, float]

    @property
    def loss(self) -> float:
        """Of the last epoch."""
        return self.losses[self.epochs]

    @property
    def accuracy(self) -> float:
        """At the end."""
        return self.accuracies[self.epochs]


def compare(
    root: Path,
    configs: Sequence[Path],
    minutes: float,
    out: Path,
    console: Console,
    options: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Run]:
    """Train each config for so many minutes.

    Args:
        root: the repository.
        configs: files of classifiers, whose length is set by `max_epochs`, as that of those under `configs/mini`.
        minutes: of each training.
        out: where logs and checkpoints go, a folder per config. One that was trained before is not trained again.
        console: where progress goes.
        options: for `--cfg-options` of every training.
        overwrite: train again what was trained before.

    Raises:
        UserError: two configs have one name, a training failed or is no classifier's, or one was trained before
            for another time.
    """
    names = [config.stem.removesuffix('_cls_mini') for config in configs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f'{sorted(twice)[0]} is the name of two configs: give each another file name')
    # before hours of training, not after them
    found = {} if overwrite else {name: _read_earlier(out / name, minutes) for name in names}
    runs = []
    for name, config in zip(names, configs, strict=True):
        run = found.get(name) or _train_for(root, config, name, minutes, out / name, console, options)
        (out / name / 'run.json').write_text(json.dumps(asdict(run), indent=1), encoding='utf-8')
        runs.append(run)
    return runs


def _read_earlier(folder: Path, minutes: float) -> Run | None:
    """A finished run of an earlier call, if there is one."""
    file = folder / 'run.json'
    if not file.is_file():
        return None
    values = json.loads(file.read_text(encoding='utf-8'))
    by_epoch = {key: {int(k): v for k, v in values[key].items()} for key in ('losses', 'accuracies')}
    run = Run(**{**values, **by_epoch})
    if run.asked != minutes:
        raise UserError(
            f'{folder} holds a training of {run.asked:g} minutes, and {minutes:g} are asked for: give another '
            '--out, or --overwrite'
        )
    return run


def _train_for(
    root: Path, config: Path, name: str, minutes: float, folder: Path, console: Console, options: Sequence[str]
) -> Run:
    """Time two epochs, then train for as many as fill the minutes."""
    trial = ['max_epochs=2', 'default_hooks.logger.interval=10', 'default_hooks.logger.ignore_last=False']
    timed = _train(root, config, 2, folder / 'timing', f'time {name}', console, [*options, *trial])
    steps = [entry for entry in timed if 'loss' in entry]
    iterations = steps[-1]['iter'] // 2
    # the first epoch has the start of everything in it
    seconds = iterations * fmean(entry['time'] for entry in steps if entry['epoch'] == 2)
    epochs = max(round(60 * minutes / seconds), 1)
    whole = [f'max_epochs={epochs}', f'train_cfg.val_interval={-(-epochs // VALIDATIONS)}']
    # one entry per epoch, of means over all of its steps
    whole += [f'default_hooks.logger.interval={iterations}', f'log_processor.window_size={iterations}']
    whole += [f'default_hooks.checkpoint.interval={epochs}']
    entries = _train(root, config, epochs, folder / 'training', f'train {name}', console, [*options, *whole])
    return _as_run(entries, name, minutes, iterations, folder / 'training' / config.name)


def _as_run(entries: list[dict], name: str, asked: float, iterations: int, trained: Path) -> Run:
    """Put what was logged together.

    Args:
        entries: of the log.
        name: of the run.
        asked: minutes.
        iterations: of an epoch.
        trained: the config as it was trained, which mmengine leaves in the work directory.
    """
    steps = [entry for entry in entries if 'loss' in entry]
    accuracies = {entry['step']: entry[METRIC] for entry in entries if METRIC in entry}
    if not accuracies:
        raise UserError(f'{trained.name} logs no {METRIC}: expected the config of a classifier')
    seconds = iterations * sum(entry['time'] for entry in steps)
    cfg = load_config(str(trained))
    model = MODELS.build(cfg.model)
    return Run(
        name=name,
        asked=asked,
        minutes=seconds / 60,
        epochs=steps[-1]['epoch'],
        images_per_second=len(steps) * iterations * cfg.train_dataloader.batch_size / seconds,
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        losses={entry['epoch']: entry['loss'] for entry in steps},
        accuracies=accuracies,
    )


def _train(
    root: Path,
    config: Path,
    epochs: int,
    folder: Path,
    title: str,
    console: Console,
    options: Sequence[str],
) -> list[dict]:
    """Train into a folder of its own and return the entries of mmengine's log."""
    before = set(folder.glob('*/vis_data/scalars.json'))
    arguments = [str(config), '--work-dir', str(folder), *(['--no-validate'] if folder.name == 'timing' else [])]
    arguments += ['--cfg-options', *options]
    train_with_progress(root, arguments, epochs, folder.with_suffix('.log'), title, console)
    (log,) = set(folder.glob('*/vis_data/scalars.json')) - before
    return [json.loads(line) for line in log.read_text(encoding='utf-8').splitlines()]
