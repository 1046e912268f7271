"""The sizes of the backbones: one table.

Source of tiny and base: Han et al. (ICLR 2022), section 4, "Architectures", which takes them from Swin
Transformer (Liu et al., ICCV 2021), section 3.3. `nano` is this project's own, for tests and the mini configs.
"""

from __future__ import annotations

PYRAMID_ARCHS = {
    # name    channels of the first stage    blocks per stage
    'nano': dict(embed_dims=32, depths=(1, 1, 2, 1)),
    'tiny': dict(embed_dims=96, depths=(2, 2, 6, 2)),
    'base': dict(embed_dims=128, depths=(2, 2, 18, 2)),
}


def pyramid_arch(arch: str | dict) -> dict:
    """Return the sizes behind a name of the table, or check a dict of the same form.

    Args:
        arch: 'nano', 'tiny', 'base', or a dict with `embed_dims` (channels of the first stage, doubled by each
            stage after it) and `depths` (blocks per stage, as many entries as stages).

    Raises:
        ValueError: an unknown name, or a dict with other keys or with sizes that are not positive integers.
    """
    if isinstance(arch, str):
        if arch not in PYRAMID_ARCHS:
            raise ValueError(f'unknown arch {arch!r}: expected one of {sorted(PYRAMID_ARCHS)}, or a dict')
        return PYRAMID_ARCHS[arch]
    if not isinstance(arch, dict):
        raise ValueError(f'arch must be one of {sorted(PYRAMID_ARCHS)} or a dict, got {arch!r}')
    if set(arch) != {'embed_dims', 'depths'}:
        raise ValueError(f'an arch dict has the keys embed_dims and depths, got {sorted(arch)}')
    sizes = [arch['embed_dims'], *arch['depths']]
    if len(sizes) < 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f'embed_dims and depths of an arch must be positive integers, got {arch}')
    return dict(embed_dims=arch['embed_dims'], depths=tuple(arch['depths']))
