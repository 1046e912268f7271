"""Depth-wise convolutions whose kernels are data: one per image, or one per image and position.

Source: Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution" (ICLR
2022), section 3: homogeneous dynamic weights are shared by all positions of an image, inhomogeneous ones are
not. Any device, one floating dtype for all arguments (under autocast: its dtype), empty batches too. The ops use
stride 1, pad with K // 2 zeros on every side, and compute a correlation, as `torch.nn.functional.conv2d` does.

They span a ladder, which the tests hold them to: inhomogeneous with weights that are constant over the map
= dynamic; dynamic with weights that are constant over the batch = static = `conv2d(..., groups=C)`.

Every op takes `impl`: 'reference' is the plain torch of `reference.py`; the others are those of `available_impls`,
and raise RuntimeError where they cannot run; 'auto' chooses by the device. Results are equal up to the rounding of
sums. 'compiled' makes a difference for kernels per position alone. Second derivatives need 'reference'; the others
raise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference
from .autocast import autocast_together
from .compiled import takes_axis_of_groups
from .contracts import check_depthwise, check_dynamic, check_generated, check_inhomogeneous
from .cpu import lifted
from .implementations import check_impl, impl_in_compiled_code, triton_runs
from .library import OPS
from .tracing import freezes_weights, is_compiled, is_exported


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, impl: str = 'auto') -> Tensor:
    """Static depth-wise convolution, `conv2d(x, weight, bias, padding=K // 2, groups=C)`.

    torch's own forward is fast on a CPU, its weight gradient is not, and 'auto' takes another one there. On a GPU
    'auto' takes Triton's kernels, which took half of cuDNN's time in bfloat16 (docs/speed.md), outside exported
    programs.

    Args:
        x: features, (B, C, H, W).
        weight: kernels, (C, 1, K, K), K odd.
        bias: one value per channel, (C,).
        impl: 'auto', 'reference', 'tiled' or 'triton'.

    Returns:
        Tensor (B, C, H, W).

    Raises:
        ValueError: a shape, a dtype or an impl that does not fit the above.
        RuntimeError: 'triton' cannot run here.
    """
    if impl not in ('auto', 'reference', 'tiled', 'triton'):
        raise ValueError(
            f"depthwise_conv2d has no impl={impl!r}: expected 'auto', 'reference', 'tiled' or 'triton'"
        )
    x, weight, bias = autocast_together(x.device.type, x, weight, bias)
    check_depthwise(x, weight, bias)
    if impl == 'auto':
        impl = _impl_of_static(x, weight)
        if impl == 'reference':
            return lifted(reference.depthwise, x, weight, bias)
    if impl == 'reference':
        return reference.depthwise(x, weight, bias)
    return OPS.depthwise_conv2d(x, weight, bias, impl)


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, impl: str = 'auto') -> Tensor:
    """Depth-wise convolution with a kernel per image and channel.

    ``out[b, c, y, x] = bias[c] + sum_ij weight[b, c, i, j] * x[b, c, y + i - K // 2, x + j - K // 2]``

    Args:
        x: features, (B, C, H, W).
        weight: kernels, (B, C, K, K), K odd.
        bias: one value per channel, (C,), shared by the images.
        impl: see the top of this file.

    Returns:
        Tensor (B, C, H, W).

    Raises:
        ValueError: a shape, a dtype or an impl that does not fit the above.
        RuntimeError: a named impl cannot run here.
    """
    check_impl(impl)
    x, weight, bias = autocast_together(x.device.type, x, weight, bias)
    check_dynamic(x, weight, bias)
    if impl == 'reference':
        return reference.dynamic(x, weight, bias)
    return OPS.dynamic_depthwise_conv2d(x, weight, bias, impl)


def inhomogeneous_depthwise_conv2d(x: Tensor, weight: Tensor, impl: str = 'auto') -> Tensor:
    """Depth-wise convolution with a kernel per image, position and group of channels.

    Channel c uses the kernels of group ``c // (C / G)``:

    ``out[b, c, y, x] = sum_ij weight[b, g, i, j, y, x] * x[b, c, y + i - K // 2, x + j - K // 2]``

    Args:
        x: features, (B, C, H, W).
        weight: kernels, (B, G, K, K, H, W), G divides C, K odd; any strides, such as those of a 1x1 convolution's
            channels_last output, and its gradient has them too.
        impl: see the top of this file.

    Returns:
        Tensor (B, C, H, W).

    Raises:
        ValueError: a shape, a dtype or an impl that does not fit the above.
        RuntimeError: a named impl cannot run here.
    """
    check_impl(impl)
    x, weight = autocast_together(x.device.type, x, weight)
    check_inhomogeneous(x, weight)
    if impl == 'reference':
        return reference.inhomogeneous(x, weight)
    impl = _resolved(impl, x)
    return OPS.inhomogeneous_depthwise_conv2d(x, weight, impl)


def generated_depthwise_conv2d(
    x: Tensor,
    feature: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    kernel_size: int,
    impl: str = 'auto',
) -> Tensor:
    """Generate the kernels of every position from a feature, and apply them, without storing them.

    Equal to ``inhomogeneous_depthwise_conv2d(x, kernels)`` with ``kernels = weight @ feature + bias`` at every
    position, as (B, G, K, K, H, W). The backward pass generates them again: what is kept for it is the arguments,
    so that memory grows with C + R and not with G * K * K.

    Args:
        x: features, (B, C, H, W), or with the groups on an axis of their own, (B, G, C / G, H, W); in which order
            the channels of either lie in memory changes the time alone.
        feature: what the kernels are made of, (B, R, H, W).
        weight: generator, (G * K * K, R): rows go through G, then a kernel's rows, then its columns.
        bias: of the generator, (G * K * K,).
        groups: G, divides C.
        kernel_size: K, odd.
        impl: see the top of this file.

    Returns:
        Tensor like x.

    Raises:
        ValueError: a shape, a dtype or an impl that does not fit the above.
        RuntimeError: a named impl cannot run here.
    """
    check_impl(impl)
    x, feature, weight, bias = autocast_together(x.device.type, x, feature, weight, bias)
    check_generated(x, feature, weight, bias, groups, kernel_size)
    impl = _resolved(impl, x)
    if x.dim() == 5 and not (impl == 'compiled' and takes_axis_of_groups(groups)):
        arguments = feature, weight, bias, groups, kernel_size, impl
        flat = generated_depthwise_conv2d(x.flatten(1, 2), *arguments)  # (B, C, H, W)
        return flat.view(x.shape)
    if impl == 'reference':
        return reference.generated(x, feature, weight, bias, groups, kernel_size)
    return OPS.generated_depthwise_conv2d(x, feature, weight, bias, groups, kernel_size, impl)


def wants_groups_fastest(x: Tensor, groups: int, impl: str) -> bool:
    """Whether whoever makes a map like x shall make it with its groups fastest in memory, by permuted weights.

    So it is where the compiled loop runs and torch.compile permutes the weights once. In every call, a net takes a
    fifth more time, and torch 2.11 does not compile float32 convolutions whose weights are computed. Not for one
    image: where its size is a variable, torch 2.11 takes the permuted memory to be in another format.
    """
    if not is_compiled() or not freezes_weights() or x.shape[0] == 1:
        return False
    return _resolved(impl, x) == 'compiled' and takes_axis_of_groups(groups)


def _impl_of_static(x: Tensor, weight: Tensor) -> str:
    if x.device.type == 'cpu':
        return 'tiled' if torch.is_grad_enabled() and weight.requires_grad else 'reference'
    return 'auto' if triton_runs(x.device.type) and not is_exported() else 'reference'


def _resolved(impl: str, x: Tensor) -> str:
    return impl_in_compiled_code(x.device.type) if impl == 'auto' and is_compiled() else impl
