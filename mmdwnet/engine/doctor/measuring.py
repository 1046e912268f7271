"""Measures training steps on random images, and the data loader, in a process of its own.

A CPU's peak memory can only rise in the life of a process, and running out of it ends one: so
`python -m mmdwnet.engine.doctor.measuring`, with a pickled `Job` on its standard input, prints a line of JSON for
each part that it has measured. The model, its loss and its optimizer are those of the config, its weights random.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from ...analysis.benchmark.memory import resident_peak
from ...errors import UserError
from ..config import load_config
from .hardware import memory
from .settings import build_model, input_size
from .synthetic import batch_of

MARK = '@measured '
STEP_SECONDS = 8.0  # a step should not take longer; where the first does, only one image more is tried
LOADER_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What to measure.

    Args:
        config: file.
        overrides: of the config, as `load_config` takes them.
        optim_wrapper: that of the config once all is merged; plain data.
        loading: measure the data loader too.
    """

    config: str
    overrides: dict[str, Any]
    optim_wrapper: dict[str, Any]
    loading: bool


@dataclass(frozen=True)
class Step:
    """Training steps of a batch.

    Args:
        batch: images.
        seconds: of a step, the mean of several.
        peak: bytes; on a GPU what its allocator had given out at most, on a CPU by how much the resident memory of
            the process grew from before the model was built.
        loss: of the last step.
    """

    batch: int
    seconds: float
    peak: int
    loss: float


def measure(job: Job) -> tuple[dict[str, dict], dict[str, str]]:
    """Measure in a process of its own.

    Returns:
        What was measured, 'step' and 'loading', each as its function says; and what went wrong, by the same names.
    """
    # blocks that are freed go back to the system, so that the resident memory is what the run holds
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2**20)}
    command = [sys.executable, '-W', 'ignore', '-m', __name__]
    done = subprocess.run(command, input=pickle.dumps(job), capture_output=True, env=environment)
    lines = done.stdout.decode(errors='replace').splitlines()
    found = [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
    results = {part['part']: part['result'] for part in found if 'result' in part}
    problems = {part['part']: part['problem'] for part in found if 'problem' in part}
    if done.returncode:
        last = done.stderr.decode(errors='replace').strip().splitlines()[-1:] or ['no message']
        killed = f'its process was ended by signal {-done.returncode}, as happens where memory runs out'
        missing = next((part for part in parts(job) if part not in {**results, **problems}), 'step')
        problems[missing] = killed if done.returncode < 0 else last[0]
    return results, problems


def parts(job: Job) -> list[str]:
    """What a job measures, in that order."""
    return [*(['loading'] if job.loading else []), 'step']


def steps(cfg: Config) -> dict[str, Any]:
    """Two sizes of batch, and what a checkpoint takes.

    Returns:
        `device`, `size` (height and width), `steps` (of `Step` as dicts, by size of batch), `limit` (bytes that a
        run may use), `full` (the smallest batch that did not fit, or None), `checkpoint` (bytes).
    """
    device, size = get_device(), input_size(cfg)
    limit = torch.cuda.mem_get_info()[0] if device == 'cuda' else memory()[1]
    before = _reset_peak(device)
    model = build_model(cfg)
    model.init_weights()
    model.to(device).train()
    wrapper = _build_optimizer(cfg, model)
    wrapper.initialize_count_status(model, 0, 1000)  # as the Runner does; mixed precision prepares the model here
    asked = cfg.train_dataloader.get('batch_size') or 1
    found, full = [_step(cfg, model, wrapper, min(asked, 2), before, at_least=2)], None
    while larger := _next_batch(found, asked, limit if device == 'cpu' else None, full):
        try:
            found.append(_step(cfg, model, wrapper, larger, before, at_least=1))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            full = larger
    return dict(
        device=device,
        size=size,
        steps=[asdict(step) for step in found],
        limit=limit,
        full=full,
        checkpoint=_checkpoint_bytes(cfg, model, wrapper),
    )


def _build_optimizer(cfg: Config, model: nn.Module) -> OptimWrapper:
    settings = {**cfg.optim_wrapper, 'accumulative_counts': 1}  # each step updates
    try:
        return build_optim_wrapper(model, settings)
    except (TypeError, ValueError, KeyError) as error:  # mmengine's do not name it
        kind = (settings.get('optimizer') or {}).get('type')
        raise UserError(
            f'optim_wrapper with the optimizer {kind!r} cannot be built ({type(error).__name__}: {error}): '
            'expected an optimizer of torch or mmengine and its options'
        ) from error


def _next_batch(found: list[Step], asked: int, limit: int | None, full: int | None) -> int | None:
    """The batch to measure next: towards the one that the config asks for, as far as time and memory allow.

    Args:
        found: what was measured.
        asked: the config's batch.
        limit: bytes of memory where there is no error to catch when it runs out, as on a CPU.
        full: a batch that did not fit.

    Returns:
        The size; None if it is enough.
    """
    last = found[-1]
    most = 4 * last.batch
    most = min(most, int(STEP_SECONDS / last.seconds * last.batch))
    if limit is not None:
        most = min(most, int(0.4 * limit / max(last.peak, 1) * last.batch))
    most = min(most, max(asked, 2 * found[0].batch))
    if len(found) == 1:
        most = max(most, last.batch + 1)  # a line needs two points
    if full is not None:
        most = min(most, (last.batch + full) // 2)
    return most if most > last.batch else None


def _step(cfg: Config, model: nn.Module, wrapper: OptimWrapper, count: int, before: int, at_least: int) -> Step:
    """Measure steps of `count` images; at least 2 for the first size, after which the optimizer has its state."""
    device = get_device()
    data = batch_of(cfg, count, input_size(cfg))
    _reset_peak(device)
    seconds: list[float] = []
    while len(seconds) < at_least or (len(seconds) < 10 and sum(seconds) < STEP_SECONDS / 4):
        if device == 'cuda':  # what cuDNN and Triton try out at first is not the net's
            torch.cuda.reset_peak_memory_stats()
        start = _now(device)
        logged = model.train_step(data, wrapper)
        seconds.append(_now(device) - start)
    settled = seconds[len(seconds) // 2 :]
    peak = torch.cuda.max_memory_allocated() if device == 'cuda' else resident_peak() - before
    return Step(count, sum(settled) / len(settled), peak, float(logged['loss']))


def _now(device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def _reset_peak(device: str) -> int:
    """Let the resident peak be what is resident now, where the system can, and return it."""
    if device == 'cpu' and Path('/proc/self/clear_refs').exists():
        Path('/proc/self/clear_refs').write_text('5')
    return resident_peak()


def _checkpoint_bytes(cfg: Config, model: nn.Module, wrapper: OptimWrapper) -> int:
    """Bytes of the tensors of a checkpoint: model, optimizer, and the average of an EMAHook."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    averaged = sum(hook.get('type', '').endswith('EMAHook') for hook in cfg.get('custom_hooks') or ())
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    return weights * (1 + averaged) + (_bytes_of(wrapper.state_dict()) if hook.get('save_optimizer', True) else 0)


def _bytes_of(node: Any) -> int:
    if isinstance(node, torch.Tensor):
        return node.numel() * node.element_size()
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return sum(_bytes_of(value) for value in values)


def loading(cfg: Config) -> dict[str, Any]:
    """Images per second of the training loader, over a few batches, and how long an epoch is.

    Returns:
        `rate` (images per second), `batches` (over so many), `workers`, `per_epoch` (steps, on one process),
        `batch_bytes`.
    """
    loader = copy.deepcopy(cfg.train_dataloader)
    dataset = loader.pop('dataset')
    dataset = DATASETS.build(dataset)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    once = Runner.build_dataloader({**loader, 'dataset': dataset}, seed=0)
    endless = {**loader, 'dataset': dataset, 'sampler': dict(type='InfiniteSampler', shuffle=True)}
    workers, images = once.num_workers, 0
    batches = iter(Runner.build_dataloader(endless, seed=0))
    first = next(batches)
    for _ in range(workers - 1):  # each process's first batch comes at the time of the very first
        next(batches)
    start, count = time.perf_counter(), 0
    # whole rounds of the processes, for their batches come in bursts
    while count == 0 or count % max(workers, 1) or (time.perf_counter() - start < LOADER_SECONDS and count < 50):
        images += len(next(batches)['inputs'])
        count += 1
    seconds = time.perf_counter() - start
    return dict(
        rate=images / seconds,
        batches=count,
        workers=workers,
        per_epoch=len(once),
        batch_bytes=_bytes_of(first['inputs']),
    )


def _attempt(part: str, run: Callable[[], dict]) -> str:
    """The line of a part: its result, or what went wrong."""
    try:
        result = dict(part=part, result=run())
    except Exception as error:  # whatever a config makes go wrong in a step is what the page is to say
        first = next(iter(str(error).strip().splitlines()), '')
        kind = '' if type(error).__name__ == 'UserError' else f'{type(error).__name__}: '
        result = dict(part=part, problem=f'{kind}{first[:300]}')
    return MARK + json.dumps(result)


def _main() -> None:
    score = Path('/proc/self/oom_score_adj')
    if score.exists():
        score.write_text('1000')  # where memory runs out, this process goes first
    job = pickle.load(sys.stdin.buffer)
    cfg = load_config(job.config, job.overrides)
    cfg.optim_wrapper = job.optim_wrapper
    torch.manual_seed(0)
    for part in parts(job):
        measured = dict(step=steps, loading=loading)[part]
        print(_attempt(part, functools.partial(measured, cfg)), flush=True)


if __name__ == '__main__':
    _main()
