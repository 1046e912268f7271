"""The effective receptive field: how much every pixel of the image moves the centre of a map inside the network.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (NeurIPS
2016), section 2: the gradient of the central unit with respect to the image, averaged over inputs and, here, in
absolute value. A unit has many channels, which are summed with random signs, other ones for each sample: their
plain sum would be constant behind a LayerNorm and have no gradient at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from ..backbones import DWNet, IsotropicNet
from ..errors import UserError
from .inspected import Inspected

SHARES = (0.5, 0.95)  # of the whole field, that squares are drawn around
FLOOR = 1e-4  # of the largest value: where the colours end


def receptive_fields(
    backbone: nn.Module,
    images: Tensor,
    samples: int = 16,
    random: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, tuple[Tensor, tuple[float, float]]]:
    """Measure the effective receptive field of the centres of a backbone's maps.

    Of a DWNet, the maps of its stages; of an IsotropicNet, those after each quarter of its blocks; of any other
    backbone, the maps that it returns.

    Args:
        backbone: in eval mode.
        images: one, (1, C, H, W), as the network sees it.
        samples: how many gradients are averaged.
        random: take images of random numbers instead, with mean 0 and deviation 1, another one for each sample.
        progress: called after each sample.

    Returns:
        By the name of the map: the mean of the absolute gradients, over channels of the image too, (H, W), and the
        centre of the unit in pixels, (y, x).

    Raises:
        UserError: the backbone returns no map.
    """
    generator = torch.Generator().manual_seed(0)
    fields: dict[str, Tensor] = {}
    centres = {}
    for _ in range(samples):
        seen = torch.randn(images.shape, generator=generator).to(images) if random else images.detach().clone()
        seen.requires_grad_()
        with torch.enable_grad():
            units = _central_units(backbone, seen)
        for name, (unit, centre) in units.items():
            signs = torch.randint(2, unit.shape, generator=generator).to(unit) * 2 - 1
            (gradient,) = torch.autograd.grad((unit * signs).sum(), seen, retain_graph=True)
            field = gradient[0].abs().mean(0) / samples
            fields[name] = fields[name] + field if name in fields else field
            centres[name] = centre
        progress()
    return {name: (field.cpu(), centres[name]) for name, field in fields.items()}


def _central_units(backbone: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, tuple[float, float]]]:
    """The central unit of each map, (C,), and its centre in pixels."""
    maps = {}
    modules = _inner_maps(backbone)
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: maps.update({name: out}))
        for name, module in modules.items()
    ]
    try:
        outputs = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    if not modules:
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        maps = {f'output {i}': out for i, out in enumerate(outputs) if isinstance(out, Tensor) and out.dim() == 4}
    if not maps:
        raise UserError(
            f'backbone {type(backbone).__name__} returns no maps, so they have no centres: expected such of '
            '(B, C, H, W); see the arguments of the backbone, such as out_type, for --cfg-options'
        )
    tokens = backbone.tokens if isinstance(backbone, IsotropicNet) else 0
    units = {}
    for name, of_map in maps.items():
        size = tuple(of_map.shape[2:])
        if tokens:  # (1, C, 1, T + H * W)
            size = tuple(-(-side // backbone.patch_size) for side in images.shape[2:])
            of_map = of_map[:, :, 0, tokens:].unflatten(2, size)
        row, column = size[0] // 2, size[1] // 2
        centre = ((row + 0.5) * images.shape[2] / size[0], (column + 0.5) * images.shape[3] / size[1])
        units[name] = (of_map[0, :, row, column], centre)
    return units


def _inner_maps(backbone: nn.Module) -> dict[str, nn.Module]:
    """The modules of this package's nets whose outputs are looked at, by the names of those."""
    if isinstance(backbone, DWNet):
        return {f'stage {i}': stage.blocks[-1] for i, stage in enumerate(backbone.stages)}
    if isinstance(backbone, IsotropicNet):
        depth = len(backbone.blocks)
        last = sorted({-(-depth * quarter // 4) - 1 for quarter in range(1, 5)})
        return {f'block {i}': backbone.blocks[i] for i in last}
    return {}


def square_with(field: Tensor, centre: tuple[float, float], share: float) -> float:
    """The side, in pixels, of the smallest square around the centre that holds a share of a field."""
    rows, columns = (torch.arange(side) + 0.5 for side in field.shape)
    reach = torch.maximum((rows - centre[0]).abs()[:, None], (columns - centre[1]).abs()[None])
    reach, order = reach.flatten().sort()
    held = field.flatten()[order].double().cumsum(0)
    index = int((held < share * held[-1]).sum())
    return 2 * float(reach[min(index, len(reach) - 1)]) + 1


def draw(
    inspected: Inspected,
    fields: dict[str, tuple[Tensor, tuple[float, float]]],
    of: str,
    path: Path,
) -> Path:
    """Draw receptive fields on a logarithmic scale, relative to the largest value of each, beside the image.

    Args:
        inspected: names the config, and has the image.
        fields: as `receptive_fields` returns them.
        of: what they were measured on, for the title.
        path: PNG file.

    Returns:
        The file.
    """
    height, width = inspected.shown.shape[:2]
    panel = 3.0 * width / height
    figure = Figure(figsize=(panel * (len(fields) + 1) + 0.9, 4.9), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(fields) + 1, squeeze=False)[0]
    panels[0].imshow(inspected.shown, extent=(0, width, height, 0))
    panels[0].set_title('what the network sees\n', fontsize=10)
    colors = colormaps['inferno'].with_extremes(bad='#c8c8c8')
    for one, (name, (field, centre)) in zip(panels[1:], fields.items(), strict=True):
        values = field.double().numpy()
        largest = max(values.max(), np.finfo(np.float64).tiny)
        relative = np.where(values == 0, np.nan, np.clip(values / largest, FLOOR, 1))
        image = one.imshow(relative, norm=LogNorm(FLOOR, 1), cmap=colors, extent=(0, width, height, 0))
        sides = [square_with(field, centre, share) for share in SHARES]
        for side, line in zip(sides, ('-', '--'), strict=True):
            corner = (centre[1] - side / 2, centre[0] - side / 2)
            one.add_patch(Rectangle(corner, side, side, fill=False, ec='#56B4E9', ls=line, lw=1.4))
        words = ', '.join(f'{share:.0%} in {side:.0f} px' for share, side in zip(SHARES, sides, strict=True))
        one.set_title(f'{name}\n{words}', fontsize=10)
        one.set(xlim=(0, width), ylim=(height, 0))
    for one in panels:
        one.tick_params(labelsize=7)
    bar = figure.colorbar(image, ax=panels, location='bottom', aspect=60, shrink=0.6)
    bar.set_label('mean absolute gradient, relative to the largest; grey: none at all', fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(f'{inspected.name}\neffective receptive field of the central unit, on {of}', fontsize=11)
    figure.savefig(path, dpi=110)
    return path
