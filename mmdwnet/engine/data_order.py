"""The order of the data and the randomness of every sample, as functions of the seed: a run can go on anywhere.

A sampler draws the same indices again when its seed and epoch are the same. What stock runs lose in a resume is
how far they had come, and the random state of every loader process. Here each drawn index carries its place in the
run, the loader's processes seed themselves with it before they load that sample, and a batch sampler drops the
batches that the run has seen. Nothing of it has to be saved, and how many processes load, or train, makes no
difference to what a sample looks like.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from torch.utils.data import BatchSampler, Dataset, Sampler

from ..registry import DATA_SAMPLERS
from .sample_checks import BadSample, LoadingStopped

TRIES = 100  # samples drawn in the place of a bad one

# samplers of mmengine and mmdet that go on for ever; trying it out would use their indices up
ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')


class Draw(int):
    """An index of a dataset, with its place in the run.

    Args:
        index: of the sample.
        place: numbers that say where in the run it was drawn, such as seed, epoch and position in the epoch.
    """

    place: tuple[int, ...]

    def __new__(cls, index: int, place: tuple[int, ...] = ()) -> Draw:
        draw = super().__new__(cls, index)
        draw.place = place
        return draw


@DATA_SAMPLERS.register_module()
class PlacedSampler(Sampler):
    """A sampler whose indices know their place: seed, epoch, and position among the draws of all processes.

    Args:
        sampler: config of the sampler proper.
        dataset: the dataset.
        seed: of the run, which mmengine shares among the processes.
    """

    def __init__(self, sampler: dict, dataset: Dataset, seed: int | None = None):
        self._cfg = sampler
        self.dataset = dataset  # batch samplers look into it
        self.seed = seed or 0
        self.epoch = 0
        self._build()

    def _build(self) -> None:
        default = dict(dataset=self.dataset, seed=self.seed)
        self.inner = MMENGINE_DATA_SAMPLERS.build(self._cfg, default_args=default)

    def __iter__(self) -> Iterator[Draw]:
        if not self.ends():
            self._build()  # its indices are one generator, which an earlier pass has used or closed
        rank, world_size = get_dist_info()
        for position, index in enumerate(self.inner):
            yield Draw(index, (self.seed, self.epoch, position * world_size + rank))

    def __len__(self) -> int:
        return len(self.inner)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is drawn next."""
        self.epoch = epoch
        if hasattr(self.inner, 'set_epoch'):
            self.inner.set_epoch(epoch)

    def set_seed(self, seed: int) -> None:
        """Take the seed of the run: where ranks seed differently, mmengine draws one for samplers every start."""
        self.seed = self.inner.seed = seed

    def ends(self) -> bool:
        """Whether a pass ends, as that of a sampler made for epochs, or goes on for ever."""
        return not any(kind.__name__ in ENDLESS for kind in type(self.inner).__mro__)


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """A batch sampler that can begin in the middle.

    Args:
        sampler: of the indices.
        batch_size: images of a batch.
        drop_last: drop a last batch that is not full.
        batch_sampler: config of another kind of batch sampler; None for plain batches.
    """

    def __init__(
        self, sampler: Sampler, batch_size: int, drop_last: bool = False, batch_sampler: dict | None = None
    ):
        super().__init__(sampler, batch_size, drop_last)
        if batch_sampler is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            default = dict(sampler=sampler, batch_size=batch_size)
            self.inner = MMENGINE_DATA_SAMPLERS.build(batch_sampler, default_args=default)
        self._seen = 0

    def skip(self, batches: int) -> None:
        """Leave out that many batches of the next pass, and of that one only."""
        self._seen = batches

    def __iter__(self) -> Iterator[list[int]]:
        seen, self._seen = self._seen, 0
        for number, batch in enumerate(self.inner):
            if number >= seen:
                yield batch

    def __len__(self) -> int:
        return len(self.inner)


def seed_samples(dataset: Dataset) -> None:
    """Let a dataset seed the random number generators of its process with the place of a `Draw` before it loads.

    In place, for loops, hooks and samplers hold on to the dataset: its class becomes a subclass. In the place of a
    `BadSample` another is drawn, and the bad one added to the dataset's `bad_samples` (`bad_samples.py`).
    """
    kind = type(dataset)
    if not getattr(kind, 'seeds_samples', False):
        methods = dict(seeds_samples=True, __getitem__=_seeded_item, __reduce_ex__=_pickled)
        dataset.__class__ = type(kind.__name__, (kind,), methods)


def _seeded_item(dataset: Dataset, index: Any) -> Any:
    load = type(dataset).__base__.__getitem__
    if not isinstance(index, Draw):
        return load(dataset, index)
    seed_all(*index.place)
    chosen = int(index)
    for attempt in range(1, TRIES + 1):
        try:
            return load(dataset, chosen)
        except BadSample as bad:
            fault = bad.fault
        dataset.bad_samples.add(fault)
        seed_all(*index.place, attempt)
        chosen = random.randrange(len(dataset))
    raise LoadingStopped(
        f'{TRIES} samples in a row cannot be loaded, at last: {fault.reason}; is all the data there? '
        f'{dataset.bad_samples.path} lists them all'
    )


def _pickled(dataset: Dataset, protocol: int) -> tuple:
    return _unpickled, (
        type(dataset).__base__,
        dataset.__dict__,
    )  # the subclass has no name that pickle could import


def _unpickled(kind: type, state: dict) -> Dataset:
    dataset = kind.__new__(kind)
    dataset.__dict__.update(state)
    seed_samples(dataset)
    return dataset


def seed_all(*numbers: int) -> None:
    """Seed Python's, numpy's and torch's generators of this process with numbers, which are mixed well."""
    first, second, third = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(first))
    np.random.seed(int(second))
    torch.manual_seed(int(third))
