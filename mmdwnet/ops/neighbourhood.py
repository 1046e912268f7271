"""Neighbourhood attention: every query attends to the K x K positions nearest to it.

Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), section 3.1. At the border of a map the
neighbourhood is moved inside and not padded, so that every query has K * K keys. The relative position bias of a
key is the table's entry for its actual offset from the query.

The package natten, of the same authors, has it as GPU kernels. Up to 0.17.5 there are two functions for the two
products, which from 0.17 on take a relative position bias and have its gradient; 0.20, the next version, dropped
both, and has one function for all of it, without a bias (SHI-Labs/NATTEN@03123c3, CHANGELOG.md).
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

import torch
from torch import Tensor

from . import neighbourhood_strips
from .autocast import autocast_together
from .tracing import is_recorded

IMPLS = ('auto', 'reference', 'strips', 'natten')


def neighbourhood_attention(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: int, bias: Tensor | None = None, impl: str = 'auto'
) -> Tensor:
    """Attend to the K x K nearest positions: `softmax(q k^T / sqrt(d) + bias) v` over the keys of each query.

    Args:
        q: queries, (B, heads, H, W, d), H and W at least K; one floating dtype, under autocast its dtype.
        k: keys, as q.
        v: values, as q.
        kernel_size: K, odd.
        bias: relative position biases, (heads, 2K - 1, 2K - 1), or None. That of a key `(i, j)` for a query
            `(y, x)` is `bias[head, i - y + K - 1, j - x + K - 1]`.
        impl: 'reference' (plain torch, holds all neighbourhoods at once), 'strips' (plain torch, holds a part of
            them, and none between the passes), 'natten' (that package, on a GPU) or 'auto', which takes natten
            where it can run and strips elsewhere. Second derivatives need 'reference'; the others raise.

    Returns:
        Tensor (B, heads, H, W, d).

    Raises:
        ValueError: a shape, a dtype or an impl that does not fit the above.
        RuntimeError: impl='natten' cannot run here; the message says why.
    """
    if impl not in IMPLS:
        raise ValueError(f'neighbourhood_attention has no impl={impl!r}: expected one of {IMPLS}')
    q, k, v, bias = autocast_together(q.device.type, q, k, v, bias)
    _check(q, k, v, kernel_size, bias)
    if impl == 'auto':
        takes_natten = q.is_cuda and not is_recorded() and natten_obstacle(q, kernel_size, bias) is None
        impl = 'natten' if takes_natten else 'strips'
    run = {'reference': _reference, 'natten': _by_natten, 'strips': neighbourhood_strips.attention}[impl]
    return run(q, k, v, kernel_size, bias)


def _check(q: Tensor, k: Tensor, v: Tensor, kernel_size: int, bias: Tensor | None) -> None:
    op = 'neighbourhood_attention'
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'{op} needs a positive, odd kernel_size, got {kernel_size!r}')
    if q.dim() != 5 or not q.shape == k.shape == v.shape:
        raise ValueError(
            f'{op} needs q, k and v of one shape (B, heads, H, W, d), got {tuple(q.shape)}, {tuple(k.shape)} and '
            f'{tuple(v.shape)}'
        )
    if q.shape[2] < kernel_size or q.shape[3] < kernel_size:
        raise ValueError(
            f'{op} needs maps of at least {kernel_size} x {kernel_size} positions for kernel_size={kernel_size}, '
            f'got {q.shape[2]} x {q.shape[3]}: pad the features that q, k and v are made from'
        )
    table = (q.shape[1], 2 * kernel_size - 1, 2 * kernel_size - 1)
    if bias is not None and bias.shape != table:
        raise ValueError(f'{op} needs bias (heads, 2K - 1, 2K - 1) = {table}, got {tuple(bias.shape)}')
    if not q.is_floating_point():
        raise ValueError(f'{op} needs a floating dtype, got {q.dtype}')
    for name, tensor in (('k', k), ('v', v), ('bias', bias)):
        if tensor is not None and (tensor.dtype != q.dtype or tensor.device != q.device):
            raise ValueError(
                f'{op} needs q and {name} of one dtype and on one device, got {q.dtype} on {q.device} and '
                f'{tensor.dtype} on {tensor.device}'
            )


def _reference(q: Tensor, k: Tensor, v: Tensor, kernel_size: int, bias: Tensor | None) -> Tensor:
    """The oracle: every query's keys and values picked by their indices."""
    rows, columns = (
        (torch.arange(side, device=q.device) - kernel_size // 2).clamp(0, side - kernel_size).unsqueeze(1)
        + torch.arange(kernel_size, device=q.device)
        for side in q.shape[2:4]
    )  # (H, K), (W, K): the rows that a query in each row has, and columns likewise
    near = (slice(None), slice(None), rows[:, None, :, None], columns[None, :, None, :])
    scores = torch.einsum('bnyxd,bnyxijd->bnyxij', q, k[near]) * q.shape[-1] ** -0.5
    if bias is not None:
        down, right = (
            keys - torch.arange(len(keys), device=q.device).unsqueeze(1) + kernel_size - 1
            for keys in (rows, columns)
        )
        scores = scores + bias[:, down[:, None, :, None], right[None, :, None, :]]  # (heads, H, W, K, K)
    weights = scores.flatten(-2).softmax(-1).view(scores.shape)
    return torch.einsum('bnyxij,bnyxijd->bnyxd', weights, v[near])


@functools.cache
def _natten() -> ModuleType | None:
    try:
        import natten
        import natten.functional
    except ImportError:
        return None
    return natten


def natten_obstacle(q: Tensor, kernel_size: int, bias: Tensor | None) -> str | None:
    """Why the package natten cannot run on these arguments, in a few words, or None if it can."""
    natten = _natten()
    if natten is None:
        return 'natten is not installed'
    version = getattr(natten, '__version__', 'of an unknown version')
    if not q.is_cuda:
        return f'natten is used on a GPU only, and the tensors are on {q.device}'
    if kernel_size == 1:
        return 'natten has no kernel_size=1'
    if hasattr(natten.functional, 'na2d_qk'):
        if 'rpb' not in inspect.signature(natten.functional.na2d_qk).parameters:
            return f'natten {version} is too old, 0.17 is needed'
        return None if natten.has_cuda() else f'natten {version} was built without CUDA'
    if bias is not None:
        return f'natten {version} has no relative position bias, the last with one is 0.17.5'
    if not natten.HAS_LIBNATTEN:
        return f'natten {version} was built without its kernels'
    if q.dtype == torch.float64 or q.shape[-1] % 8:
        return f'natten {version} needs float32 or less and channels of a head in eights'
    return None


def _by_natten(q: Tensor, k: Tensor, v: Tensor, kernel_size: int, bias: Tensor | None) -> Tensor:
    reason = natten_obstacle(q, kernel_size, bias)
    if reason is not None:
        raise RuntimeError(
            f"neighbourhood_attention: impl='natten' cannot run here: {reason}; impl='auto' chooses one that can"
        )
    functional = _natten().functional
    if hasattr(functional, 'na2d_qk'):
        scores = functional.na2d_qk(q * q.shape[-1] ** -0.5, k, kernel_size, rpb=bias)  # (B, heads, H, W, K*K)
        return functional.na2d_av(scores.softmax(-1), v, kernel_size)
    q, k, v = (part.permute(0, 2, 3, 1, 4) for part in (q, k, v))  # (B, H, W, heads, d)
    return functional.na2d(q, k, v, kernel_size).permute(0, 3, 1, 2, 4)
