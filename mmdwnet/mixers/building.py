"""A mixer from its config entry, at its place in a network."""

from __future__ import annotations

import inspect

from torch import nn

from ..registry import MODELS


def build_mixer(mixer: str | dict, **place: object) -> nn.Module:
    """Build a token mixer.

    Args:
        mixer: a registered name, or a dict of its `type` and options.
        place: what the network knows of the place: `channels` (C), `norm_cfg` (norms inside mixers) and
            `map_size` ((H, W) of the maps there, for images of the size that the network is made for). A mixer
            gets those that its constructor names; the options of the dict come before them.

    Raises:
        ValueError: an unknown mixer.
        TypeError: an option that the mixer does not have.
    """
    cfg = dict(mixer) if isinstance(mixer, dict) else dict(type=mixer)
    name = cfg.pop('type', None)
    mixer_class = MODELS.get(name) if isinstance(name, str) else None
    if mixer_class is None:
        from . import __all__ as known

        raise ValueError(f'unknown mixer {name!r}: expected one of {sorted(known)}, or a dict with a type')
    takes = inspect.signature(mixer_class).parameters
    return mixer_class(**{key: value for key, value in place.items() if key in takes} | cfg)
