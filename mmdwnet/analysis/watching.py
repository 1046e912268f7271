"""A mixer of a network while the network sees an image: what it sums, and with which weights.

Nothing here knows any mixer: what a block gives to its mixer is caught on its way, and the weights are derivatives
of `mix` (`probe/weights.py`). So kernels that were learned, kernels that were predicted for this image or this
position, and attention are found in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbones import DWNet
from ..errors import UserError
from ..mixers.base import SequenceMixer, TokenMixer, as_map, as_sequence
from .probe.weights import weights_at

# an output: (row, column) of the map, or the number of a token beside it
Place = tuple[int, int] | int
DEFAULT_POSITIONS = ('0.5,0.5', '0.25,0.25', '0.25,0.75', '0.75,0.25', '0.75,0.75')


@dataclass(frozen=True)
class Block:
    """A block of a backbone, by its place in it.

    Args:
        key: 'stage.block' of a pyramid, 'block' of an isotropic net, counted from 0 as in the names of weights.
        mixer: its token mixer.
        stride: pixels between two positions of its map.
    """

    key: str
    mixer: TokenMixer
    stride: int


def find_block(backbone: nn.Module, key: str | None = None) -> Block:
    """Find a block of a backbone.

    Args:
        backbone: a DWNet or IsotropicNet.
        key: as in `Block`; None for the last block of the third stage, or the one in the middle of a net of
            blocks of one size.

    Raises:
        UserError: no such block, or a backbone without mixers of this package.
    """
    mixers = {
        '.'.join(part for part in name.split('.') if part.isdigit()): module
        for name, module in backbone.named_modules()
        if isinstance(module, TokenMixer) and name.endswith('.mixer')
    }
    if not mixers:
        raise UserError(
            f'backbone {type(backbone).__name__} has no token mixer of this package, so there are no weights to '
            'find: expected a DWNet or IsotropicNet; --erf works for any backbone'
        )
    pyramid = isinstance(backbone, DWNet)
    if key is None:
        stage = f'{min(2, len(backbone.depths) - 1)}.' if pyramid else ''
        inside = [name for name in mixers if name.startswith(stage)]
        key = inside[-1] if pyramid else inside[len(inside) // 2]
    if key not in mixers:
        raise UserError(f'--block {key}: {type(backbone).__name__} has the blocks {", ".join(mixers)}')
    stride = 4 * 2 ** int(key.split('.')[0]) if pyramid else backbone.patch_size
    return Block(key, mixers[key], stride)


def places_of(positions: Sequence[str] | None, size: Sequence[int], stride: int) -> list[Place]:
    """The places of a map that positions of an image are in, each once.

    Args:
        positions: such as '48,20' (y and x in pixels) or '0.5,0.25' (in parts of the height and width), None for
            the centre and four around it.
        size: (H, W) of the image, as the network sees it.
        stride: pixels between two places.

    Raises:
        UserError: not a position, or one outside of the image.
    """
    places = []
    for text in positions or DEFAULT_POSITIONS:
        parts = text.split(',')
        try:
            pixels = [
                int(float(part) * side) if '.' in part else int(part)
                for part, side in zip(parts, size, strict=True)
            ]
        except ValueError as error:
            raise UserError(
                f'--positions {text}: expected y,x in pixels, such as 48,20, or in parts of the image, such as '
                '0.5,0.25'
            ) from error
        if not all(0 <= pixel < side for pixel, side in zip(pixels, size, strict=True)):
            raise UserError(
                f'--positions {text} lies outside of the image, which the network sees as {size[0]} x {size[1]} '
                'pixels (height x width); parts of it are below 1'
            )
        places.append((pixels[0] // stride, pixels[1] // stride))
    return list(dict.fromkeys(places))


class _InARow(TokenMixer):
    """A mixer of sequences as one of maps of a single row, (1, C, 1, T + H * W)."""

    def __init__(self, mixer: SequenceMixer, size: tuple[int, int]):
        super().__init__()
        self.mixer, self.size = mixer, size

    def mix(self, values: Tensor, source: Tensor) -> Tensor:
        mixed = self.mixer.mix_sequence(as_sequence(values), as_sequence(source), self.size)
        return as_map(mixed, (1, -1))


@dataclass(frozen=True)
class Seen:
    """What a mixer was given when its network saw an image, and its weights for that.

    Args:
        mixer: on maps; one of sequences in the form of one row.
        values, source: (1, C, H, W) and (1, any, H, W), or (1, C, 1, T + H * W) and so on.
        size: (H, W) of the map, with what was padded for the mixer.
        tokens: T, beside the map; None for maps.
    """

    mixer: TokenMixer
    values: Tensor
    source: Tensor
    size: tuple[int, int]
    tokens: int | None

    def weights(self, place: Place, channel: int) -> tuple[Tensor, Tensor]:
        """The weights of one output: of the map, (C, H, W), and of the tokens beside it, (C, T)."""
        weights = weights_at(self.mixer, self.values, self.source, self._index(place), channel)
        if self.tokens is None:
            return weights, weights.new_zeros(len(weights), 0)
        weights = weights[:, 0]  # (C, T + H * W)
        return weights[:, self.tokens :].unflatten(1, self.size), weights[:, : self.tokens]

    def groups(self, places: Sequence[Place]) -> list[range]:
        """The channels, cut into neighbours that have the same weights at all of the places."""
        channels = self.values.shape[1]
        weights, of_tokens = self.weights(places[0], 0)
        if weights[1:].any() or of_tokens[1:].any():  # channels are mixed: no two have weights of the same values
            return [range(channel, channel + 1) for channel in range(channels)]
        values = self.values.detach().requires_grad_()
        with torch.enable_grad():
            mixed = self.mixer.mix(values, self.source)
        same = torch.ones(channels - 1, dtype=torch.bool, device=values.device)
        for place in places:
            row, column = self._index(place)
            # each channel of the sum has values of its own, so that this is the weights of all of them at once
            (weights,) = torch.autograd.grad(mixed[0, :, row, column].sum(), values, retain_graph=True)
            weights = weights[0].flatten(1)
            apart = (weights[1:] - weights[:-1]).abs().amax(1)
            same &= apart <= 1e-4 * weights.abs().amax()  # products summed in another order differ by less
        starts = [0, *(c + 1 for c in range(channels - 1) if not same[c]), channels]
        return [range(a, b) for a, b in zip(starts[:-1], starts[1:], strict=True)]

    def _index(self, place: Place) -> tuple[int, int]:
        if self.tokens is None:
            return place
        return 0, place if isinstance(place, int) else self.tokens + place[0] * self.size[1] + place[1]


def watch(backbone: nn.Module, mixer: TokenMixer, images: Tensor) -> Seen:
    """Run a backbone on one image, (1, C, H, W), and keep what one of its mixers was given.

    What is kept is what the mixer itself sums, after any padding that it or its block does.
    """
    in_sequence = isinstance(mixer, SequenceMixer)
    step = 'mix_sequence' if in_sequence else 'mix'
    original, given = getattr(mixer, step), []

    def keep(*arguments):
        given.append(arguments)
        return original(*arguments)

    setattr(mixer, step, keep)  # on the instance: it hides the method until it is deleted
    try:
        with torch.no_grad():
            backbone(images)
    finally:
        delattr(mixer, step)
    values, source, *size = given[-1]
    if not in_sequence:
        return Seen(mixer, values, source, tuple(values.shape[2:]), None)
    size = size[0]
    tokens = values.shape[1] - size[0] * size[1]
    return Seen(_InARow(mixer, size), as_map(values, (1, -1)), as_map(source, (1, -1)), size, tokens)
