"""The device's memory bandwidth: what a copy reaches, and what the memory's clock and bus width allow."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .timing import Failure, Plan, Stopwatch, measure

BYTES = {'cpu': 256 << 20, 'cuda': 2 << 30}  # far beyond any cache


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second.

    Args:
        copied: of a device-to-device copy, bytes read and bytes written together.
        peak: of the memory by its specification, None where it is not known.
    """

    copied: float
    peak: float | None


def measure_bandwidth(device: str, plan: Plan, stopwatch: Stopwatch) -> Bandwidth:
    """Copy a large buffer within the device's memory.

    Raises:
        RuntimeError: the copy failed, for lack of memory for one.
    """

    def make():
        source = torch.ones(BYTES[device], dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    result = measure({'copy': make}, plan, stopwatch)['copy']
    if isinstance(result, Failure):
        raise RuntimeError(f'the memory bandwidth could not be measured: {result.reason}')
    return Bandwidth(2 * BYTES[device] / result.spread.median, _peak(device))


def _peak(device: str) -> float | None:
    if device == 'cpu':
        return None
    memory = torch.cuda.get_device_properties(torch.cuda.current_device())
    # the clock in kHz, two transfers per clock, the bus in bits
    return 2 * memory.memory_clock_rate * 1e3 * memory.memory_bus_width / 8
