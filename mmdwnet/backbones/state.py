"""A checkpoint must fit the backbone that it is loaded into.

mmengine's loaders are not strict: a checkpoint of another size or another mixer leaves layers random with a
warning at most. Here a misfit is an error that names both sides. The one thing that may differ is the output
norms, when a classifier becomes the backbone of a detector or segmentor.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import listed


def check_state_dict(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, name: str, out_norms: tuple[str, ...]
) -> None:
    """Raise ValueError unless the entries of `state_dict` under `prefix` fit `module`.

    Args:
        module: the backbone.
        state_dict: what is about to be loaded.
        prefix: where the backbone's entries stand in it: '' when it is loaded by itself, as `init_cfg` does, and
            such as 'backbone.' when a whole model is.
        name: the backbone, for the message.
        out_norms: names of its output norms. When it is loaded by itself they may be missing all together (they
            then keep their fresh values), and others may be there instead.
    """
    ours = module.state_dict()
    theirs = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    transfer = not prefix and not any(key.split('.')[0] in out_norms for key in theirs)

    def may_differ(key: str) -> bool:
        return transfer and key.startswith('norm_')

    # BN counters are absent from checkpoints of old torch versions, and torch fills them in
    misfit = describe_misfit(
        missing=[
            key
            for key in ours
            if key not in theirs and not may_differ(key) and not key.endswith('num_batches_tracked')
        ],
        extra=[key for key in theirs if key not in ours and not may_differ(key)],
        reshaped=[
            shape_change(key, theirs[key], ours[key])
            for key in ours
            if key in theirs and theirs[key].shape != ours[key].shape
        ],
    )
    if misfit:
        raise ValueError(
            f'the checkpoint does not fit {name}: {misfit}; expected a checkpoint of the same arch and '
            'mixer: use its own config, or set arch and mixer to what it was trained with'
        )


def describe_misfit(missing: Sequence[str], extra: Sequence[str], reshaped: Sequence[str]) -> str:
    """Both sides of a checkpoint that does not fit, as a part of one line; '' if there is nothing to say.

    Args:
        missing: keys that are here and not in the checkpoint.
        extra: keys that are in the checkpoint and not here.
        reshaped: what `shape_change` says of keys that are in both.
    """
    sides = ((missing, 'entries missing from it'), (extra, 'entries unknown here'), (reshaped, 'of another shape'))
    return ', '.join(f'{len(keys)} {what} ({listed(keys)})' for keys, what in sides if keys)


def shape_change(key: str, theirs: Tensor, ours: Tensor) -> str:
    """An entry whose shape is another in the checkpoint than here, in words."""
    return f'{key} {tuple(theirs.shape)} there and {tuple(ours.shape)} here'


def take_backbone(state_dict: dict[str, Tensor]) -> None:
    """Turn the state dict of a whole model, in place, into that of its backbone; leave others alone."""
    prefix = 'backbone.'
    inner = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    if inner:
        state_dict.clear()
        state_dict.update(inner)
