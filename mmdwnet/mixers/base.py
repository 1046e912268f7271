"""What a token mixer is: the contract that every mixer of this package keeps.

Both papers behind this project read local attention, depth-wise convolution and the rest as one form: every output
is a weighted sum of values at other positions (and channels), and the mixers differ in where the values come from,
which sums share their weights, and what the weights are made from (Han et al., ICLR 2022, section 3 and table 1).
So each mixer here is three steps, and whoever asks for its weights can differentiate the second one, which is
linear in the values whatever the mixer is:

    values, source = prepare(x)        what is summed, and what the weights are made from
    mixed = mix(values, source)        the weighted sums, linear in the values up to a constant
    project(mixed)                     what follows at every position by itself
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import autocast_enabled, is_plain, pointwise_linear
from ..ops.cpu import computed
from ..ops.tracing import is_exported


class TokenMixer(BaseModule):
    """A token mixer, `(B, C, H, W) -> (B, C, H, W)`.

    A constructor takes `channels` and its own options by name, and of `PLACE`, what a network knows about the
    place of the mixer in it, whatever it needs (`building.py` passes just that).
    """

    def forward(self, x: Tensor) -> Tensor:
        values, source = self.prepare(x)
        return self.project(self.mix(values, source))

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values, (B, C, H, W), and the source of the weights, (B, any, H, W)."""
        raise NotImplementedError

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        """Weigh and sum the values with weights made from the source, (B, C, H, W); static weights ignore it."""
        raise NotImplementedError

    def project(self, mixed: Tensor) -> Tensor:
        """What follows the sums, at every position by itself, (B, C, H, W)."""
        raise NotImplementedError


class BareMixer(TokenMixer):
    """A mixer that is one operation by itself: no projection before it and none behind.

    values: the input; source: the input.
    """

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x

    def project(self, mixed: Tensor) -> Tensor:
        return mixed


class SequenceMixer(TokenMixer):
    """A token mixer that also takes tokens beside those of the map, such as a class token."""

    def forward_sequence(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Mix a sequence, in the form of a map of one row, (B, C, 1, T + H * W) -> the same shape.

        Args:
            x: T tokens that have no place in the map, then those of the map, row by row.
            size: (H, W).
        """
        values, source = self.prepare(x)
        mixed = self.mix_sequence(as_sequence(values), as_sequence(source), size)
        return self.project(as_map(mixed, (1, -1)))

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        size = tuple(values.shape[2:])
        return as_map(self.mix_sequence(as_sequence(values), as_sequence(source), size), size)

    def mix_sequence(self, values: Tensor, source: Tensor, size: tuple[int, int]) -> Tensor:
        """As `mix`, on (B, T + H * W, C) values and their source."""
        raise NotImplementedError


def as_sequence(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as (B, H * W, C); a view of a channels_last map."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A sequence (B, H * W, C) as a channels_last map (B, C, H, W); a view."""
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def over_channels(linear: nn.Module, x: Tensor) -> Tensor:
    """Apply a Linear, or what stands in its place, to the channels of a map, (B, C, H, W) -> (B, C', H, W)."""
    if not is_plain(linear, nn.Linear):
        return linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return pointwise_linear(x, linear.weight, linear.bias)


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution, or what stands in its place, to a map, (B, C, H, W) -> (B, C', H, W).

    On a CPU as `pointwise_linear`, which knows what is fast there. In half precision on a GPU as a product of
    matrices: cuDNN's convolution took three times as long (docs/speed.md). In float32 that may use tf32 where a
    product may not, which is torch's default, and stays, but for maps of a single position, which cost a launch
    either way.
    """
    if not is_pointwise(conv):
        return convolution(conv, x)
    on_cpu = x.device.type == 'cpu'
    half = autocast_enabled(x.device.type) or x.dtype in (torch.float16, torch.bfloat16)
    multiplies = not is_exported() if on_cpu else half or x.shape[2:] == (1, 1)
    return pointwise_linear(x, conv.weight.flatten(1), conv.bias) if multiplies else conv(x)


def is_pointwise(conv: nn.Module) -> bool:
    """Whether it is a 1x1 convolution that a product of matrices can stand for; not what was put in its place."""
    if not is_plain(conv, nn.Conv2d):
        return False
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def convolution(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution, or what stands in its place, to a map; on a CPU, half precision is not emulated."""
    if x.device.type != 'cpu' or is_exported() or not is_plain(conv, nn.Conv2d):
        return conv(x)
    return computed(conv._conv_forward, x, conv.weight, conv.bias)


def groups_of(channels: int, each: int, option: str, mixer: str) -> int:
    """How many groups, or heads, of so many channels the channels make.

    Args:
        channels: C.
        each: channels of a group.
        option: what the mixer calls that number, for the message.
        mixer: its name, for the message.

    Raises:
        ValueError: they do not divide.
    """
    if not isinstance(each, int) or each < 1 or channels % each:
        raise ValueError(
            f'{mixer}: {option} must divide the channels of every stage, got {option}={each!r} and {channels} '
            'channels'
        )
    return channels // each
