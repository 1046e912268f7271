"""One measurement of an op: `mmdwnet.ops` with every implementation, beside the published forms of the same sums.

The shapes are those of the four stages of DWNet at 224 x 224. Kernels of an inhomogeneous op lie in memory as the
1x1 convolution that makes them leaves them, in the layout of the case.

On a GPU a case is timed as a CUDA graph of one call for each of several sets of inputs, together far beyond the L2
cache: neither the host's launches nor what the cache still holds of the last call makes a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...backbones.archs import pyramid_arch
from ...ops import (
    available_impls,
    depthwise_conv2d,
    dynamic_depthwise_conv2d,
    generated_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
    pointwise_linear,
)
from .as_published import GROUPS, KERNEL_SIZE, REDUCTION, grouped_convolution, unfolded
from .cases import LAYOUTS, label_with
from .cuda_graphs import captured
from .nets import OURS, PUBLISHED
from .timing import Bundle, Run

# the order in memory of what a 1x1 convolution makes for a position: kernel after kernel, as the published
# checkpoints do, or tap after tap, as a generator with its rows in that order does
GROUP_FASTEST = 'inhomogeneous, group fastest'
INHOMOGENEOUS = ('inhomogeneous', GROUP_FASTEST)
OPS = ('static', 'dynamic', *INHOMOGENEOUS, 'generated')
OP_TASKS = ('forward', 'forward+backward')
OP_PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
# implementations that are not an `impl` of `mmdwnet.ops`
CONV2D = 'conv2d'  # static: torch's own depth-wise convolution
UNFUSED = 'unfused'  # generated: the generator's product, then the inhomogeneous op
UNFUSED_BY_GROUP = 'unfused, group fastest'  # the same in the other order in memory, which GPUs like better
AS_PUBLISHED = 'as published'
BEYOND_CACHE = 4  # times the L2 cache: what all sets of inputs take together, at least


@dataclass(frozen=True)
class OpCase:
    """A measurement of an op.

    Args:
        op: a name of `OPS`. 'generated' is the inhomogeneous one with the generator's last layer.
        impl: an `impl` of `mmdwnet.ops`, or `CONV2D`, `UNFUSED`, `UNFUSED_BY_GROUP`, `AS_PUBLISHED`.
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
        if self.impl == AS_PUBLISHED:
            return PUBLISHED
        return 'torch' if self.impl in (CONV2D, UNFUSED, UNFUSED_BY_GROUP) else OURS

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
    if op == 'static':  # on a CPU torch's forward is the only one
        return ('triton', CONV2D) if device == 'cuda' and 'triton' in available_impls(device) else (CONV2D,)
    others = () if op == GROUP_FASTEST else (AS_PUBLISHED,)  # which knows the other order alone
    if op == 'generated':
        others = (UNFUSED, *[UNFUSED_BY_GROUP] * (device == 'cuda'), AS_PUBLISHED)
    return (*available_impls(device), *others)


def sets_needed(moved_bytes: int, cache_bytes: int) -> int:
    """Return how many sets of inputs a cache cannot hold, by the bytes that a call of each moves."""
    return max(1, -(-BEYOND_CACHE * cache_bytes // moved_bytes))


class OpWorkshop:
    """Makes what cases need, all inputs once: cases that differ in implementation alone share them."""

    def __init__(self) -> None:
        self._sets: dict[OpCase, list[tuple[Tensor, ...]]] = {}

    def prepare(self, case: OpCase) -> Run | Bundle:
        """Return the call that a case times, or a bundle of such calls."""
        key = replace(case, impl='', compile='none')
        if key not in self._sets:
            self._sets[key] = _sets_of_inputs(case)
        function = _function(case)
        if case.compile != 'none':
            function = torch.compile(function, mode=_compile_mode(case), dynamic=False)
        calls = [_call(case, function, inputs) for inputs in self._sets[key]]
        return captured(calls) if case.device == 'cuda' else calls[0]


def shape_of(case: OpCase) -> OpCase:
    """Return what the cases of one op, shape, task and precision share; ratios are taken between such cases."""
    return replace(case, impl='', layout='', compile='')


def _sets_of_inputs(case: OpCase) -> list[tuple[Tensor, ...]]:
    device, number = torch.device(case.device), 1
    if case.device == 'cuda':
        number = sets_needed(case.moved_bytes(), torch.cuda.get_device_properties(device).L2_cache_size)
    # not torch's own generator, which a capture that failed leaves unusable
    generator = torch.Generator(device).manual_seed(0)
    return [_inputs(case, device, generator) for _ in range(number)]


def _compile_mode(case: OpCase) -> str | None:
    if case.device == 'cuda' and case.compile == 'max-autotune':
        return 'max-autotune-no-cudagraphs'  # a graph cannot be captured inside another
    return None if case.compile == 'default' else case.compile


def _call(case: OpCase, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Run:
    if case.task == 'forward':
        return lambda: _forward(function, inputs)
    for tensor in inputs:
        tensor.requires_grad_()
    cotangent = inputs[0].detach()  # as good as any of the shape and layout
    return lambda: torch.autograd.grad(function(*inputs), inputs, cotangent)


def _forward(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.inference_mode():
        return function(*inputs)


def _inputs(case: OpCase, device: torch.device, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=OP_PRECISIONS[case.precision])

    def random_map(channels: int) -> Tensor:
        return random(case.batch, channels, case.side, case.side).contiguous(memory_format=LAYOUTS[case.layout])

    x, kernel, weights = random_map(case.channels), (KERNEL_SIZE, KERNEL_SIZE), GROUPS * KERNEL_SIZE**2
    if case.op == 'static':
        return x, random(case.channels, 1, *kernel), random(case.channels)
    if case.op == 'dynamic':
        return x, random(case.batch, case.channels, *kernel), random(case.channels)
    if case.op in INHOMOGENEOUS:
        return x, _kernels(random_map(weights), case.op == GROUP_FASTEST)
    width = case.channels // REDUCTION
    return x, random_map(width), random(weights, width), random(weights)


def _function(case: OpCase) -> Callable[..., Tensor]:
    published = case.impl == AS_PUBLISHED
    if case.op == 'static':
        if case.impl == CONV2D:
            return lambda x, weight, bias: F.conv2d(
                x, weight, bias, padding=KERNEL_SIZE // 2, groups=case.channels
            )
        return lambda x, weight, bias: depthwise_conv2d(x, weight, bias, impl=case.impl)
    if case.op == 'dynamic':
        if published:
            return grouped_convolution
        return lambda x, weight, bias: dynamic_depthwise_conv2d(x, weight, bias, impl=case.impl)
    if case.op in INHOMOGENEOUS:
        if published:
            return unfolded
        return lambda x, weight: inhomogeneous_depthwise_conv2d(x, weight, impl=case.impl)
    if published:
        return _generated_as_published
    if case.impl in (UNFUSED, UNFUSED_BY_GROUP):
        return partial(_generated_unfused, case.impl == UNFUSED_BY_GROUP)
    return lambda x, feature, weight, bias: generated_depthwise_conv2d(
        x, feature, weight, bias, groups=GROUPS, kernel_size=KERNEL_SIZE, impl=case.impl
    )


def _kernels(generated: Tensor, group_fastest: bool) -> Tensor:
    """What a 1x1 convolution made, (B, G*K*K, H, W), as kernels (B, G, K, K, H, W)."""
    if group_fastest:
        return generated.unflatten(1, (KERNEL_SIZE, KERNEL_SIZE, GROUPS)).permute(0, 3, 1, 2, 4, 5)
    return generated.unflatten(1, (GROUPS, KERNEL_SIZE, KERNEL_SIZE))


def _generated_unfused(group_fastest: bool, x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    kernels = _kernels(pointwise_linear(feature, weight, bias), group_fastest)
    return inhomogeneous_depthwise_conv2d(x, kernels)


def _generated_as_published(x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    kernels = F.conv2d(feature, weight[:, :, None, None], bias)  # (B, G*K*K, H, W)
    return unfolded(x, _kernels(kernels, group_fastest=False))
