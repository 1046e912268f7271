"""The ops in plain torch without unfolding, an image or a strip of rows at a time: what `auto` takes on a CPU.

No autograd here: `library.py` puts these functions behind the ops. They run on any device.

- Static and dynamic kernels: torch's depth-wise convolution forward is fast on a CPU, its weight gradient is not
  (oneDNN: ten times the forward's time). The gradient of a depth-wise kernel is itself a depth-wise convolution
  of the padded input, with the output's gradient as a kernel as large as the map, and runs as one.
- Kernels per position: K * K shifted multiply-adds on maps that lie flat in memory, in rows of W + K // 2, so
  that the zeros between two rows are the right margin of the one and the left margin of the next. A shift by
  (i, j) is then an offset, and one long loop over the memory does all rows. Tiles are small enough for the
  cache. Half precision is summed in float32.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu import is_emulated, lifted
from .flat_maps import FlatMaps, added, generator_dtype

# Rows of a map that serve as one kernel in the weight gradient: beyond that oneDNN becomes slower.
STRIP_ROWS = 64


def depthwise_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, C, H, W), weight (C, 1, K, K) -> (B, C, H, W), in the memory layout of x."""
    return laid_out(_convolve(x, weight, bias), x)


def depthwise_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight, in their memory layouts."""
    total = None
    for image in range(x.shape[0]):
        total = added(total, _kernel_gradient(grad[image], x[image : image + 1], weight.shape[-1]))
    grad_weight = torch.zeros_like(weight) if total is None else torch.empty_like(weight).copy_(total.unsqueeze(1))
    return laid_out(_convolve(grad, weight.flip(2, 3), None), x), grad_weight


def dynamic_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, C, H, W), weight (B, C, K, K) -> (B, C, H, W), in the memory layout of x."""
    out = torch.empty_like(x)
    for image in range(x.shape[0]):
        out[image] = _convolve(x[image : image + 1], weight[image].unsqueeze(1), bias)[0]
    return out


def dynamic_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight, in their memory layouts."""
    grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
    for image in range(x.shape[0]):
        turned = weight[image].flip(1, 2).unsqueeze(1)  # (C, 1, K, K)
        grad_x[image] = _convolve(grad[image : image + 1], turned, None)[0]
        grad_weight[image] = _kernel_gradient(grad[image], x[image : image + 1], weight.shape[-1])
    return grad_x, grad_weight


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    convolve = partial(F.conv2d, padding=weight.shape[-1] // 2, groups=x.shape[1])
    return lifted(convolve, x, weight, bias)


def laid_out(result: Tensor, like: Tensor) -> Tensor:
    """A dense result in the memory layout of a tensor of its shape: as it is, where torch chose that layout."""
    if result.stride() == like.stride():
        return result
    strides = torch.empty_like(like, device='meta').stride()
    return result if result.stride() == strides else torch.empty_like(like).copy_(result)


def _kernel_gradient(grad: Tensor, x: Tensor, kernel_size: int) -> Tensor:
    """Gradient (C, K, K) of the depth-wise kernel of one image: grad is (C, H, W), x is (1, C, H, W).

    x is a slice of its batch: torch copies an image that was given its first axis anew, for it does not see that
    such a map is in channels_last memory.
    """
    if is_emulated(x.device.type, x.dtype):
        grad, x = grad.float(), x.float()
    channels, height, _ = grad.shape
    margin = kernel_size // 2
    convolve = partial(F.conv2d, groups=channels)
    if height <= STRIP_ROWS:
        return convolve(x, grad.unsqueeze(1), padding=margin)[0]  # (C, K, K)
    total = None
    x = F.pad(x, (0, 0, margin, margin))  # (1, C, H + K - 1, W)
    for top in range(0, height, STRIP_ROWS):
        strip = grad[:, top : top + STRIP_ROWS]  # (C, rows, W)
        rows = x[:, :, top : top + strip.shape[1] + kernel_size - 1]
        total = added(total, convolve(rows, strip.unsqueeze(1), padding=(0, margin))[0])
    return total


def inhomogeneous_forward(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, C, H, W), weight (B, G, K, K, H, W) of any strides -> (B, C, H, W), in the memory layout of x."""
    out = torch.empty_like(x)
    maps = FlatMaps(x, weight.shape[1], weight.shape[2])
    for tile in maps.tiles():
        kernels = maps.flat_kernels(weight, tile)  # (n, G, K*K, T)
        tile.store(out, maps.apply(kernels, maps.flat(x, tile), tile))
    return out


def inhomogeneous_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight; that of weight in the memory layout of weight."""
    grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
    maps = FlatMaps(x, weight.shape[1], weight.shape[2])
    for images in maps.images():
        grad_flat = None
        for tile in maps.strips(images):
            kernels = maps.flat_kernels(weight, tile)
            flat = maps.flat(x, tile)
            grad_flat = torch.zeros_like(flat) if grad_flat is None else grad_flat
            grad_kernels = maps.pull_back(kernels, maps.flat_rows(grad, tile), flat, grad_flat, tile)
            maps.store_kernels(grad_weight, grad_kernels, tile)
        if grad_flat is not None:
            maps.store_map(grad_x, grad_flat, images)
    return grad_x, grad_weight


def generated_forward(
    x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> Tensor:
    """As `inhomogeneous_forward`, the kernels of a tile made from `feature` (B, R, H, W) and kept in the cache."""
    out = torch.empty_like(x)
    maps = FlatMaps(x, groups, kernel_size)
    generator = _augmented(weight, bias)
    for tile in maps.tiles():
        kernels = maps.generate(generator, maps.features(feature, tile), tile)
        tile.store(out, maps.apply(kernels, maps.flat(x, tile), tile))
    return out


def generated_backward(
    grad: Tensor, x: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, groups: int, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, feature, weight and bias; the kernels of every tile are made a second time."""
    grad_x, grad_feature = torch.empty_like(x), torch.empty_like(feature)
    maps = FlatMaps(x, groups, kernel_size)
    generator = _augmented(weight, bias)  # (G*K*K, R + 1)
    grad_generator = torch.zeros(generator.shape, dtype=maps.dtype, device=maps.device)
    for images in maps.images():
        grad_flat = None
        for tile in maps.strips(images):
            features = maps.features(feature, tile)  # (n, T, R + 1)
            kernels = maps.generate(generator, features, tile)
            flat = maps.flat(x, tile)
            grad_flat = torch.zeros_like(flat) if grad_flat is None else grad_flat
            grad_kernels = maps.pull_back(kernels, maps.flat_rows(grad, tile), flat, grad_flat, tile)
            grad_kernels = grad_kernels.flatten(1, 2)  # (n, G*K*K, T)
            grad_kernels = grad_kernels.to(generator.dtype)
            for one, its_features in zip(grad_kernels, features, strict=True):
                grad_generator += torch.mm(one, its_features)
            tile.store(grad_feature, torch.matmul(generator[:, :-1].t(), grad_kernels))
        if grad_flat is not None:
            maps.store_map(grad_x, grad_flat, images)
    grad_weight = torch.empty_like(weight).copy_(grad_generator[:, :-1])
    return grad_x, grad_feature, grad_weight, torch.empty_like(bias).copy_(grad_generator[:, -1])


def _augmented(weight: Tensor, bias: Tensor) -> Tensor:
    """The generator as one matrix (G*K*K, R + 1): its bias weights a feature that is 1 everywhere."""
    return torch.cat((weight, bias.unsqueeze(1)), 1).to(generator_dtype(weight))
