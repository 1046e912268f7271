"""The multiply-adds of kernels per position as one loop that torch.compile writes and a C++ compiler builds.

`auto` takes it on a CPU when the network itself is compiled; by name it runs in eager mode too. Forward passes
only: gradients are those of `tiled.py`. The first call of a process takes some 15 seconds, and so does the first
of every other kernel size and dtype; the sizes of the maps do not matter. Beyond torch's limit of such variants in
a process (8 by default) it runs the same loop uncompiled, and torch says so.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import tiled
from .flat_maps import Weigh

depthwise_forward, depthwise_backward = tiled.depthwise_forward, tiled.depthwise_backward
dynamic_forward, dynamic_backward = tiled.dynamic_forward, tiled.dynamic_backward
inhomogeneous_backward, generated_backward = tiled.inhomogeneous_backward, tiled.generated_backward


def inhomogeneous_forward(x: Tensor, weight: Tensor) -> Tensor:
    """As in `tiled.py`."""
    return tiled.inhomogeneous_forward(x, weight, _weigh())


def generated_forward(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> Tensor:
    """As in `tiled.py`."""
    return tiled.generated_forward(x, feature, weight, bias, groups, kernel_size, _weigh())


def obstacle(device: str | torch.device) -> str | None:
    """Why it cannot run on a device, in a few words, or None."""
    if torch.device(device).type != 'cpu':
        return 'it is for CPUs'
    return _missing_compiler()


@functools.cache
def _missing_compiler() -> str | None:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except ImportError as error:
        return f'this torch has no CPU code generator that is known here ({error})'
    except Exception as error:  # its own exception types changed their place between releases of torch
        return f'torch.compile found no C++ compiler: install g++ ({type(error).__name__})'
    return None


@functools.cache
def _weigh() -> Weigh:
    return torch.compile(weigh, dynamic=True)


def weigh(kernels: Tensor, flat: Tensor, start: int, row: int, kernel_size: int, out: Tensor) -> None:
    """Weigh and sum K * K shifted neighbours.

    Args:
        kernels: (n*G, K*K, T), in half precision if they were generated so.
        flat: (n*G, c, L), the maps with their margins.
        start: where in L the neighbours of the tile begin.
        row: distance in memory of two rows.
        kernel_size: K.
        out: (n*G, c, T), written.
    """
    length = kernels.shape[-1]
    total = None
    for i in range(kernel_size):
        for j in range(kernel_size):
            shift = start + i * row + j
            kernel = kernels[:, i * kernel_size + j].unsqueeze(1).to(flat.dtype)  # (n*G, 1, T)
            term = kernel * flat[..., shift : shift + length]
            total = term if total is None else total + term
    out.copy_(total)
