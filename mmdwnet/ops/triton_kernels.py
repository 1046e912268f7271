"""The Triton kernels as one implementation: what is in its way on a device, and a function per op and direction."""

from __future__ import annotations

import torch


def obstacle(device: str | torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why the kernels cannot run on tensors of a device and a dtype, in a few words, or None."""
    return 'its kernels are not written yet'
