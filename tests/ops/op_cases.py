"""Arguments for every op, and what an implementation is compared by: its result and all its gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmdwnet import ops

NAMES = {
    'depthwise': 'depthwise_conv2d',
    'dynamic': 'dynamic_depthwise_conv2d',
    'inhomogeneous': 'inhomogeneous_depthwise_conv2d',
    'generated': 'generated_depthwise_conv2d',
}
OPS = tuple(NAMES)


def function(op: str, groups: int, kernel_size: int) -> Callable:
    """The op of tensors alone, and of `impl`."""
    if op == 'generated':
        return partial(ops.generated_depthwise_conv2d, groups=groups, kernel_size=kernel_size)
    return getattr(ops, NAMES[op])


def tensors(op: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random arguments for a shape (B, C, G, H, W, K)."""
    b, c, g, h, w, k = shape
    gen = torch.Generator().manual_seed(100 * h + w)
    sizes = {
        'depthwise': [(c, 1, k, k), (c,)],
        'dynamic': [(b, c, k, k), (c,)],
        'inhomogeneous': [(b, g, k, k, h, w)],
        'generated': [(b, 5, h, w), (g * k * k, 5), (g * k * k,)],
    }[op]
    return [torch.randn(size, generator=gen, dtype=torch.float64).to(dtype) for size in [(b, c, h, w), *sizes]]


def results(call: Callable, arguments: list[Tensor], laid_out: Callable = lambda tensor: tensor) -> list[Tensor]:
    """The result, and the gradients of all arguments for random cotangents that `laid_out` lays out in memory."""
    # as views: requires_grad on a copy that keeps the strides, for the memory layout is a part of the case
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    out = call(*leaves)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(out)
    grads = torch.autograd.grad(out, leaves, laid_out(cotangent), allow_unused=True)
    zeros = (torch.zeros_like(leaf) for leaf in leaves)  # an empty batch leaves the reference's weights out
    return [out.detach(), *(zero if grad is None else grad for grad, zero in zip(grads, zeros, strict=True))]


def assert_equal(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Equal shapes, dtypes, and values up to `tolerance` times the largest one."""
    for index, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        assert ours.shape == theirs.shape, index
        assert ours.dtype == theirs.dtype or theirs.dtype == torch.float64, index
        scale = theirs.double().abs().max().item() if theirs.numel() else 0.0
        error = (ours.double() - theirs.double()).abs().max().item() if theirs.numel() else 0.0
        assert error <= tolerance * scale, f'result {index}: off by {error:.2e}, of {scale:.2e}'
