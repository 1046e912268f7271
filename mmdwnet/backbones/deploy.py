"""Deploy mode: fold the BNs of a DWNet into the layers beside them, once training is over.

In eval mode a BN is a scale and a shift per channel, known before any image is seen. Behind a convolution they go
into its weight and bias (torch.nn.utils.fusion does that for the plain case); before a Linear, into the columns
of its weight and its bias; behind a depth-wise convolution whose kernels are made from the image, into what makes
the kernels. The products are taken in float64 and rounded once.

What stays a layer of its own: the BN behind an inhomogeneous convolution, for the channels of a group share their
kernels; a BN on an output of the backbone, which no layer of its own follows; a BN without running statistics; and
every norm that is no BN (GN, LN), whose scale depends on the image. A mixer of a class that is not of this package
stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..mixers import DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv
from .layers import Block, PreNormBlock


def fold_block(block: Block | PreNormBlock) -> None:
    """Fold every BN of a block that can be folded, in place; a folded one becomes an Identity."""
    mixer = block.mixer
    kind = type(mixer)  # of these classes exactly: another one may use its layers otherwise
    if kind in (DepthwiseConv, DynamicDepthwiseConv, InhomogeneousDynamicDepthwiseConv):
        mixer.bn_in = fold_behind(mixer.proj_in, mixer.bn_in)
        mixer.bn_out = fold_behind(mixer.proj_out, mixer.bn_out)
    if kind is DepthwiseConv:
        mixer.bn_mid = fold_behind(mixer.aggregate, mixer.bn_mid)
    elif kind is DynamicDepthwiseConv:
        mixer.aggregate.bn = fold_behind(mixer.aggregate.reduce, mixer.aggregate.bn)
        mixer.bn_mid = _fold_behind_dynamic(mixer.aggregate, mixer.bn_mid)
    elif kind is InhomogeneousDynamicDepthwiseConv:
        mixer.aggregate.bn = fold_behind(mixer.aggregate.reduce, mixer.aggregate.bn)
    if isinstance(block, Block):
        block.bn = fold_before(block.bn, block.mlp.fc1)


def fold_behind(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    """Fold the norm behind a convolution into it; return what takes the norm's place."""
    if not _can_fold(norm):
        return norm
    scale, shift = _scale_and_shift(norm)
    weight = conv.weight.double()  # (C_out, C_in / groups, K, K)
    bias = 0.0 if conv.bias is None else conv.bias.double()
    _set(conv, weight * scale.view(-1, 1, 1, 1), bias * scale + shift)
    return nn.Identity()


def fold_before(norm: nn.Module, linear: nn.Linear) -> nn.Module:
    """Fold the norm before a Linear into it; return what takes the norm's place."""
    if not _can_fold(norm):
        return norm
    scale, shift = _scale_and_shift(norm)
    weight = linear.weight.double()  # (C_out, C_in)
    _set(linear, weight * scale, linear.bias.double() + weight @ shift)
    return nn.Identity()


def _fold_behind_dynamic(aggregate: nn.Module, norm: nn.Module) -> nn.Module:
    """Fold the norm behind a dynamic depth-wise convolution into the generator of its kernels, and its bias."""
    if not _can_fold(norm):
        return norm
    scale, shift = _scale_and_shift(norm)
    rows = scale.repeat_interleave(aggregate.kernel_size**2)  # (C*K*K,): the generator's outputs are channel-major
    expand = aggregate.expand
    _set(expand, expand.weight.double() * rows.view(-1, 1, 1, 1), expand.bias.double() * rows)
    aggregate.bias = _like(aggregate.bias, aggregate.bias.double() * scale + shift)
    return nn.Identity()


def _can_fold(norm: nn.Module) -> bool:
    return isinstance(norm, _BatchNorm) and norm.running_var is not None


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """A BN in eval mode as `x * scale + shift`, (C,) each, in float64."""
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _set(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.bias = _like(layer.weight, bias)
    layer.weight = _like(layer.weight, weight)


def _like(old: Tensor, value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().to(old.dtype), requires_grad=False)


def check_same_form(state_dict: dict[str, Tensor], prefix: str, block: Block | PreNormBlock, name: str) -> None:
    """Raise ValueError if a checkpoint is of a deployed net and the net is not, or the other way round.

    Args:
        state_dict: what is about to be loaded.
        prefix: where the backbone's entries stand in it.
        block: the first block of the first stage.
        name: the backbone, for the message.
    """
    if not isinstance(block, Block):
        return  # the norms of a pre-norm block stay; mixers that differ are a misfit of any checkpoint
    start = f'{prefix}stages.0.blocks.0.'
    theirs = [key for key in state_dict if key.startswith(start)]
    has_norm = any(key.startswith(f'{start}bn.') for key in theirs)
    if not theirs or has_norm == bool(block.bn.state_dict()):
        return
    if has_norm:
        raise ValueError(
            f'{name} is deployed, and the checkpoint is one of training, with its BNs: load it into a net built '
            'without deploy=True and switch_to_deploy(), or convert it with tools/model_converters/deploy.py'
        )
    raise ValueError(
        f'the checkpoint is of a deployed net, its BNs folded away, and {name} is not deployed: build it with '
        'deploy=True (--cfg-options model.backbone.deploy=True), or load the checkpoint of its training'
    )
