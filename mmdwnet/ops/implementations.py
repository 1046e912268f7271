"""Which implementations there are, what can run where, and the choice of `auto`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import compiled, tiled, triton_kernels

# what `impl=` may name beside 'auto'; 'reference' is no op and is dispatched before (`depthwise.py`)
IMPLS = ('reference', 'tiled', 'compiled', 'triton')
_FUNCTIONS = {'tiled': tiled, 'compiled': compiled, 'triton': triton_kernels}


def available_impls(device: str | torch.device = 'cpu') -> tuple[str, ...]:
    """The implementations that can run on a device, for every dynamic op; the static one has no 'compiled'.

    Args:
        device: 'cpu', 'cuda', ...

    Returns:
        Of 'reference' (plain torch, any device), 'tiled' (plain torch without unfolding, any device), 'compiled'
        (CPU, with a C++ compiler: `torch.compile` writes the inner loop), 'triton' (GPU kernels; on a CPU only
        under Triton's interpreter, for tests).
    """
    return tuple(impl for impl in IMPLS if obstacle(impl, torch.device(device)) is None)


def obstacle(impl: str, device: torch.device) -> str | None:
    """Why an implementation cannot run, in a few words, or None if it can."""
    if impl == 'compiled':
        return compiled.obstacle(device)
    return triton_kernels.obstacle(device) if impl == 'triton' else None


def check_impl(impl: str) -> None:
    """Raise ValueError for a name that no implementation has."""
    if impl != 'auto' and impl not in IMPLS:
        raise ValueError(f"unknown impl {impl!r}: expected 'auto' or one of {', '.join(map(repr, IMPLS))}")


@torch.compiler.assume_constant_result
def impl_in_compiled_code(device_type: str) -> str:
    """What 'auto' means inside `torch.compile`: on a CPU the implementation that compiles too."""
    return 'compiled' if device_type == 'cpu' and obstacle('compiled', torch.device('cpu')) is None else 'auto'


@torch.compiler.assume_constant_result
def triton_runs(device_type: str) -> bool:
    """Whether Triton's kernels run on the tensors of a GPU."""
    return device_type == 'cuda' and obstacle('triton', torch.device(device_type)) is None


def find(op: str, impl: str, x: Tensor) -> Callable:
    """The function that runs an op on x's device.

    Args:
        op: name of the op, or of its gradient with `_backward` behind it.
        impl: 'auto' takes Triton's kernels on a GPU that can run them and plain torch elsewhere.

    Raises:
        RuntimeError: a named implementation cannot run here; the message says why.
        ValueError: there is no such implementation, or 'reference', which is no op.
    """
    if impl != 'auto' and impl not in _FUNCTIONS:
        raise ValueError(
            f"{op}: unknown impl {impl!r}: expected 'auto' or one of {', '.join(map(repr, _FUNCTIONS))}"
        )
    kind, direction = op.split('_')[0], 'backward' if op.endswith('_backward') else 'forward'
    if impl == 'auto':
        impl = 'triton' if x.is_cuda and _obstacle_of('triton', kind, x) is None else 'tiled'
    else:
        reason = _obstacle_of(impl, kind, x)
        if reason is not None:
            raise RuntimeError(f"{op}: impl={impl!r} cannot run here: {reason}; impl='auto' chooses one that can")
    return getattr(_FUNCTIONS[impl], f'{kind}_{direction}')


def _obstacle_of(impl: str, kind: str, x: Tensor) -> str | None:
    reason = obstacle(impl, x.device)
    return triton_kernels.gap(kind, x.dtype) if reason is None and impl == 'triton' else reason
