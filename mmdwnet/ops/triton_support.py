"""What the Triton kernels share on the host: can they run, which layouts they read in place, how they tile.

Imports no Triton, so that `import mmdwnet.ops` works where it is missing, and `availability` can say so.
Tiles were chosen by times of bfloat16 at the shapes of DWNet-T on an NVIDIA H100 (docs/speed.md).
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

MIN_VERSION = (3, 6)  # 3.3 to 3.5 were tried, and do not compile the kernels
_THREADS = 128  # of a program
_WARP = 32
_MAX_LANES = 32


def availability(device: torch.device | str) -> str | None:
    """Say whether the Triton kernels can run on a device.

    Triton chooses between its compiler and its interpreter, which runs on the CPU, when the kernels are first
    imported: set TRITON_INTERPRET=1 in the environment before Python starts.

    Args:
        device: where the tensors live.

    Returns:
        None if they can run, else the reason in one line.
    """
    if find_spec('triton') is None:
        return 'Triton is not installed: pip install triton'
    import triton

    version = tuple(int(part) for part in triton.__version__.split('.')[:2])
    if version < MIN_VERSION:
        return f'Triton {triton.__version__} is too old: {".".join(map(str, MIN_VERSION))} or later is needed'
    from .triton_blocks import INTERPRETED

    if INTERPRETED:
        return None
    if torch.device(device).type == 'cuda':
        return _obstacle_of_launcher()
    return f"the device is {device}, not CUDA, and Triton's interpreter is off (TRITON_INTERPRET=1 turns it on)"


def _obstacle_of_launcher() -> str | None:
    """Triton compiles what launches its kernels when it first runs: with a C compiler and Python's headers."""
    if not (os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')):
        return 'Triton finds no C compiler: install gcc, or name one in the environment variable CC'
    headers = Path(sysconfig.get_paths()['include'])
    if not (headers / 'Python.h').exists():
        return f"Triton finds no Python.h in {headers}: install Python's headers (Debian: python3-dev)"
    return None


def round_up_to_power_of_2(n: int) -> int:
    """The smallest power of two that is not below n, for n >= 1."""
    return 1 << (n - 1).bit_length()


@dataclass(frozen=True)
class Tile:
    """What one program computes; a compile-time constant of the kernels.

    A program has `strips` rows of `columns` positions each and `groups` groups of channels. A thread owns one
    strip and `per_thread` channels of one group; `lanes` threads share a group, and where a group has more
    channels than lanes * per_thread, `parts_of_group` programs share it. strips, groups and lanes are powers
    of two.
    """

    channels: int  # C of the map
    all_groups: int  # G of the map, a divisor of C
    kernel_size: int  # K
    strips: int
    groups: int
    lanes: int
    per_thread: int
    columns: int

    @property
    def in_group(self) -> int:
        return self.channels // self.all_groups

    @property
    def at_once(self) -> int:
        """How many channels a thread loads together, in fewer accesses of memory that lie closer to each other."""
        return 1 if self.in_group % 2 or self.per_thread % 2 else 2

    @property
    def exact(self) -> bool:
        """Whether every thread has all its channels."""
        return self.in_group % (self.lanes * self.per_thread) == 0

    @property
    def parts_of_group(self) -> int:
        return ceil_div(self.in_group, self.lanes * self.per_thread)

    @property
    def parts(self) -> int:
        """How many programs share the channels of a position."""
        return ceil_div(self.all_groups, self.groups) * self.parts_of_group

    @property
    def threads(self) -> int:
        return self.strips * self.groups * self.lanes

    @property
    def warps(self) -> int:
        return max(1, self.threads // 32)

    @property
    def taps(self) -> int:
        """K rounded up to a power of two."""
        return round_up_to_power_of_2(self.kernel_size)

    @property
    def padded_columns(self) -> int:
        return round_up_to_power_of_2(self.columns)

    def positions(self, batch: int, height: int, width: int) -> int:
        """How many blocks of positions cover a (batch, height, width) map."""
        return batch * ceil_div(height, self.strips) * ceil_div(width, self.columns)


def choose_tile(
    x: Tensor,
    groups: int,
    kernel_size: int,
    one_lane: bool = False,
    for_dots: bool = False,
    tap_fastest: bool = False,
) -> Tile:
    """The tile for a shape: a fixed rule, so that a shape always gives the same bits.

    Args:
        x: the map, (B, C, H, W).
        groups: G, a divisor of C.
        kernel_size: K.
        one_lane: a thread has all channels of its group, for kernels that sum over them.
        for_dots: matrices of its positions and of its taps are at least 16 long, as `tl.dot` needs.
        tap_fastest: kernels are read a row of taps at a time from memory in which they lie one after another: few
            positions, so that what was loaded with a row is still in the cache for the next.
    """
    _, channels, height, width = x.shape
    columns = columns_for(width, kernel_size)
    in_group = channels // groups
    lanes, per_thread = (1, in_group) if one_lane else _split_group(in_group)
    if tap_fastest and lanes == 1 and in_group % 2 and in_group > 1:
        lanes, per_thread = 2, ceil_div(in_group, 2)
    # 32 groups make a warp's loads of kernels longest; products read fewer bytes the squarer they are.
    in_block = max(1, min(32, _THREADS // lanes) if tap_fastest else (16 if for_dots else 32) // lanes)
    in_block = min(round_up_to_power_of_2(groups), in_block)
    if for_dots:
        in_block = max(in_block, 16 // round_up_to_power_of_2(kernel_size))
    threads = _WARP if tap_fastest else _THREADS
    strips = min(round_up_to_power_of_2(height), max(1, threads // (in_block * lanes)))
    if for_dots:
        strips = max(strips, 16 // round_up_to_power_of_2(columns))
    return Tile(channels, groups, kernel_size, strips, in_block, lanes, per_thread, columns)


def columns_for(width: int, kernel_size: int) -> int:
    """How many positions of a row a thread computes, so that it reads n + K - 1 columns instead of n * K.

    Kernels of up to 7 x 7 leave registers for 8; the maps of a 224 x 224 image are multiples of 7 wide.
    """
    if kernel_size > 7 or width <= 4:
        return 4
    return 7 if width % 7 == 0 and width % 8 else 8


def _split_group(channels: int) -> tuple[int, int]:
    """Lanes and channels per thread for a group: least waste, then most per thread, which share its kernels."""

    def lanes(per_thread: int) -> int:
        return min(_MAX_LANES, round_up_to_power_of_2(ceil_div(channels, per_thread)))

    def padded(per_thread: int) -> int:
        step = per_thread * lanes(per_thread)
        return ceil_div(channels, step) * step

    per_thread = min(range(1, 7), key=lambda n: (padded(n), -n))  # 6 channels x 8 columns of sums fit in registers
    return lanes(per_thread), per_thread


def as_channels_last(x: Tensor) -> Tensor:
    """x itself if its channels, then its columns, are dense in memory, else a channels_last copy of it.

    Rows and images may have any stride: a crop of a channels_last map is read in place.
    """
    _, channels, _, width = x.shape
    dense = (x.stride(1) == 1 or channels == 1) and (x.stride(3) == channels or width == 1)
    return x if dense else x.contiguous(memory_format=torch.channels_last)


def empty_map(x: Tensor) -> Tensor:
    """An uninitialised channels_last tensor of x's shape, dtype and device."""
    return torch.empty_like(x, memory_format=torch.channels_last)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
