"""What runs on this machine: the GPU, this package's kernels, mmcv's compiled ops, processes that talk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta

from ...compat import LIBRARIES, has_ops, installed, missing_ops_message
from .page import Finding, failure, size

TIMEOUT = timedelta(seconds=20)


def gpus() -> Iterator[Finding]:
    """Every GPU, and whether a kernel runs on it."""
    import torch

    listed = _nvidia_smi()
    if not torch.cuda.is_available():
        yield _no_gpu(listed)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        capability = '.'.join(map(str, torch.cuda.get_device_capability(index)))
        driver = f'driver {listed[0][1]}, ' if listed else ''
        platform = f'ROCm {torch.version.hip}' if torch.version.hip else f'CUDA {torch.version.cuda}'
        text = (
            f'{properties.name}, {size(total)}, {size(free)} free; {driver}'
            f'torch for {platform}, capability {capability} (bfloat16 from 8.0 on)'
        )
        values = dict(name=properties.name, memory=total, free=free)
        problem = _try_kernels(f'cuda:{index}')
        if problem:
            cure = f'install a torch whose kernels are for capability {capability}: see make setup'
            yield Finding('fails', f'GPU {index}', f'{text}; no kernel runs: {problem}', cure, values)
        elif free < total / 2:
            cure = 'see in nvidia-smi who uses it, or choose another with CUDA_VISIBLE_DEVICES'
            yield Finding('warning', f'GPU {index}', f'{text}: in use by something else', cure, values)
        else:
            yield Finding('ok', f'GPU {index}', f'{text}; kernels run', values=values)


def _no_gpu(listed: list[tuple[str, str]]) -> Finding:
    import torch

    if not listed:
        return Finding('note', 'GPU', 'none: training runs on the CPU')
    name, driver = listed[0]
    if os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1'):
        cure = 'unset CUDA_VISIBLE_DEVICES to use it'
        return Finding('note', 'GPU', f'{name} is hidden by CUDA_VISIBLE_DEVICES: training runs on the CPU', cure)
    if torch.version.cuda is None:
        why, cure = 'was built without CUDA', 'install a torch for CUDA: see make setup'
    else:
        why = f'for CUDA {torch.version.cuda} cannot use it with the driver {driver}'
        cure = f'install a driver for CUDA {torch.version.cuda}, or a torch for an older CUDA'
    return Finding('fails', 'GPU', f'{name} is there, but torch {torch.__version__} {why}', cure)


def _nvidia_smi() -> list[tuple[str, str]]:
    """Name and driver of each GPU that NVIDIA's tool lists; [] without it."""
    if shutil.which('nvidia-smi') is None:
        return []
    command = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT.total_seconds())
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(',') for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return [(row[0].strip(), row[1].strip()) for row in rows if len(row) == 2]


def _try_kernels(device: str) -> str | None:
    """Multiply two matrices and convolve on a device; why that does not work, or None."""
    import torch

    a = torch.randn(64, 64)
    try:
        product = (a.to(device) @ a.to(device)).cpu()
        torch.nn.functional.conv2d(a.to(device).expand(1, 8, 64, 64), torch.ones(8, 8, 3, 3, device=device)).cpu()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    wrong = not torch.allclose(
        product, a @ a, atol=0.5
    )  # TF32 keeps 10 bits of numbers whose products add up to 64
    return 'a matrix product is wrong' if wrong else None


def kernels(device: str) -> Iterator[Finding]:
    """Which implementations of the dynamic ops can run, and that they agree.

    Args:
        device: 'cpu' or 'cuda', where training would run.
    """
    import torch

    from ...ops import available_impls, inhomogeneous_depthwise_conv2d
    from ...ops.implementations import obstacle

    x, weight = torch.randn(2, 8, 9, 7, device=device), torch.randn(2, 2, 3, 3, 9, 7, device=device)
    expected = inhomogeneous_depthwise_conv2d(x, weight, impl='reference')
    usable = available_impls(device)
    # the first call of 'compiled' takes as long as all the rest of this page
    for impl in (impl for impl in usable if impl not in ('reference', 'compiled')):
        found = inhomogeneous_depthwise_conv2d(x, weight, impl=impl)
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
            yield Finding('fails', 'kernels', f'impl={impl!r} of the dynamic ops computes wrong numbers here')
    yield Finding('ok', 'kernels', f'dynamic ops on {device}: {", ".join(usable)}', values=dict(usable=usable))
    if device == 'cuda' and 'triton' not in usable:
        reason = obstacle('triton', torch.device(device))
        yield Finding('warning', 'Triton', f'{reason}: dynamic mixers run in plain torch, slower')
    compiler = obstacle('compiled', torch.device('cpu'))
    yield Finding('warning' if compiler else 'ok', 'compiler', compiler or 'torch.compile has a C++ compiler')


def compiled_ops(device: str, task: str | None, all_tasks: bool) -> Iterator[Finding]:
    """mmcv's compiled ops, which detection needs: two of them are run.

    Args:
        device: 'cpu' or 'cuda', where training would run.
        task: of the config, None if there is none.
        all_tasks: without a config; what is missing is then a warning.
    """
    otherwise = 'fails' if task == 'det' else 'warning' if all_tasks else 'note'
    if not installed(LIBRARIES['mmcv']):
        return  # said already
    if not has_ops():
        yield Finding(otherwise, 'mmcv.ops', missing_ops_message())
        return
    for place in dict.fromkeys(['cpu', device]):
        try:
            right = _try_ops(place)
        except Exception as error:  # a compiled library for another torch fails in many ways
            problem = failure('', error).text
            cure = 'compile mmcv anew for this torch and this GPU: make setup in a checkout'
            yield Finding(otherwise, 'mmcv.ops', f'do not run on {place}: {problem}', cure)
            return
        if not right:
            yield Finding(
                otherwise, 'mmcv.ops', f'compute wrong numbers on {place}', 'compile mmcv anew: make setup'
            )
            return
    yield Finding('ok', 'mmcv.ops', f'nms and RoIAlign run on {" and ".join(dict.fromkeys(["cpu", device]))}')


def _try_ops(device: str) -> bool:
    """Whether nms drops the box that overlaps a better one, and RoIAlign finds the mean of a constant map."""
    import torch
    from mmcv.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7]], device=device)
    _, kept = nms(boxes, torch.tensor([0.9, 0.8], device=device), 0.5)
    region = torch.tensor([[0.0, 1, 1, 7, 7]], device=device)
    pooled = roi_align(torch.full((1, 2, 8, 8), 3.0, device=device), region, 2)
    return kept.tolist() == [0] and bool((pooled - 3).abs().max() < 1e-3)


def processes(device: str) -> Iterator[Finding]:
    """A process group of this one process, for each backend that a run on this machine may use."""
    for backend, where in [('gloo', 'cpu'), *([('nccl', device)] if device == 'cuda' else [])]:
        problem = _try_backend(backend, where)
        if problem is None:
            yield Finding('ok', backend, 'a process group of one process works')
        else:
            cure = (
                'name the network interface: GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, see `ip address`; for one '
            )
            cure += 'process it does not matter'
            yield Finding('warning', backend, f'no process group: {problem}', cure)


def _try_backend(backend: str, device: str) -> str | None:
    """Sum a number over a process group of one; why that does not work, or None."""
    import torch
    import torch.distributed as dist

    if not dist.is_available() or not getattr(dist, f'is_{backend}_available')():
        return f'this torch has no {backend}'
    try:
        store = dist.TCPStore('127.0.0.1', 0, 1, is_master=True, timeout=TIMEOUT)
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=TIMEOUT)
        number = torch.ones(1, device=device)
        dist.all_reduce(number)
        dist.destroy_process_group()
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return None if number.item() == 1 else 'a sum is wrong'
