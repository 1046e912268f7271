"""Named sets of measurements, each one call of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ...errors import UserError
from .cases import CUDA_GRAPH, Case, check_device
from .demands import BFLOAT16, FLOAT32, Demand, cpu_demands, gpu_demands
from .nets import find_nets
from .op_cases import (
    AS_PUBLISHED,
    CONV2D,
    OP_TASKS,
    OPS,
    UNFUSED,
    UNFUSED_BY_GROUP,
    OpCase,
    impls_of,
    stage_shapes,
)
from .running import LATENCY, MEMORY, SCALING, SPEED, Group
from .running import OPS as OPS_KIND

BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (224, 320, 448, 640, 768, 1024)
DEPLOYED = ('dwnet-tiny-deployed', 'dynamic-dwnet-tiny-deployed', 'idynamic-dwnet-tiny-deployed')
TRAINED = ('dwnet-tiny', 'dynamic-dwnet-tiny', 'idynamic-dwnet-tiny')
PUBLISHED = ('as-published-dwnet-tiny', 'as-published-dynamic-dwnet-tiny')
FIRST = ('first-published-dwnet-tiny', 'first-published-dynamic-dwnet-tiny')
UNFOLD = 'as-published-idynamic-dwnet-tiny'
PEERS = ('mmpretrain-swin-tiny', 'mmpretrain-convnext-tiny', 'timm-swin-tiny', 'timm-convnext-tiny')
SWINS = ('mmpretrain-swin-tiny', 'timm-swin-tiny')
GPU_IMPLS = ('triton', CONV2D, UNFUSED, UNFUSED_BY_GROUP, AS_PUBLISHED)  # the others are for CPUs, or oracles


@dataclass(frozen=True)
class Suite:
    """Groups to measure on a device, and what is demanded of them."""

    name: str
    device: str
    groups: tuple[Group, ...]
    demands: tuple[Demand, ...] = ()


def nets_at(nets: Iterable[str], precisions: Iterable[str], **options) -> tuple[Case, ...]:
    """Return a case for every net and precision; `options` are fields of `Case`."""
    return tuple(Case(net, precision=precision, **options) for precision, net in product(precisions, nets))


def ops_at(
    precisions: Sequence[str],
    task: str,
    arch: str,
    batch: int,
    device: str,
    layouts: Sequence[str] = ('channels_last',),
    compile: Sequence[str] = ('none',),
    ops: Sequence[str] = OPS,
) -> tuple[OpCase, ...]:
    """Return a case for every op, implementation and stage; the published forms are in contiguous memory."""
    cases = (
        OpCase(op, impl, *shape, task, precision, layout, mode, batch, device)
        for precision, op, shape, layout, mode in product(precisions, ops, stage_shapes(arch), layouts, compile)
        for impl in impls_of(op, device)
    )
    cases = (replace(case, layout='contiguous') if case.impl == AS_PUBLISHED else case for case in cases)
    return tuple(dict.fromkeys(cases))  # once each


def op_precisions(precisions: Iterable[str]) -> list[str]:
    """Return the dtypes that ops get in the precisions of nets."""
    return list(dict.fromkeys(precision.removesuffix('-autocast') for precision in precisions))


def scaling_group(growing: str, nets: Iterable[str], precisions: Iterable[str], device: str) -> Group:
    """Return inference over growing batches at 224 ('batch'), or over growing images at batch 1 ('size')."""
    values = BATCHES if growing == 'batch' else SIDES
    fixed = dict(size=224) if growing == 'batch' else dict(batch=1)
    cases = tuple(
        Case(net, precision=precision, device=device, **fixed, **{growing: value})
        for precision, net, value in product(precisions, nets, values)
    )
    return Group(f'scaling with {growing}', SCALING, cases)


def _channels_last(cases: Sequence[Case], *nets: str) -> tuple[Case, ...]:
    return tuple(replace(case, layout='channels_last') for case in cases if case.net in nets)


def quick(device: str) -> Suite:
    """A look at the three mixers and their baselines, in about a minute."""
    nets = (*DEPLOYED, PUBLISHED[0], 'mmpretrain-swin-tiny', 'timm-convnext-tiny')
    cases = nets_at(nets, (FLOAT32, BFLOAT16), batch=2, device=device)
    return Suite('quick', device, (Group('inference', SPEED, cases),))


def must_show() -> Suite:
    """What issue 4 demands of the CPU, items 1 to 6."""
    both = (FLOAT32, BFLOAT16)
    inference = nets_at((*DEPLOYED, *TRAINED, *PUBLISHED, *FIRST, UNFOLD, *PEERS), both)
    inference += _channels_last(inference, 'timm-convnext-tiny')
    inference += nets_at(DEPLOYED, both, compile='frozen')
    training = nets_at((*TRAINED, *PUBLISHED, *FIRST, *PEERS), both, task='training')
    training += _channels_last(training, 'timm-convnext-tiny')
    memory = nets_at((TRAINED[2], UNFOLD), (FLOAT32,), task='training', batch=32)
    scaling = [scaling_group(growing, DEPLOYED, (FLOAT32,), 'cpu') for growing in ('batch', 'size')]
    groups = (
        Group('inference', SPEED, inference),
        Group('training', SPEED, training),
        Group('memory of training', MEMORY, memory, UNFOLD),
        *scaling,
    )
    return Suite('must-show', 'cpu', groups, tuple(cpu_demands({group.name: group.cases for group in groups})))


def gpu() -> Suite:
    """What issue 4 demands of a GPU: bfloat16, batch 128; ours and those they must beat also as CUDA graphs."""
    at = dict(precisions=(BFLOAT16,), batch=128, device='cuda')
    inference = nets_at((*DEPLOYED, *TRAINED, *PUBLISHED, *FIRST, UNFOLD, *PEERS), **at)
    inference += _channels_last(inference, 'timm-convnext-tiny', 'mmpretrain-convnext-tiny')
    inference += nets_at((*SWINS, *DEPLOYED), compile=CUDA_GRAPH, **at)
    training = nets_at((*TRAINED, *PUBLISHED, *FIRST, *PEERS), task='training', **at)
    training += _channels_last(training, 'timm-convnext-tiny', 'mmpretrain-convnext-tiny')
    training += nets_at((*SWINS, *TRAINED), task='training', compile=CUDA_GRAPH, **at)
    latency = nets_at((*DEPLOYED, *PUBLISHED, UNFOLD, *PEERS), **{**at, 'batch': 1})
    memory = nets_at((*TRAINED, *PUBLISHED, *PEERS), task='training', **at)
    ops = tuple(case for task in OP_TASKS for case in ops_at(('bfloat16',), task, 'tiny', 128, 'cuda'))
    ops = tuple(case for case in ops if case.impl in GPU_IMPLS)
    groups = (
        Group('inference', SPEED, inference),
        Group('training', SPEED, training),
        Group('latency', LATENCY, latency),
        Group('memory of training', MEMORY, memory),
        *(Group(f'ops {task}', OPS_KIND, tuple(c for c in ops if c.task == task)) for task in OP_TASKS),
    )
    return Suite('gpu', 'cuda', groups, tuple(gpu_demands({group.name: group.cases for group in groups})))


def full(device: str) -> Suite:
    """Everything: tiny and base, in float32 and bfloat16, speed, latency, memory and ops."""
    both, batch = (FLOAT32, BFLOAT16), 8 if device == 'cpu' else 128
    nets = find_nets(['*-tiny', '*-tiny-deployed', '*-base', '*-base-deployed'])
    trained = [net for net in nets if not net.endswith('-deployed')]
    at = dict(device=device, batch=batch)
    groups = [
        Group('inference', SPEED, nets_at(nets, both, **at)),
        Group('training', SPEED, nets_at(trained, both, task='training', **at)),
        Group('latency', LATENCY, nets_at(nets, both, device=device, batch=1)),
        Group('memory of inference', MEMORY, nets_at(nets, both, **at)),
        Group('memory of training', MEMORY, nets_at(trained, both, task='training', **at)),
    ]
    for task in OP_TASKS:
        groups.append(Group(f'ops {task}', OPS_KIND, ops_at(op_precisions(both), task, 'tiny', batch, device)))
    return Suite('full', device, tuple(groups))


def make_suite(name: str, device: str | None) -> Suite:
    """Return a suite by name.

    Args:
        name: 'quick', 'must-show', 'gpu' or 'full'.
        device: 'cpu' or 'cuda', None for the suite's own, which is a GPU where there is one.

    Raises:
        UserError: the suite runs on another device, or there is no GPU.
    """
    import torch

    own = {'must-show': 'cpu', 'gpu': 'cuda'}.get(name)
    if own and device not in (None, own):
        raise UserError(f'--suite {name} measures on {own}: expected no --device, or --device {own}')
    device = own or device or ('cuda' if torch.cuda.is_available() else 'cpu')
    check_device(device, FLOAT32)
    makers = {'quick': lambda: quick(device), 'must-show': must_show, 'gpu': gpu, 'full': lambda: full(device)}
    return makers[name]()


SUITES = ('quick', 'must-show', 'gpu', 'full')
