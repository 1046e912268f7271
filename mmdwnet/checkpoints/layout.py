"""The keys of official checkpoints, to ours and back: a state dict in, a state dict of the same tensors out.

Source: Atten4Vis/DemystifyLocalViT at ce7c0b7, models/dwnet.py and models/idynamic.py (classification) and the
backbones of its mmdet and mmseg forks; their heads have the key names of today's mmdet and mmseg.

A classifier's official keys have no prefix (`layers.0...`, `norm`, `head`); here, as in every OpenMMLab model, its
backbone has one (`backbone.stages.0...`, `head.fc`). Detectors and segmentors have `backbone.` on both sides.

The official classification code builds no dynamic model any more: an `if` where `elif` was meant puts the static
convolution in the dynamic one's place (its first commit, 4aa8326, is right; so are the forks). The released
dynamic weights are of the correct model, whose keys these are, and load as mixer `DynamicDepthwiseConv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import listed

Value = TypeVar('Value')

# of a block of any mixer: the module's official name and ours
BLOCK = {
    'attn2conv.conv0': 'mixer.proj_in',
    'attn2conv.bn0': 'mixer.bn_in',
    'attn2conv.conv': 'mixer.aggregate',
    'attn2conv.bn': 'mixer.bn_mid',
    'attn2conv.conv2': 'mixer.proj_out',
    'attn2conv.bn2': 'mixer.bn_out',
    'bn': 'bn',
    'mlp.fc1': 'mlp.fc1',
    'mlp.fc2': 'mlp.fc2',
}
# of the kernel generators, which differ in official names only
DYNAMIC = {
    'attn2conv.conv.conv1': 'mixer.aggregate.reduce',
    'attn2conv.conv.bn': 'mixer.aggregate.bn',
    'attn2conv.conv.conv2': 'mixer.aggregate.expand',
}
INHOMOGENEOUS = {
    'attn2conv.conv.conv1.0': 'mixer.aggregate.reduce',
    'attn2conv.conv.conv1.1': 'mixer.aggregate.bn',
    'attn2conv.conv.conv2.0': 'mixer.aggregate.expand',
}
TO_OURS = {**BLOCK, **DYNAMIC, **INHOMOGENEOUS}
TO_DYNAMIC, TO_INHOMOGENEOUS = ({v: k for k, v in {**BLOCK, **kind}.items()} for kind in (DYNAMIC, INHOMOGENEOUS))
LEAVES = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
OFFICIAL_MARK = re.compile(r'(module\.)?(backbone\.)?layers\.\d+\.blocks\.\d+\.attn2conv\.')
OUR_MARK = re.compile(r'(backbone\.)?stages\.\d+\.blocks\.\d+\.mixer\.')


def is_official(keys: Iterable[str]) -> bool:
    """Whether a state dict's keys are of an official DWNet, of any size, mixer and task."""
    return any(isinstance(key, str) and OFFICIAL_MARK.match(key) for key in keys)


def is_ours(keys: Iterable[str]) -> bool:
    """Whether a state dict's keys are of a model with this package's DWNet, or of the backbone alone."""
    return any(isinstance(key, str) and OUR_MARK.match(key) for key in keys)


def official_to_ours(state_dict: dict[str, Value]) -> dict[str, Value]:
    """Rename the keys of an official state dict.

    Args:
        state_dict: of a whole model or of the backbone alone, with or without `module.` before every key.

    Returns:
        The same values under the keys of a whole model of ours: `backbone.` and, of a classifier, `head.fc.`;
        the other parts of a detector or segmentor as they are.

    Raises:
        ValueError: keys that no official DWNet has, named in one line.
    """
    wrapped = all(key.startswith('module.') for key in state_dict)
    state_dict = {key[len('module.') * wrapped :]: value for key, value in state_dict.items()}
    whole = any(key.startswith('backbone.') for key in state_dict)
    last = _last_index(state_dict, 'layers')

    def renamed(key: str) -> str | None:
        if whole and not key.startswith('backbone.'):
            return key
        ours = _our_name(key.removeprefix('backbone.'), last)
        if ours is None or ours.startswith('head.'):
            return None if whole else ours
        return f'backbone.{ours}'

    return _rename(state_dict, renamed, 'official DWNet')


def ours_to_official(state_dict: dict[str, Value]) -> dict[str, Value]:
    """Rename the keys of a state dict of ours; the inverse of `official_to_ours`.

    Args:
        state_dict: of a whole model (keys with `backbone.`) or of a DWNet alone.

    Returns:
        The same values under official keys, without prefix if there is nothing but the backbone and a classifier's
        head.

    Raises:
        ValueError: keys that have no official name, named in one line; a deployed network, which has none at all.
    """
    if any(key.endswith('.mixer.proj_in.bias') for key in state_dict):
        raise ValueError(
            'it is of a deployed network, whose BNs are folded away, and the official code has no such form: '
            'convert the checkpoint of its training'
        )
    others = [key for key in state_dict if not key.startswith(('backbone.', 'head.fc.'))]
    alone = len(others) == len(state_dict)
    classifier = not others
    last = _last_index((key.removeprefix('backbone.') for key in state_dict), 'stages')
    inhomogeneous = any(key.endswith('.mixer.aggregate.reduce.bias') for key in state_dict)

    def renamed(key: str) -> str | None:
        if key.startswith('head.fc.') and classifier:
            return _with_leaf('head', key.removeprefix('head.fc.'))
        if not alone and not key.startswith('backbone.'):
            return key
        official = _official_name(key.removeprefix('backbone.'), last, inhomogeneous)
        return official if official is None or classifier or alone else f'backbone.{official}'

    return _rename(state_dict, renamed, 'DWNet of this package')


def _rename(state_dict: dict[str, Value], renamed: Callable[[str], str | None], what: str) -> dict[str, Value]:
    names = {key: renamed(key) for key in state_dict}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        raise ValueError(
            f'{len(unknown)} of {len(names)} keys are of no {what} ({listed(unknown)}); expected nothing but the '
            'weights of one'
        )
    return {names[key]: value for key, value in state_dict.items()}


def _last_index(keys: Iterable[str], part: str) -> int:
    found = (re.match(rf'(?:backbone\.)?{part}\.(\d+)\.', key) for key in keys)
    return max((int(match[1]) for match in found if match), default=-1)


def _our_name(key: str, last: int) -> str | None:
    """Our name of an official backbone's or classifier's key; None if it is none.

    Args:
        key: without prefix.
        last: index of the last stage.
    """
    module, _, leaf = key.rpartition('.')
    if module in ('patch_embed.proj', 'patch_embed.norm'):
        return _with_leaf(module, leaf)
    if module in ('head', 'norm'):
        return _with_leaf('head.fc' if module == 'head' else f'norm_ln{last}', leaf)
    if match := re.fullmatch(r'norm(\d+)', module):
        return _with_leaf(f'norm_bn{match[1]}', leaf)
    if match := re.fullmatch(r'layers\.(\d+)\.downsample\.(norm|reduction)', module):
        # it stands at the end of the stage before
        return (
            _with_leaf(f'stages.{int(match[1]) + 1}.downsample.{match[2]}', leaf) if int(match[1]) < last else None
        )
    if (match := re.fullmatch(r'layers\.(\d+\.blocks\.\d+)\.(.+)', module)) and match[2] in TO_OURS:
        return _with_leaf(f'stages.{match[1]}.{TO_OURS[match[2]]}', leaf)
    return None


def _official_name(key: str, last: int, inhomogeneous: bool) -> str | None:
    """The official name of a key of ours; None if it has none.

    Args:
        key: without prefix.
        last: index of the last stage.
        inhomogeneous: whose names the kernel generator's have.
    """
    module, _, leaf = key.rpartition('.')
    if module in ('patch_embed.proj', 'patch_embed.norm'):
        return _with_leaf(module, leaf)
    if module == f'norm_ln{last}':
        return _with_leaf('norm', leaf)
    if match := re.fullmatch(r'norm_bn(\d+)', module):
        return _with_leaf(f'norm{match[1]}', leaf)
    if match := re.fullmatch(r'stages\.(\d+)\.downsample\.(norm|reduction)', module):
        return _with_leaf(f'layers.{int(match[1]) - 1}.downsample.{match[2]}', leaf) if int(match[1]) else None
    names = TO_INHOMOGENEOUS if inhomogeneous else TO_DYNAMIC
    if (match := re.fullmatch(r'stages\.(\d+\.blocks\.\d+)\.(.+)', module)) and match[2] in names:
        return _with_leaf(f'layers.{match[1]}.{names[match[2]]}', leaf)
    return None


def _with_leaf(module: str, leaf: str) -> str | None:
    return f'{module}.{leaf}' if leaf in LEAVES else None
