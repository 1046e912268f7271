"""What is probed: a mixer by its name and options, or any module that maps (B, C, H, W) to (B, C, H, W)."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ...errors import UserError
from ...mixers.building import build_mixer

# a few heads or groups of all mixers as they are by default
CHANNELS = 128
SEED = 0


@dataclass(frozen=True)
class Subject:
    """Something to probe.

    Args:
        name: what tables and figures call it.
        channels: C.
        build: makes it for maps of (H, W), in eval mode, in float64, with random weights.
    """

    name: str
    channels: int
    build: Callable[[tuple[int, int]], nn.Module]


def subject_of(spec: str, channels: int = CHANNELS) -> Subject:
    """Return a mixer given as a command line names it.

    Args:
        spec: a registered name or the path of a class, `package.module.Class`, and options behind a colon, such as
            'WindowAttention:head_channels=8,shift=True'; `channels` may be among them.
        channels: C, unless the options say so.

    Raises:
        UserError: an option that cannot be read, an unknown mixer, or one that cannot be built like that.
    """
    name, _, text = spec.partition(':')
    options = {}
    for option in re.split(r',(?=\w+=)', text) if text else ():
        key, equals, value = option.partition('=')
        if not key.isidentifier() or not equals:
            raise UserError(
                f'{spec}: expected options like head_channels=8,shift=True behind the colon, got {option!r}'
            )
        options[key] = _literal(value)
    channels = options.pop('channels', channels)

    def build(size: tuple[int, int]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            mixer = build_mixer(
                dict(options, type=name), channels=channels, norm_cfg=dict(type='BN'), map_size=size
            )
        return randomised(mixer)

    try:
        build((4, 4))
    except (ValueError, TypeError, RuntimeError) as error:  # the last one from mmengine, for the path of no class
        raise UserError(f'{spec} with {channels} channels: {" ".join(str(error).split())}') from error
    return Subject(spec, channels, build)


def module_subject(name: str, module: nn.Module, channels: int) -> Subject:
    """Return a module of one's own as a subject; it is copied, and the copy's weights are made random."""
    return Subject(name, channels, lambda size: randomised(copy.deepcopy(module)))


def registered_mixers() -> list[str]:
    """The names of all mixers of this package."""
    from ... import mixers

    return sorted(mixers.__all__)


def randomised(module: nn.Module) -> nn.Module:
    """Make a module fit for probing, in place: eval mode, float64, and no weight hidden by its initial value.

    Nets start with biases of 0, gates of 0, norms of 1 and tiny random numbers, and a branch behind a 0 shows in
    no Jacobian. Constant vectors become numbers between 0.5 and 1.5, constant matrices random ones, and what was
    random keeps its pattern but not its size, so that a sum over inputs keeps theirs.
    """
    generator = torch.Generator().manual_seed(SEED)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    def uniform(like: torch.Tensor) -> torch.Tensor:
        return 0.5 + torch.rand(like.shape, generator=generator, dtype=like.dtype)

    module.eval().double()
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.numel():
                continue
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            if (parameter != parameter.flatten()[0]).any():
                parameter.mul_(fan_in**-0.5 / parameter.square().mean().sqrt())
            elif parameter.dim() > 1:
                parameter.copy_(normal(parameter) * fan_in**-0.5)
            else:
                parameter.copy_(uniform(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith('running_mean'):
                buffer.copy_(normal(buffer) * 0.3)
            elif name.endswith('running_var'):
                buffer.copy_(uniform(buffer))
    return module


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word without quotes
        return text
