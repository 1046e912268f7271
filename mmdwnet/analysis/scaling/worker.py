"""One process of a measurement: the all-reduce by size, and training steps with every setting, in turn.

Started by `measuring.py` under torchrun, with a `Plan` as JSON; the first process prints what was measured.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch
import torch.distributed as torch_dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from ...backbones import DWNet
from .model import FLOAT

MARK = '@measured '
ACCUMULATED = 4
DEFAULT, ALONE = 'default', 'without communication'
ACCUMULATION, SHARDED = f'accumulation of {ACCUMULATED}', 'sharded AdamW'
# arguments of DistributedDataParallel
WRAPPERS: dict[str, dict[str, Any]] = {
    DEFAULT: dict(),
    'bucket_cap_mb=1': dict(bucket_cap_mb=1),
    'bucket_cap_mb=100': dict(bucket_cap_mb=100),
    'gradient_as_bucket_view': dict(gradient_as_bucket_view=True),
    'static_graph': dict(static_graph=True),
}
SETTINGS = (ALONE, *WRAPPERS, ACCUMULATION, SHARDED)


@dataclass(frozen=True)
class Net:
    """A classifier to train.

    Args:
        arch: of DWNet.
        size: side of the images.
        batch_size: images of a batch on one process.
        settings: of `SETTINGS`.
    """

    arch: str
    size: int
    batch_size: int
    settings: tuple[str, ...] = SETTINGS


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        nets: whose training steps are timed.
        sizes: bytes of the all-reduces.
        rounds: samples of each thing, taken in turn; medians are reported.
        threads: of a process.
    """

    nets: tuple[Net, ...] = (Net('nano', 96, 16), Net('tiny', 64, 4, (ALONE, DEFAULT, ACCUMULATION)))
    sizes: tuple[int, ...] = tuple(4 << shift for shift in (0, 8, 12, 16, 18, 20, 22, 24))
    rounds: int = 9
    threads: int = 1
    classes: int = field(default=1000)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data = json.loads(text)
        nets = tuple(Net(**{**net, 'settings': tuple(net['settings'])}) for net in data.pop('nets'))
        return cls(nets=nets, sizes=tuple(data.pop('sizes')), **data)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Classifier(nn.Module):
    """A DWNet, the mean over its map, and a linear layer."""

    def __init__(self, arch: str, classes: int):
        super().__init__()
        self.backbone = DWNet(arch)
        self.head = nn.Linear(self.backbone.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def all_reduces(plan: Plan) -> dict[int, float]:
    """Seconds of an all-reduce, by its bytes."""
    found: dict[int, list[float]] = {size: [] for size in plan.sizes}
    for round_ in range(plan.rounds + 1):  # the first one connects
        for size in plan.sizes:
            values = torch.zeros(size // FLOAT)
            calls = max(1, min(50, 2**20 // size))
            torch_dist.barrier()
            start = time.perf_counter()
            for _ in range(calls):
                torch_dist.all_reduce(values)
            if round_:
                found[size].append((time.perf_counter() - start) / calls)
    return {size: median(seconds) for size, seconds in found.items()}


def steps_of(plan: Plan, net: Net) -> dict[str, float]:
    """Seconds of a training step of one batch, by setting."""
    runs = _runs(plan, net)
    found: dict[str, list[float]] = {setting: [] for setting in runs}
    for round_ in range(plan.rounds + 2):  # DDP makes its buckets anew after the first step
        for setting, (run, batches) in runs.items():
            torch_dist.barrier()
            start = time.perf_counter()
            run()
            torch_dist.barrier()
            if round_ > 1:
                found[setting].append((time.perf_counter() - start) / batches)
    return {setting: median(seconds) for setting, seconds in found.items()}


def _runs(plan: Plan, net: Net) -> dict[str, tuple[Callable[[], object], int]]:
    """What to call for each setting, and how many batches it trains on."""
    images = torch.rand(net.batch_size, 3, net.size, net.size)
    labels = torch.randint(plan.classes, (net.batch_size,))

    def make(wrapper: dict[str, Any], sharded: bool = False) -> Callable[..., None]:
        model = DistributedDataParallel(Classifier(net.arch, plan.classes), **wrapper)
        parameters = list(model.parameters())
        optimizer = ZeroRedundancyOptimizer(parameters, AdamW) if sharded else AdamW(parameters)

        def step(batches: int = 1, alone: bool = False) -> None:
            for number in range(batches):
                last = number == batches - 1 and not alone
                with contextlib.nullcontext() if last else model.no_sync():
                    F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    runs: dict[str, tuple[Callable[[], object], int]] = {}
    plain = make({})
    for setting in net.settings:
        if setting == ALONE:
            runs[setting] = (lambda: plain(alone=True)), 1
        elif setting == ACCUMULATION:
            runs[setting] = (lambda: plain(ACCUMULATED)), ACCUMULATED
        elif setting == SHARDED:
            runs[setting] = make({}, sharded=True), 1
        else:
            runs[setting] = (plain if setting == DEFAULT else make(WRAPPERS[setting])), 1
    return runs


def main() -> None:
    plan = Plan.from_json(sys.argv[1])
    torch.set_num_threads(plan.threads)
    torch.manual_seed(0)
    torch_dist.init_process_group('gloo')
    ranks = torch_dist.get_world_size()
    result: dict[str, Any] = dict(ranks=ranks, all_reduce={}, steps={}, parameters={})
    if ranks > 1:
        result['all_reduce'] = all_reduces(plan)
    for net in plan.nets:
        result['steps'][net.arch] = steps_of(plan, net)
        model = Classifier(net.arch, plan.classes)
        result['parameters'][net.arch] = sum(parameter.numel() for parameter in model.parameters())
    if torch_dist.get_rank() == 0:
        print(MARK + json.dumps(result), flush=True)
    torch_dist.barrier()
    gc.collect()  # the models, and with them their hold on the group's threads
    torch_dist.destroy_process_group()


if __name__ == '__main__':
    main()
