"""Measure training steps on 1, 2 and 4 processes of this machine, and hold the model to them.

Processes on one machine share its cores. More of them than cores make all work longer by their ratio: computing,
and gloo's messages, which processors copy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .model import FLOAT, Cluster, Link, Training, not_hidden
from .worker import ALONE, DEFAULT, MARK, Plan


@dataclass(frozen=True)
class Measured:
    """What was measured on so many processes.

    Args:
        ranks: processes.
        all_reduce: seconds by bytes.
        steps: seconds of a step on one batch, by net and setting.
        parameters: of each net.
    """

    ranks: int
    all_reduce: dict[int, float]
    steps: dict[str, dict[str, float]]
    parameters: dict[str, int]

    @property
    def link(self) -> Link:
        """The latency and the bandwidth of the all-reduce, by relative least squares."""
        sizes, seconds = (np.array(list(values), float) for values in zip(*self.all_reduce.items(), strict=True))
        hops, part = 2 * (self.ranks - 1), 2 * (self.ranks - 1) / self.ranks
        terms = np.stack([np.full_like(sizes, hops), part * sizes], 1)  # (sizes, 2)
        latency, inverse = np.linalg.lstsq(terms / seconds[:, None], np.ones_like(seconds), rcond=None)[0]
        return Link(float(1 / inverse), float(max(latency, 0.0)))


@dataclass(frozen=True)
class Check:
    """A step on the most processes as the model has it, from fewer, and as it was measured.

    Args:
        net: which one.
        ranks: processes.
        overlap: how much of the communication was hidden, of what could be, on two processes.
        predicted: seconds of a step.
        measured: seconds of a step.
    """

    net: str
    ranks: int
    overlap: float
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of what was measured."""
        return self.predicted / self.measured - 1


def measure(plan: Plan, counts: Sequence[int] = (1, 2, 4)) -> Iterator[Measured]:
    """Measure on each of these numbers of processes, one after the other.

    Raises:
        UserError: the processes failed.
    """
    for ranks in counts:
        yield _measure(plan, ranks)


def _measure(plan: Plan, ranks: int) -> Measured:
    command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--nproc_per_node', str(ranks)]
    # port 0: torchrun chooses a free one
    command += ['--rdzv_backend', 'c10d', '--rdzv_endpoint', 'localhost:0', '-m', f'{__package__}.worker']
    environment = {**os.environ, 'OMP_NUM_THREADS': str(plan.threads)}
    done = subprocess.run([*command, plan.to_json()], capture_output=True, text=True, env=environment)
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        error = re.search(r'\w+Error: .*', done.stderr)
        reason = error[0][:300] if error else f'exit status {done.returncode}, without a message'
        raise UserError(f'measuring on {ranks} processes failed: {reason}')
    data = json.loads(found[0].removeprefix(MARK))
    data['all_reduce'] = {int(size): seconds for size, seconds in data['all_reduce'].items()}
    return Measured(**data)


def check(one: Measured, two: Measured, more: Measured, net: str, cores: int) -> Check:
    """Predict the step of `more` from the computing of one process and the messages of two.

    Args:
        one: on one process.
        two: on two.
        more: on more than two.
        net: of those measured.
        cores: that the processes share.
    """
    link = two.link
    # only its bandwidth and latency matter: all processes are in one node
    here = Cluster(more.ranks, link, link)

    def training(overlap: float) -> Training:
        return Training(one.steps[net][ALONE], two.parameters[net], 1, overlap=overlap)

    def exposed(ranks: int, overlap: float) -> float:
        return not_hidden(training(overlap), lambda size: here.all_reduce(size, ranks))

    most, least = exposed(two.ranks, 0), exposed(two.ranks, 1)
    seen = two.steps[net][DEFAULT] - two.steps[net][ALONE]
    overlap = min(max((most - seen) / (most - least), 0.0), 1.0) if most > least else 1.0
    slower = max(more.ranks / cores, 1.0)
    predicted = slower * (one.steps[net][ALONE] + exposed(more.ranks, overlap))
    return Check(net, more.ranks, overlap, predicted, more.steps[net][DEFAULT])


def bytes_of(measured: Measured, net: str) -> int:
    """Bytes of the gradients of a net."""
    return FLOAT * measured.parameters[net]
