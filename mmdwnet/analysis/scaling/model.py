"""A prediction of the time of a data-parallel training step on n GPUs, from a step on one.

    step = max(compute + gradients not hidden + SyncBN + sharding, loading)

Gradients go in buckets, as in torch's DistributedDataParallel: one after the other, each once it is complete.
Backward is taken to fill them at an even pace; that is late for a pyramid, whose last stages have most of the
parameters and come first.

An all-reduce of s bytes among n takes 2 (n - 1) / n s / bandwidth and a latency for every hop, along a ring or a
tree, whichever is faster. The hops are counted as in NCCL's own estimate (NVIDIA/nccl at 01afd20,
src/graph/tuning.cc).

Not in it: processes that wait for a slower one, networks shared with other jobs, the memory bandwidth and the
multiprocessors that communication takes from computing, checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FLOAT = 4  # bytes; gradients are float32 under mixed precision too, for the weights are


@dataclass(frozen=True)
class Link:
    """A connection: bytes per second of a large message, and the seconds of a hop, which every message pays."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs.

    Args:
        gpus_per_node: GPUs in a node.
        within: between two GPUs of a node.
        between: between two nodes, all cables of a node together.
    """

    gpus_per_node: int
    within: Link
    between: Link

    def nodes(self, gpus: int) -> int:
        """How many nodes so many GPUs take."""
        return math.ceil(gpus / self.gpus_per_node)

    def all_reduce(self, size: float, gpus: int) -> float:
        """Seconds of the sum of `size` bytes over all GPUs, each of which gets it."""
        if gpus == 1:
            return 0.0
        nodes, bandwidth = self.nodes(gpus), self._bandwidth(gpus)
        ring = 2 * (gpus - 1) / gpus * size / bandwidth + 2 * self._ring_latency(gpus)
        chain = min(gpus, self.gpus_per_node) - 1
        hops = chain * self.within.latency + math.ceil(math.log2(nodes)) * self.between.latency
        return min(ring, 2 * size / bandwidth + 2 * hops)

    def all_gather(self, size: float, gpus: int) -> float:
        """Seconds until every GPU has the `size` bytes of each GPU: along a ring."""
        return (gpus - 1) * size / self._bandwidth(gpus) + self._ring_latency(gpus)

    def _bandwidth(self, gpus: int) -> float:
        alone = gpus <= self.gpus_per_node
        return self.within.bandwidth if alone else min(self.within.bandwidth, self.between.bandwidth)

    def _ring_latency(self, gpus: int) -> float:
        nodes = self.nodes(gpus)
        return (gpus - nodes) * self.within.latency + (nodes - 1) * self.between.latency


@dataclass(frozen=True)
class Training:
    """A training step of one GPU.

    Args:
        step_seconds: forward, backward and optimizer of one batch on one GPU, which nothing has to wait for.
        parameters: that are trained.
        batch_size: images of a batch on one GPU.
        sync_bn: channels of every SyncBN layer.
        bucket_bytes: gradients of a message.
        accumulation: batches of an optimizer step.
        sharded: whether the optimizer is (ZeRO stage 1): its processes then send each other new weights.
        backward_share: of a step's time; communication can hide behind it.
        overlap: how much of what could be hidden is hidden, 0 to 1.
        loading_rate: images per second that a GPU's data loader makes; None if it is always fast enough.
    """

    step_seconds: float
    parameters: int
    batch_size: int
    sync_bn: tuple[int, ...] = ()
    bucket_bytes: float = 25 * 2**20
    accumulation: int = 1
    sharded: bool = False
    backward_share: float = 2 / 3
    overlap: float = 1.0
    loading_rate: float | None = None


@dataclass(frozen=True)
class Prediction:
    """Where the seconds of an optimizer step go, predicted.

    Args:
        gpus: in the run.
        nodes: they are in.
        compute: what one GPU by itself takes.
        gradients: their all-reduce, as far as backward does not hide it.
        sync_bn: the messages of SyncBN, for which forward and backward wait.
        sharding: weights that a sharded optimizer sends.
        waiting: for the data loader.
        images: of an optimizer step on all GPUs.
    """

    gpus: int
    nodes: int
    compute: float
    gradients: float
    sync_bn: float
    sharding: float
    waiting: float
    images: int

    @property
    def step(self) -> float:
        """Seconds of an optimizer step."""
        return self.compute + self.gradients + self.sync_bn + self.sharding + self.waiting

    @property
    def efficiency(self) -> float:
        """The speed over that of as many GPUs that wait for nothing."""
        return self.compute / self.step

    @property
    def images_per_second(self) -> float:
        """On all GPUs together."""
        return self.images / self.step


def predict(training: Training, cluster: Cluster, gpus: int) -> Prediction:
    """Predict a step on so many GPUs, each with the batch of one."""
    count = training.accumulation
    compute = count * training.step_seconds
    size = FLOAT * training.parameters
    gradients = not_hidden(training, lambda part: cluster.all_reduce(part, gpus))
    sync_bn = sharding = 0.0
    if gpus > 1:
        # forward gathers mean, deviation and count, backward sums two gradients (torch's SyncBatchNorm)
        layers = (
            cluster.all_gather(FLOAT * (2 * channels + 1), gpus) + cluster.all_reduce(FLOAT * 2 * channels, gpus)
            for channels in training.sync_bn
        )
        sync_bn = count * sum(layers)
        if training.sharded:
            sharding = cluster.all_gather(size / gpus, gpus)
    busy = compute + gradients + sync_bn + sharding
    images = count * training.batch_size
    loading = images / training.loading_rate if training.loading_rate else 0.0
    waiting = max(loading - busy, 0.0)
    nodes = cluster.nodes(gpus)
    return Prediction(gpus, nodes, compute, gradients, sync_bn, sharding, waiting, images * gpus)


def not_hidden(training: Training, all_reduce: Callable[[float], float]) -> float:
    """Seconds that the gradients of a step take after backward has ended.

    Args:
        training: the step.
        all_reduce: seconds of a message of so many bytes.
    """
    backward = training.backward_share * training.step_seconds
    size = FLOAT * training.parameters
    sent = end = total = 0.0
    while sent < size:
        part = min(training.bucket_bytes, size - sent)
        sent += part
        seconds = all_reduce(part)
        total += seconds
        end = max(end, backward * sent / size) + seconds
    exposed = max(end - backward, 0.0)
    return total - training.overlap * (total - exposed)


def powers_of_two(most: int) -> Iterator[int]:
    """1, 2, 4 ... up to a number."""
    return (2**k for k in range(int(math.log2(most)) + 1))
