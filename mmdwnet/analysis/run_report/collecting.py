"""What a run has left in its work directory, also one that died, put together.

A run is one or more sessions, the time-stamped folders that mmengine makes: one for each start of a training, and
one for each test. What a session was killed in the middle of may be half a line; what it had done beyond its last
checkpoint the next one does again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import UserError
from .facts import EVALUATION, FOLDER, is_running, read_facts
from .records import Evaluation

SESSION = re.compile(r'\d{8}_\d{6}$')
# of the scalars that mmengine writes, those that are no loss and no metric
PACE = ('data_time', 'time', 'memory', 'epoch', 'iter', 'step')
ENVIRONMENT = re.compile(r'System environment:\n(.*?)\n\s*\nRuntime environment:\n(.*?)\n-{20,}', re.DOTALL)
RESUMED = re.compile(r'resumed epoch: (\d+), iter: (\d+)')
Scalars = dict[str, float]


@dataclass(frozen=True)
class Session:
    """A start of a training or of a test.

    Args:
        folder: time-stamped.
        facts: what `RunReportHook` wrote; {} where it was not there.
        steps: what was logged of training, by 'step'.
        evaluations: the metrics that were logged, by 'step'.
        broken: lines of the scalars that could not be read.
    """

    folder: Path
    facts: dict[str, Any]
    steps: list[Scalars]
    evaluations: list[Scalars]
    broken: int

    @cached_property
    def log(self) -> str:
        """What mmengine logged."""
        file = self.folder / f'{self.folder.name}.log'
        return file.read_text(encoding='utf-8', errors='replace') if file.is_file() else ''

    @property
    def is_test(self) -> bool:
        if 'phase' in self.facts:
            return self.facts['phase'] == 'test'
        return not self.steps and (self.folder / f'{self.folder.name}.json').is_file()

    @property
    def is_training(self) -> bool:
        return self.facts.get('phase') == 'train' or bool(self.steps)

    @property
    def goes_on(self) -> bool:
        """Whether it took up a training that came before."""
        return bool(self.facts['resumed']) if 'resumed' in self.facts else RESUMED.search(self.log) is not None

    @property
    def ended(self) -> dict[str, Any] | None:
        """How it ended, by itself; None for one that was killed, or goes on, or of which that is not known."""
        return self.facts.get('ended')

    @property
    def state(self) -> str:
        """'finished', 'preempted', 'failed', 'running' or 'died'; 'unknown' without facts."""
        if self.ended:
            return self.ended['how']
        if not self.facts:
            return 'unknown'
        return 'running' if is_running(self.folder / FOLDER) else 'died'

    @property
    def started(self) -> datetime:
        stamp = self.facts.get('started')
        if stamp:
            return datetime.fromisoformat(stamp)
        return datetime.strptime(self.folder.name, '%Y%m%d_%H%M%S').astimezone()

    @property
    def last_sign(self) -> datetime:
        """When it ended, or last wrote anything."""
        if self.ended:
            return datetime.fromisoformat(self.ended['when'])
        times = [path.stat().st_mtime for path in self.folder.rglob('*') if path.is_file()]
        return datetime.fromtimestamp(max(times, default=0), timezone.utc)

    @property
    def first_step(self) -> int:
        """The steps that came before it."""
        found = None if 'first_step' in self.facts else RESUMED.search(self.log)
        return int(found[2]) if found else int(self.facts.get('first_step', 0))

    @property
    def last_step(self) -> int:
        """How far it is known to have come."""
        logged = [int(line['step']) for line in self.steps]
        return max([*logged, int((self.ended or {}).get('step', 0)), self.first_step])

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What is kept of its last evaluation."""
        try:
            return Evaluation.load(self.folder / FOLDER / EVALUATION)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def environment(self) -> list[tuple[str, str]]:
        """mmengine's collection, from the log."""
        found = ENVIRONMENT.search(self.log)
        lines = '\n'.join(found.groups()).splitlines() if found else ()
        pairs = (line.strip().partition(': ') for line in lines)
        return [(name, value.strip()) for name, _, value in pairs if value]

    @property
    def config_text(self) -> str:
        """The config as it ran."""
        file = self.folder / 'vis_data' / 'config.py'
        return file.read_text(encoding='utf-8', errors='replace') if file.is_file() else ''


@dataclass(frozen=True)
class Run:
    """The last training of a work directory, with the tests that came after it, or tests alone.

    Args:
        folder: the work directory.
        sessions: of the training, the first first.
        tests: of its checkpoints.
        earlier: how many sessions of earlier trainings the directory holds.
    """

    folder: Path
    sessions: list[Session]
    tests: list[Session]
    earlier: int
    notes: list[str] = field(default_factory=list)

    @property
    def last(self) -> Session:
        """The session that tells most of the run: the last of its training, else the last test."""
        return (self.sessions or self.tests)[-1]

    @property
    def name(self) -> str:
        config = self.last.facts.get('config')
        if config:
            return Path(config).stem
        scripts = sorted(self.folder.glob('*.py'))
        return scripts[0].stem if len(scripts) == 1 else self.folder.resolve().name

    @property
    def facts(self) -> dict[str, Any]:
        return self.last.facts

    @property
    def task(self) -> str | None:
        return self.facts.get('task') or next((e.facts['task'] for e in [self.evaluation] if e), None)

    @property
    def by_epoch(self) -> bool:
        if 'by_epoch' in self.facts:
            return bool(self.facts['by_epoch'])
        return re.search(r'Epoch\(train\)', self.last.log) is not None

    @cached_property
    def steps_per_epoch(self) -> int | None:
        if self.facts.get('steps_per_epoch'):
            return int(self.facts['steps_per_epoch'])
        found = re.search(r'Epoch\(train\)\s+\[\d+\]\[\s*\d+/(\d+)\]', self.last.log)
        return int(found[1]) if found else None

    @cached_property
    def steps(self) -> list[Scalars]:
        """What was logged of training; of what was done twice, the last."""
        merged: list[Scalars] = []
        for session in self.sessions:
            merged = [line for line in merged if line['step'] <= session.first_step] + session.steps
        return merged

    @cached_property
    def evaluations(self) -> list[Scalars]:
        """The metrics of every validation, of one done twice the last; 'step' counts epochs or iterations."""
        found: dict[int, Scalars] = {}
        for session in self.sessions:
            kept = {step: line for step, line in found.items() if step <= self.x_of(session.first_step)}
            found = kept | {int(line['step']): line for line in session.evaluations}
        return [found[step] for step in sorted(found)]

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What is kept of the last evaluation, of a test rather than of the training; none that a resume undid."""
        for session in reversed(self.tests):
            if session.evaluation is not None:
                return session.evaluation
        taken_up = float('inf')  # the step that later sessions went on from
        for session in reversed(self.sessions):
            found = session.evaluation
            if found is not None and found.facts.get('step', 0) <= taken_up:
                return found
            taken_up = min(taken_up, session.first_step)
        return None

    @property
    def test_metrics(self) -> Scalars:
        """What the last test measured."""
        for session in reversed(self.tests):
            if session.evaluations:
                return {k: v for k, v in session.evaluations[-1].items() if k not in PACE}
        return {}

    def x_of(self, step: float) -> float:
        """Where a step stands on the axis of curves: in epochs where the run counts them."""
        return step / self.steps_per_epoch if self.by_epoch and self.steps_per_epoch else step

    @property
    def unit(self) -> str:
        return 'epoch' if self.by_epoch and self.steps_per_epoch else 'iteration'

    @property
    def images_per_step(self) -> int | None:
        batch, processes = self.facts.get('batch_size'), self.facts.get('processes')
        return batch * processes if batch and processes else None

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoint files of the directory, the newest last."""
        return sorted(self.folder.glob('*.pth'), key=lambda path: path.stat().st_mtime_ns)


def collect(folder: Path) -> Run:
    """Put together what a run has left.

    Args:
        folder: its work directory, or one of its time-stamped folders.

    Raises:
        UserError: nothing there looks like a run.
    """
    if not folder.exists():
        raise UserError(f'{folder} not found: expected the work directory of a training or test')
    if not folder.is_dir():
        raise UserError(f'{folder} is a file: expected the work directory of a training or test')
    alone = SESSION.match(folder.resolve().name) is not None
    folders = [folder] if alone else sorted(path for path in folder.iterdir() if SESSION.match(path.name))
    sessions = [session for session in map(_read, folders) if session.is_training or session.is_test]
    if not sessions:
        if folders:
            raise UserError(f'{folder}: its sessions ended before a first step was logged; see their .log files')
        raise UserError(
            f'{folder} is no work directory of a run: expected a folder such as 20250131_235959 in it, which '
            'tools/train.py and tools/test.py make'
        )
    starts = [i for i, session in enumerate(sessions) if session.is_training and not session.goes_on]
    begin = starts[-1] if starts else 0
    own = sessions[begin:]
    earlier = sum(session.is_training for session in sessions[:begin])
    run = Run(
        folder.parent if alone else folder,
        [session for session in own if session.is_training],
        [session for session in own if session.is_test],
        earlier,
    )
    broken = sum(session.broken for session in own)
    if broken:
        run.notes.append(f'Lines of the scalars that could not be read and are left out: {broken}.')
    return run


def _read(folder: Path) -> Session:
    steps, evaluations, broken = [], [], 0
    for line in _lines(folder / 'vis_data' / 'scalars.json'):
        if line is None:
            broken += 1
        elif 'lr' in line or 'loss' in line:
            steps.append(line)
        else:
            evaluations.append(line)
    facts = read_facts(folder / FOLDER)
    for line in _lines(folder / f'{folder.name}.json'):  # of a test
        if line:
            evaluations.append(dict(line, step=0))
    return Session(folder, facts, steps, evaluations, broken)


def _lines(file: Path) -> Iterator[Scalars | None]:
    """The numbers of each line of a file of JSON objects; None for a line that is none."""
    if not file.is_file():
        return
    for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            yield None
            continue
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        yield {'step': 0.0, **numbers}
