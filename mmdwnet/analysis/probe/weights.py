"""The weights with which one output of a mixer sums the values: a row of a Jacobian.

`mix(values, source)` is linear in the values up to a constant (`mixers/base.py`), so its derivative with respect
to them is the weights themselves, whatever the mixer is: kernels that were learned, kernels that were predicted,
or attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...mixers.base import TokenMixer


def weights_at(
    mixer: TokenMixer, values: Tensor, source: Tensor, position: tuple[int, int], channel: int
) -> Tensor:
    """Return the weights of all values in one output of the mixer.

    Args:
        mixer: any token mixer. A mode of training that draws random numbers would draw them here too: give it in
            eval mode.
        values, source: of one image, (1, C, H, W) and (1, any, H, W), as `mixer.prepare(x)` returns them.
        position: (row, column) of the output; negative numbers count from the end.
        channel: of the output.

    Returns:
        Tensor (C, H, W), without a graph: entry (c, i, j) is how much `values[0, c, i, j]` counts in the output.

    Raises:
        ValueError: the values of more than one image.
    """
    if values.dim() != 4 or values.shape[0] != 1:
        raise ValueError(f'weights_at takes the values of one image, (1, C, H, W), got {tuple(values.shape)}')
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        output = mixer.mix(values, source.detach())[0, channel, position[0], position[1]]
        (weights,) = torch.autograd.grad(output, values)
    return weights[0]
