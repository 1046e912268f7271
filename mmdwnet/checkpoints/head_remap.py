"""A 1000-class head out of a 22K one: rows picked, not re-initialised.

As Swin fine-tunes its 22K models (utils.py and data/map22kto1k.txt of microsoft/Swin-Transformer@f82860b): line i
of the map is the row, from 0, that class i of ImageNet-1K has in the 22K head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..errors import UserError

HEAD = ('head.fc.weight', 'head.fc.bias')  # of mmpretrain's LinearClsHead


def read_map(path: str, num_classes: int) -> list[int]:
    """Read a map file, one row number per line.

    Args:
        path: the file.
        num_classes: how many lines it must have, one per class of the new head.

    Raises:
        UserError: the file is missing, has a line that is no number or another count of lines, or names a row
            twice.
    """
    expected = f"expected {num_classes} lines of one row number each, such as Swin's data/map22kto1k.txt"
    if not Path(path).is_file():
        raise UserError(f'map {path} not found: {expected}')
    try:
        lines = Path(path).read_text(encoding='ascii').split('\n')
    except UnicodeDecodeError as error:
        raise UserError(f'map {path} is no text: {expected}') from error
    if lines[-1] == '':  # the newline that ends the file
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdigit():
            raise UserError(f'map {path}: line {number} is {line[:40]!r}, not a row number: {expected}')
    rows = [int(line) for line in lines]
    if len(rows) != num_classes:
        raise UserError(f'map {path} has {len(rows)} lines: {expected}')
    if len(set(rows)) != len(rows):
        twice = next(row for row in rows if rows.count(row) > 1)
        raise UserError(f'map {path} names row {twice} twice: {expected}, each row for one class')
    return rows


def remap_head(state_dict: Mapping[str, torch.Tensor], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return the weights of a classifier with the given rows of its head, in that order.

    Args:
        state_dict: a classifier's weights, as mmpretrain names them: `head.fc.weight` (N, C), `head.fc.bias` (N,).
        rows: for each class of the new head, the row of the old one, 0 <= row < N.

    Returns:
        A new dict; everything but the two tensors of the head is the same object.

    Raises:
        UserError: the head is missing, its two tensors disagree, or a row lies outside.
    """
    absent = [key for key in HEAD if key not in state_dict]
    if absent:
        keys = ', '.join(key for key in state_dict if 'head' in key) or 'none'
        raise UserError(
            f'the checkpoint has no {" and no ".join(absent)} (keys with head: {keys}): expected a classifier of '
            'this package or of mmpretrain, with its head'
        )
    weight, bias = (state_dict[key] for key in HEAD)
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise UserError(
            f'{HEAD[0]} is {tuple(weight.shape)} and {HEAD[1]} is {tuple(bias.shape)}: expected (N, C) and (N,)'
        )
    outside = [row for row in rows if not 0 <= row < len(weight)]
    if outside:
        raise UserError(
            f'the map names row {outside[0]}, but the head has {len(weight)} rows: expected the map of the '
            'classes that the checkpoint was trained on'
        )
    index = torch.tensor(rows, dtype=torch.long, device=weight.device)
    return {**state_dict, HEAD[0]: weight[index], HEAD[1]: bias[index]}
