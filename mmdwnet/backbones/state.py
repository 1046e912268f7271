"""A checkpoint must fit the backbone that it is loaded into.

mmengine's loaders are not strict: a checkpoint of another size or another mixer leaves layers random with a
warning at most. Here a misfit is an error that names both sides. The one thing that may differ is the output
norms, when a classifier becomes the backbone of a detector or segmentor.
"""

from __future__ import annotations

from torch import Tensor, nn


def check_state_dict(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, name: str, out_norms: tuple[str, ...]
) -> None:
    """Raise ValueError unless the entries of `state_dict` under `prefix` fit `module`.

    Args:
        module: the backbone.
        state_dict: what is about to be loaded.
        prefix: where the backbone's entries stand in it, '' or such as 'backbone.'.
        name: the backbone, for the message.
        out_norms: names of its output norms. They may be missing all together (they then keep their fresh
            values), and others may be there instead.
    """
    ours = {key: value.shape for key, value in module.state_dict().items()}
    theirs = {key[len(prefix) :]: value.shape for key, value in state_dict.items() if key.startswith(prefix)}
    has_our_norms = any(key.split('.')[0] in out_norms for key in theirs)

    def may_differ(key: str) -> bool:
        return key.startswith('norm_') and not has_our_norms

    # BN counters are absent from checkpoints of old torch versions, and torch fills them in
    missing = [
        key
        for key in ours
        if key not in theirs and not may_differ(key) and not key.endswith('num_batches_tracked')
    ]
    extra = [key for key in theirs if key not in ours and not may_differ(key)]
    reshaped = [
        f'{key} {tuple(theirs[key])} there and {tuple(ours[key])} here'
        for key in ours
        if key in theirs and theirs[key] != ours[key]
    ]
    found = [
        f'{len(keys)} {what} (first: {keys[0]})'
        for keys, what in (
            (missing, 'entries missing from it'),
            (extra, 'entries unknown here'),
            (reshaped, 'of another shape'),
        )
        if keys
    ]
    if found:
        raise ValueError(
            f'the checkpoint does not fit {name}: {", ".join(found)}; expected a checkpoint of the same arch and '
            'mixer: use its own config, or set arch and mixer to what it was trained with'
        )
