"""Write a checkpoint anew: our keys or the official ones, PyTorch's format or safetensors, weights only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .layout import is_official, is_ours, official_to_ours, ours_to_official
from .reading import meta_of, read_checkpoint, weights_of
from .writing import check_target, write_atomically

SUFFIXES = ('.pth', '.safetensors')
# what the inferencers of mmpretrain, mmdet and mmseg look for in a checkpoint's meta; the last two in old files
KEPT_META = ('dataset_meta', 'CLASSES', 'PALETTE')


def convert_checkpoint(
    source: str, target: str, to: str = 'ours', trust: bool = False, force: bool = False
) -> int:
    """Read a checkpoint of a model with a DWNet and write its weights in one of the two layouts.

    An official classifier's go into `{model: ...}`, everything else into `{state_dict: ..., meta: ...}` with the
    classes and palette if the file has them; a .safetensors file holds the weights, and these as text.

    Args:
        source: path or URL, in either layout and format.
        target: file to write; its suffix says the format. It is there complete or not at all.
        to: 'ours' or 'official'.
        trust: unpickle a source that needs it, which executes code from it.
        force: overwrite the target.

    Returns:
        How many tensors were written.

    Raises:
        UserError: the source is no such checkpoint, or the target cannot be written; one line.
    """
    path = check_target(target, SUFFIXES, force=force)  # its suffix says the format
    checkpoint = read_checkpoint(source, trust=trust)
    weights = _converted(weights_of(checkpoint) or {}, to, source)
    meta = {key: value for key, value in meta_of(checkpoint).items() if key in KEPT_META}
    # a tensor may be a part of a bigger storage, which would be written whole
    weights = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    if path.suffix == '.safetensors':
        write_atomically(path, lambda file: _save_safetensors(weights, meta, file))
    elif to == 'official' and not any(key.startswith('backbone.') for key in weights):
        write_atomically(path, lambda file: torch.save({'model': weights}, file))
    else:
        write_atomically(path, lambda file: torch.save({'meta': meta, 'state_dict': weights}, file))
    return len(weights)


def _converted(weights: Mapping[str, Any], to: str, source: str) -> dict[str, Tensor]:
    if not (is_official(weights) or is_ours(weights)) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(
            f'{source} has no weights of a DWNet, in its official layout or in ours: nothing to convert'
        )
    try:
        if to == 'ours':
            return official_to_ours(weights) if is_official(weights) else dict(weights)
        return dict(weights) if is_official(weights) else ours_to_official(weights)
    except ValueError as error:
        raise UserError(f'{source}: {error}') from error


def _save_safetensors(weights: dict[str, Tensor], meta: dict[str, Any], file: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise UserError(f'{file} needs safetensors to be written: run `pip install safetensors`') from error
    save_file(weights, str(file), metadata={'format': 'pt', 'meta': json.dumps(meta, default=_plain)})


def _plain(value: Any) -> Any:
    """What JSON has no type for, in a dataset's meta."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
