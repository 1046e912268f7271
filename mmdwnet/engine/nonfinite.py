"""Skip a training step whose loss or gradient is not finite, say where it began, and stop a run that goes on so.

The official code skips such a step without a word (Atten4Vis/DemystifyLocalViT at ce7c0b7, main.py:167-222). Here
all processes agree on it, the BN statistics that the bad batch has moved are put back, and EMA leaves it out. The
learning rate stays a function of the iteration, as there.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, barrier, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import UserError
from ..registry import HOOKS
from .sharding import gather_optimizer_state


@HOOKS.register_module()
class NonFiniteGuard(Hook):
    """Guards every step of a Runner's training, in epochs or iterations, with or without mixed precision.

    A step is skipped on all processes when on any of them the loss, a gradient or a buffer (the running
    statistics of a BN) is not finite. One bad batch spoils the whole step of accumulated gradients.
    Each is logged with the first module, in forward order, whose output is not finite; if the forward pass is
    finite, with the last parameter, in that order, whose gradient is not: the first that backward meets.

    In float16 a gradient may overflow because the loss scale is still too high: torch's GradScaler then skips the
    step and halves the scale, and nothing is counted or logged while the scale is above 1.

    The cost is one more pass over the gradients and a copy of the buffers. Whether all is finite is read from the
    device once per batch, just before mmengine's log reads the loss.

    Args:
        max_skipped: how many steps may be skipped in `window` iterations. One more stops the run, with a
            checkpoint of the last good state in the work directory, which `--resume` finds: all in it is finite,
            though a learning rate that is too high may have left weights from which no batch has a finite loss.
        window: in iterations.

    Raises:
        UserError: in training, more skipped steps than that.
        TypeError: in training, several optimizers.
    """

    priority = 'HIGH'  # after the losses have been logged, before EMA and everything that saves

    def __init__(self, max_skipped: int = 10, window: int = 1000):
        self.max_skipped = max_skipped
        self.window = window
        self._skipped: deque[int] = deque()  # iterations, those in the window

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(f'NonFiniteGuard guards one OptimWrapper, not {type(wrapper).__name__}')
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._buffers = _Buffers(self._model)
        self._found: str | None = None  # in this batch: 'forward pass' or 'gradient'
        self._lost: bool = False  # an earlier batch of this step was bad
        # mmengine calls these two by name, once per batch and once per step
        wrapper.backward = partial(self._backward, wrapper, wrapper.backward)
        wrapper.step = partial(self._step, wrapper, wrapper.step)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.ema_model.update_parameters = partial(self._average, hook.ema_model.update_parameters)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._found = None
        self._buffers.save()
        self._random_state = _random_state()

    def _backward(self, wrapper: OptimWrapper, backward: Callable, loss: Tensor, **kwargs) -> None:
        backward(loss, **kwargs)
        gradients = []
        if wrapper.should_update() and not self._lost:
            parameters = itertools.chain.from_iterable(g['params'] for g in wrapper.optimizer.param_groups)
            gradients = [p.grad for p in parameters if p.grad is not None]
        forward = loss.detach().float() + self._buffers.norm(loss.device)
        finite = torch.isfinite(torch.stack([forward, _norm(gradients, loss.device)])).float()
        all_reduce(finite, 'min')  # a process whose own batch is good skips too
        forward_good, gradient_good = finite.tolist()
        if not forward_good:
            self._found = 'forward pass'
        elif not gradient_good and not _lowers_its_scale(wrapper):
            self._found = 'gradient'
            named = self._model.named_parameters()
            self._bad = [name for name, p in named if p.grad is not None and not torch.isfinite(p.grad).all()]

    def _step(self, wrapper: OptimWrapper, step: Callable, **kwargs) -> None:
        skip = self._lost or self._found
        scaler = getattr(wrapper, 'loss_scaler', None)
        if self._found == 'gradient' and scaler is not None and scaler.is_enabled():
            skip = False  # a scaler skips by itself what overflows, and has to know of it
        if not skip:
            step(**kwargs)

    def _average(self, update_parameters: Callable, *args) -> None:
        if not self._found:
            update_parameters(*args)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        counted = self._lost
        self._lost = (self._lost or bool(self._found)) and not runner.optim_wrapper.should_update()
        if not self._found:
            return
        self._buffers.restore()
        if counted:
            return
        where = self._first_non_finite(runner, data_batch)
        self._buffers.restore()  # the forward pass was run again
        self._skipped.append(runner.iter)
        while self._skipped[0] <= runner.iter - self.window:
            self._skipped.popleft()
        total = runner.message_hub.runtime_info.get('skipped_steps', 0) + 1
        runner.message_hub.update_info('skipped_steps', total)  # checkpoints keep it
        runner.logger.warning(
            f'step skipped at iteration {runner.iter + 1}: the {self._found} is not finite, first in {where}; '
            f'{total} skipped in all, {len(self._skipped)} in the last {self.window} iterations '
            f'(at {self.max_skipped + 1} the run stops)'
        )
        if len(self._skipped) > self.max_skipped:
            self._stop(runner, where)

    def _first_non_finite(self, runner: Runner, data_batch: Any) -> str:
        """Run the forward pass again with the same random numbers, and name what is not finite first.

        All processes do, for a SyncBN waits for the others.
        """
        order: list[str] = []  # modules as they finish
        bad: list[tuple[int, str]] = []

        def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
            order.append(name)
            if not bad and not all(torch.isfinite(t).all() for t in _tensors(output)):
                bad.append((len(order), name))

        with contextlib.ExitStack() as stack:
            for name, module in self._model.named_modules():
                stack.enter_context(module.register_forward_hook(partial(note, name)))
            stack.enter_context(_replayed(self._random_state))
            stack.enter_context(torch.no_grad())
            stack.enter_context(runner.optim_wrapper.optim_context(self._model))
            self._model._run_forward(self._model.data_preprocessor(data_batch, True), mode='loss')
        bad += [(len(order) + 1, f'the buffer {name}') for name in self._buffers.not_finite()]
        everyone: list[tuple[int, str] | None] = all_gather_object(bad[0] if bad else None)
        found = [(*first, rank) for rank, first in enumerate(everyone) if first]
        if found:
            _, name, rank = min(found)
            name = {'': 'the losses', 'data_preprocessor': 'data_preprocessor (the batch itself)'}.get(name, name)
            return f'{name} (rank {rank})' if len(everyone) > 1 else name
        if self._found == 'gradient':
            return f'the gradient of {_last(self._bad, order)}'
        return 'no module when the batch was run once more'

    def _stop(self, runner: Runner, where: str) -> None:
        name = f'last_good_iter_{runner.iter}.pth'
        path = Path(runner.work_dir, name)
        gather_optimizer_state(runner)
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=runner.iter))
        if is_main_process():
            path.with_name('last_checkpoint').write_text(str(path))
        barrier()  # launchers end all processes as soon as one ends
        steps = f'{len(self._skipped)} step{"s" * (len(self._skipped) != 1)}'
        raise UserError(
            f'stopped at iteration {runner.iter + 1}: {steps} in {self.window} iterations '
            f'had a loss or gradient that is not finite, the last first in {where}; the last good state, '
            f'which --resume finds, is {path}: lower the learning rate, look at the images, or '
            f'{"train in float32" if hasattr(runner.optim_wrapper, "loss_scaler") else "resume an earlier one"}'
        )


class _Buffers:
    """A copy of all buffers of a model, as they were before a batch."""

    def __init__(self, model: nn.Module):
        groups: dict[tuple, list[Tensor]] = {}  # torch copies a list of one type at once
        for buffer in model.buffers():
            groups.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self._groups = [(live, [buffer.clone() for buffer in live]) for live in groups.values()]
        floating = [(name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point()]
        # a mask may be infinite on purpose
        self._watched = {name: buffer for name, buffer in floating if torch.isfinite(buffer).all()}

    def save(self) -> None:
        for live, saved in self._groups:
            torch._foreach_copy_(saved, live)

    def restore(self) -> None:
        for live, saved in self._groups:
            torch._foreach_copy_(live, saved)

    def norm(self, device: torch.device) -> Tensor:
        """A number that is finite if all buffers are that were so at the start."""
        return _norm(list(self._watched.values()), device)

    def not_finite(self) -> list[str]:
        """The names of those that are not finite and were so at the start."""
        return [name for name, buffer in self._watched.items() if not torch.isfinite(buffer).all()]


def _norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    if not tensors:
        return torch.zeros((), device=device)
    return torch.stack([norm.to(device, torch.float32) for norm in torch._foreach_norm(tensors)]).sum()


def _lowers_its_scale(wrapper: OptimWrapper) -> bool:
    """Whether a gradient that overflows is left to a GradScaler, which can still lower its scale."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    if scaler is None or not scaler.is_enabled() or wrapper._scale_update_param is not None:
        return False
    return scaler.get_scale() > 1


def _last(parameters: list[str], order: list[str]) -> str:
    """The parameter whose module, or the nearest one around it that is in `order`, stands last there."""
    position = {name: i for i, name in enumerate(order)}

    def place(name: str) -> int:
        while name not in position:
            name = name.rpartition('.')[0]
        return position[name]

    return max(reversed(parameters), key=place)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _random_state() -> tuple:
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpu


def _set_random_state(state: tuple) -> None:
    python, numpy, cpu, gpu = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpu is not None:
        torch.cuda.set_rng_state(gpu)


@contextlib.contextmanager
def _replayed(state: tuple) -> Iterator[None]:
    """Draw random numbers from an earlier state, and go on as if none had been drawn."""
    now = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(now)
