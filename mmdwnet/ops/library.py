"""The ops as torch knows them, `torch.ops.mmdwnet.*`: kernels per device, autograd, autocast, fake tensors.

One entry per op and device: the kernel of the CPU and that of CUDA look up the implementation that the caller
named, at run time, so that `torch.compile` and `torch.export` see one operation. Written with the part of
`torch.library` that torch 2.1 has too. Gradients are ops of their own; differentiating them again raises.

`depthwise.py` is the front door: it checks shapes and knows the defaults.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import implementations
from .autocast import autocast_together

LIBRARY = torch.library.Library('mmdwnet', 'DEF')
OPS = torch.ops.mmdwnet


def _define(name: str, signature: str, fake: Callable, autograd: type[torch.autograd.Function]) -> None:
    """Register an op and what every dispatch key does with it.

    Args:
        name: of the op, and of its function in every implementation.
        signature: schema of arguments and results, with `str impl` as the last argument.
        fake: shapes of the results, for the meta device and fake tensors.
        autograd: what runs when a gradient may be asked for.
    """
    LIBRARY.define(f'{name}{signature}')
    op = getattr(OPS, name)

    def kernel(*args):
        *inputs, impl = args
        return implementations.find(name, impl, inputs[0])(*inputs)

    for key in ('CPU', 'CUDA'):
        LIBRARY.impl(name, kernel, key)
    LIBRARY.impl(name, lambda *args: fake(*args[:-1]), 'Meta')

    def differentiable(*args):
        # half of what a call costs beside its work, and in a backward pass no one asks for it
        asked = torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0
        return autograd.apply(*args) if asked else _below_autograd(op, *args)

    LIBRARY.impl(name, differentiable, 'Autograd')
    for device_type, key in (('cpu', 'AutocastCPU'), ('cuda', 'AutocastCUDA')):
        LIBRARY.impl(name, _autocast_kernel(op, device_type, key, casts='backward' not in name), key)


def _autocast_kernel(op: Callable, device_type: str, key: str, casts: bool) -> Callable:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(*args):
        args = autocast_together(device_type, *args) if casts else args
        with torch._C._ExcludeDispatchKeyGuard(keys):  # nor do the operations inside a kernel cast
            return op(*args)

    return kernel


def _below_autograd(op: Callable, *args):
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def _gradient_of(op_name: str) -> type[torch.autograd.Function]:
    """Autograd of a gradient op: it runs, and raises when it is differentiated again."""

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            return _below_autograd(getattr(OPS, op_name), *args)

        @staticmethod
        def backward(ctx, *grads):
            raise RuntimeError(
                f'mmdwnet::{op_name} is itself a gradient and has none: for second derivatives use '
                "impl='reference'"
            )

    return Gradient


def _with_gradient(op_name: str, tensors: int, has_bias: bool = False) -> type[torch.autograd.Function]:
    """Autograd of an op by its gradient op, `<name>_backward(grad, *tensors, *options)`.

    Args:
        op_name: of the op.
        tensors: how many arguments the gradient op takes again and returns a gradient of; they come first.
        has_bias: whether a bias per channel, or None, stands behind them; its gradient is a sum.
    """

    class WithGradient(torch.autograd.Function):
        # without `setup_context`: where there is one, torch inspects the signature of `forward` in every call
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs[:tensors])
            ctx.options = inputs[tensors + has_bias :]
            return _below_autograd(getattr(OPS, op_name), *inputs)

        @staticmethod
        def backward(ctx, grad):
            grads = list(getattr(OPS, f'{op_name}_backward')(grad, *ctx.saved_tensors, *ctx.options))
            if has_bias:
                grads.append(grad.sum((0, 2, 3)) if ctx.needs_input_grad[tensors] else None)
            return *grads, *[None] * len(ctx.options)

    return WithGradient


def _like(*which: int) -> Callable:
    """A fake kernel whose results are like those arguments."""
    return lambda *args: tuple(torch.empty_like(args[i]) for i in which)


def _like_x(x: Tensor, *args) -> Tensor:
    return torch.empty_like(x)


_BIASED = '(Tensor x, Tensor weight, Tensor? bias, str impl) -> Tensor'
_GENERATED = 'Tensor x, Tensor feature, Tensor weight, Tensor bias, int groups, int kernel_size, str impl'
for _op, _signature, _tensors, _has_bias in (
    ('depthwise_conv2d', _BIASED, 2, True),
    ('dynamic_depthwise_conv2d', _BIASED, 2, True),
    ('inhomogeneous_depthwise_conv2d', '(Tensor x, Tensor weight, str impl) -> Tensor', 2, False),
    ('generated_depthwise_conv2d', f'({_GENERATED}) -> Tensor', 4, False),
):
    _define(_op, _signature, _like_x, _with_gradient(_op, _tensors, _has_bias))
for _op in ('depthwise_conv2d', 'dynamic_depthwise_conv2d', 'inhomogeneous_depthwise_conv2d'):
    _define(
        f'{_op}_backward',
        '(Tensor grad, Tensor x, Tensor weight, str impl) -> (Tensor, Tensor)',
        _like(1, 2),
        _gradient_of(f'{_op}_backward'),
    )
_define(
    'generated_depthwise_conv2d_backward',
    f'(Tensor grad, {_GENERATED}) -> (Tensor, Tensor, Tensor, Tensor)',
    _like(1, 2, 3, 4),
    _gradient_of('generated_depthwise_conv2d_backward'),
)
