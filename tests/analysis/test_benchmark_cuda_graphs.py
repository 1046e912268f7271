"""Ops as CUDA graphs, on a GPU: a replay makes every call of the capture."""

import pytest
import torch

from mmdwnet.analysis.benchmark.cuda_graphs import captured
from mmdwnet.analysis.benchmark.op_cases import BEYOND_CACHE, OP_TASKS, OPS, OpCase, OpWorkshop, impls_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def test_a_replay_makes_every_call_once():
    counts = [torch.zeros((), device='cuda') for _ in range(3)]
    bundle = captured([lambda count=count: count.add_(1) for count in counts])
    before = [count.item() for count in counts]
    assert bundle.calls == 3
    bundle.run()
    bundle.run()
    assert [count.item() - start for count, start in zip(counts, before, strict=True)] == [2] * 3


@pytest.mark.parametrize('task', OP_TASKS)
@pytest.mark.parametrize('op', OPS)
def test_every_implementation_is_captured(op, task):
    workshop, cache = OpWorkshop(), torch.cuda.get_device_properties('cuda').L2_cache_size
    for impl in impls_of(op, 'cuda'):
        case = OpCase(op, impl, 64, 14, task, 'bfloat16', batch=64, device='cuda')
        bundle = workshop.prepare(case)
        assert bundle.calls * case.moved_bytes() >= BEYOND_CACHE * cache
        bundle.run()
        torch.cuda.synchronize()
