"""One measurement of an op: `mmdwnet.ops` with every implementation, beside the published forms of the same sums.

The shapes are those of the four stages of DWNet at 224 x 224. Kernels of an inhomogeneous op lie in memory as the
1x1 convolution that makes them leaves them, in the layout of the case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...backbones.archs import pyramid_arch
from ...ops import (
    available_impls,
    dynamic_depthwise_conv2d,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
)
from .as_published import GROUPS, KERNEL_SIZE, REDUCTION, grouped_convolution, unfolded
from .cases import LAYOUTS, label_with
from .nets import OURS, PUBLISHED

OPS = ('static', 'dynamic', 'inhomogeneous', 'generated')
OP_TASKS = ('forward', 'forward+backward')
OP_PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
# implementations that are not an `impl` of `mmdwnet.ops`
CONV2D = 'conv2d'  # static: torch's own depth-wise convolution, the floor under the others
UNFUSED = 'unfused'  # generated: the generator's convolution, then the inhomogeneous op
AS_PUBLISHED = 'as published'


@dataclass(frozen=True)
class OpCase:
    """A measurement of an op.

    Args:
        op: a name of `OPS`. 'generated' is the inhomogeneous one with the generator's last layer.
        impl: an `impl` of `mmdwnet.ops`, or `CONV2D`, `UNFUSED`, `AS_PUBLISHED`.
        channels: C; with it goes `side`, the height and width of the map.
        task: 'forward', without autograd, or 'forward+backward', with the gradients of all inputs.
        precision: a name of `OP_PRECISIONS`, the dtype of all tensors.
        layout: memory format of the maps.
        compile: a mode of `torch.compile`, or 'none'.
        batch: images.
        device: 'cpu' or 'cuda'.
    """

    op: str
    impl: str
    channels: int
    side: int
    task: str = 'forward'
    precision: str = 'float32'
    layout: str = 'channels_last'
    compile: str = 'none'
    batch: int = 8
    device: str = 'cpu'

    optional = False

    @property
    def label(self) -> str:
        label = f'{self.op} {self.channels}x{self.side}x{self.side}: {self.impl}'
        return label_with(label, self.layout, self.compile, 'channels_last')

    @property
    def family(self) -> str:
        return PUBLISHED if self.impl == AS_PUBLISHED else 'torch' if self.impl in (CONV2D, UNFUSED) else OURS

    @property
    def items(self) -> int:
        return self.batch

    def skipped(self) -> str | None:
        return None

    def as_json(self) -> dict:
        return asdict(self)

    def moved_bytes(self) -> int:
        """The bytes that a forward pass has to move at least: every input read once, the output written once."""
        inputs = _inputs(self, torch.device('meta'))
        return sum(tensor.nbytes for tensor in inputs) + inputs[0].nbytes


def stage_shapes(arch: str) -> list[tuple[int, int]]:
    """Return channels and side of the map of every stage at 224 x 224."""
    sizes = pyramid_arch(arch)
    return [(sizes.embed_dims * 2**i, 56 // 2**i) for i in range(len(sizes.depths))]


def impls_of(op: str, device: str) -> tuple[str, ...]:
    """Return the implementations that an op is measured with on a device."""
    if op == 'static':
        return (CONV2D,)
    others = (UNFUSED, AS_PUBLISHED) if op == 'generated' else (AS_PUBLISHED,)
    return (*available_impls(device), *others)


class OpWorkshop:
    """Makes what cases need, all inputs once: cases that differ in implementation alone share them."""

    def __init__(self) -> None:
        self._inputs: dict[OpCase, tuple[Tensor, ...]] = {}

    def prepare(self, case: OpCase) -> Callable[[], object]:
        """Return the call that a case times."""
        key = replace(case, impl='', compile='none')
        if key not in self._inputs:
            self._inputs[key] = _inputs(case, torch.device(case.device))
        inputs = self._inputs[key]
        function = _function(case)
        if case.compile != 'none':
            mode = None if case.compile == 'default' else case.compile
            function = torch.compile(function, mode=mode, dynamic=False)
        if case.task == 'forward':
            return lambda: _forward(function, inputs)
        for tensor in inputs:
            tensor.requires_grad_()
        cotangent = inputs[0].detach()  # as good as any of the shape and layout
        return lambda: torch.autograd.grad(function(*inputs), inputs, cotangent)


def _forward(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode():
        return function(*inputs)


def _inputs(case: OpCase, device: torch.device) -> tuple[Tensor, ...]:
    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=OP_PRECISIONS[case.precision])

    def random_map(channels: int) -> Tensor:
        return random(case.batch, channels, case.side, case.side).contiguous(memory_format=LAYOUTS[case.layout])

    x, kernel, weights = random_map(case.channels), (KERNEL_SIZE, KERNEL_SIZE), GROUPS * KERNEL_SIZE**2
    if case.op == 'static':
        return x, random(case.channels, 1, *kernel), random(case.channels)
    if case.op == 'dynamic':
        return x, random(case.batch, case.channels, *kernel), random(case.channels)
    if case.op == 'inhomogeneous':
        return x, random_map(weights).unflatten(1, (GROUPS, *kernel))  # (B, G, K, K, H, W)
    width = case.channels // REDUCTION
    return x, random_map(width), random(weights, width), random(weights)


def _function(case: OpCase) -> Callable[..., Tensor]:
    published = case.impl == AS_PUBLISHED
    if case.op == 'static':
        return lambda x, weight, bias: F.conv2d(x, weight, bias, padding=KERNEL_SIZE // 2, groups=case.channels)
    if case.op == 'dynamic':
        if published:
            return grouped_convolution
        return lambda x, weight, bias: dynamic_depthwise_conv2d(x, weight, bias, impl=case.impl)
    if case.op == 'inhomogeneous':
        if published:
            return unfolded
        return lambda x, weight: inhomogeneous_depthwise_conv2d(x, weight, impl=case.impl)
    if case.impl in (UNFUSED, AS_PUBLISHED):
        apply = unfolded if published else inhomogeneous_depthwise_conv2d

        def generate_and_apply(x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            kernels = F.conv2d(feature, weight[:, :, None, None], bias)  # (B, G*K*K, H, W)
            return apply(x, kernels.unflatten(1, (GROUPS, KERNEL_SIZE, KERNEL_SIZE)))

        return generate_and_apply
    return lambda x, feature, weight, bias: generated_depthwise_conv2d(
        x, feature, weight, bias, groups=GROUPS, kernel_size=KERNEL_SIZE, impl=case.impl
    )
