"""Autocast regions, as torch 2.1 and later ones know them: the rule of the ops in one, and the way out of it."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

_BY_DEVICE = hasattr(torch, 'get_autocast_dtype')  # torch 2.4 and later


def autocast_together(device_type: str, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The autocast rule of the ops, that of a convolution: everything in the dtype of the autocast region.

    float64 stays, as in torch. Outside a region nothing happens.
    """
    dtype = autocast_dtype(device_type)
    if dtype is None:
        return tensors
    half = (torch.float32, torch.bfloat16, torch.float16)
    return tuple(t.to(dtype) if isinstance(t, Tensor) and t.dtype in half else t for t in tensors)


def autocast_off(device_type: str) -> contextlib.AbstractContextManager:
    """A region without autocast, on devices that have it; the meta device has none."""
    if autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def autocast_enabled(device_type: str) -> bool:
    """Whether this is an autocast region of a device; the meta device has none."""
    if device_type not in ('cpu', 'cuda'):
        return False
    if _BY_DEVICE:
        return torch.is_autocast_enabled(device_type)
    return torch.is_autocast_enabled() if device_type == 'cuda' else torch.is_autocast_cpu_enabled()


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """What the autocast region of a device computes in; None outside one."""
    if not autocast_enabled(device_type):
        return None
    if _BY_DEVICE:
        return torch.get_autocast_dtype(device_type)
    return torch.get_autocast_gpu_dtype() if device_type == 'cuda' else torch.get_autocast_cpu_dtype()
