"""Put the safe reading and the official layouts under every loader of mmengine.

Importing mmdwnet does it, through the public registry of mmengine's CheckpointLoader, for local paths and http(s)
URLs: `load_from`, `resume`, `init_cfg=dict(type='Pretrained')` and the inferencers, in this project's tools and in
the stock ones. The other schemes (`torchvision://` and so on) are left as they are.
"""

from __future__ import annotations

from typing import Any

from mmengine.runner import CheckpointLoader

from ..errors import UserError
from .layout import is_official, official_to_ours
from .reading import MapLocation, meta_of, read_checkpoint, weights_of


def load_as_ours(source: str, map_location: MapLocation = 'cpu', trust: bool = False) -> Any:
    """Read a checkpoint; one in an official layout comes out in ours.

    Args:
        source: path or http(s) URL.
        map_location: where tensors go, as in torch.load.
        trust: unpickle a file that needs more than weights and mmengine's records, which executes code from it.

    Returns:
        What `read_checkpoint` returns; of an official file, `state_dict` with our keys, and `meta`. Its optimizer
        counts parameters in the order of the official code and is left out.

    Raises:
        UserError: the file cannot be read, or has keys that no DWNet has.
    """
    checkpoint = read_checkpoint(source, map_location, trust)
    weights = weights_of(checkpoint)
    if weights is None or not is_official(weights):
        return checkpoint
    try:
        return dict(state_dict=official_to_ours(weights), meta=meta_of(checkpoint))
    except ValueError as error:
        raise UserError(f'{source}: {error}') from error


def register_loaders(trust: bool = False) -> None:
    """Have mmengine load local files and URLs through `load_as_ours`, in this process.

    Args:
        trust: of every file loaded from now on. The tools set it for `--trust-checkpoint`.
    """

    # mmengine logs the names of its loaders, from the 11th letter on, and calls them with two arguments
    def load_from_local(filename: str, map_location: MapLocation = None) -> Any:
        return load_as_ours(filename, map_location, trust)

    def load_from_http(filename: str, map_location: MapLocation = None) -> Any:
        return load_as_ours(filename, map_location, trust)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
