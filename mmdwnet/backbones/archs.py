"""The sizes of the backbones: one table for the pyramids, one for the isotropic nets.

Sources: tiny and base, Han et al. (ICLR 2022), section 4, "Architectures", which takes them from Swin Transformer
(Liu et al., ICCV 2021), section 3.3; nat-*, Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023),
table 2, with the layer scale of its code (SHI-Labs/Neighborhood-Attention-Transformer, classification/nat.py);
deit-*, Touvron et al. (ICML 2021), table 1. The nano ones are this project's own, for tests and the mini configs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

# Swin's two kinds of blocks, one after the other
SHIFTED_WINDOWS = (dict(type='WindowAttention'), dict(type='WindowAttention', shift=True))


@dataclass(frozen=True)
class PyramidArch:
    """The sizes of a pyramid.

    Args:
        embed_dims: channels of the first stage, doubled by each stage after it.
        depths: blocks per stage.
        block: 'dwnet' (no norm before the mixer, a BN before the MLP) or 'pre-norm' (a LayerNorm before each).
        mixer: the token mixer, where none is asked for; several are taken in turn by the blocks of a stage.
        mlp_ratio: hidden channels of an MLP per channel.
        patches: 'separate' (4 x 4 patches, 2 x 2 merging) or 'overlapping' (3 x 3 convolutions of stride 2).
        layer_scale: where the learned scale of the branches begins; None for no scale.
    """

    embed_dims: int
    depths: tuple[int, ...]
    block: str = 'dwnet'
    mixer: str | dict | tuple = 'DepthwiseConv'
    mlp_ratio: int = 4
    patches: str = 'separate'
    layer_scale: float | None = None


def _swin(embed_dims: int, *depths: int) -> PyramidArch:
    return PyramidArch(embed_dims, depths, 'pre-norm', SHIFTED_WINDOWS)


def _nat(
    embed_dims: int, depths: tuple[int, ...], mlp_ratio: int, layer_scale: float | None = None
) -> PyramidArch:
    return PyramidArch(
        embed_dims, depths, 'pre-norm', 'NeighbourhoodAttention', mlp_ratio, 'overlapping', layer_scale
    )


PYRAMID_ARCHS = {
    'nano': PyramidArch(32, (1, 1, 2, 1)),
    'tiny': PyramidArch(96, (2, 2, 6, 2)),
    'base': PyramidArch(128, (2, 2, 18, 2)),
    'swin-nano': _swin(32, 1, 1, 2, 1),
    'swin-tiny': _swin(96, 2, 2, 6, 2),
    'swin-base': _swin(128, 2, 2, 18, 2),
    'nat-nano': _nat(32, (1, 1, 2, 1), 3),
    'nat-mini': _nat(64, (3, 4, 6, 5), 3),
    'nat-tiny': _nat(64, (3, 4, 18, 5), 3),
    'nat-small': _nat(96, (3, 4, 18, 5), 2, 1e-5),
    'nat-base': _nat(128, (3, 4, 18, 5), 2, 1e-5),
}


def pyramid_arch(arch: str | dict) -> PyramidArch:
    """Return the sizes behind a name of the table, or those of a dict.

    Args:
        arch: a name of `PYRAMID_ARCHS`, or a dict with `embed_dims` and `depths`, and any other field of
            `PyramidArch`.

    Raises:
        ValueError: an unknown name, or a dict with other keys or with sizes that are not positive integers.
    """
    if isinstance(arch, str):
        if arch not in PYRAMID_ARCHS:
            raise ValueError(f'unknown arch {arch!r}: expected one of {sorted(PYRAMID_ARCHS)}, or a dict')
        return PYRAMID_ARCHS[arch]
    if not isinstance(arch, dict):
        raise ValueError(f'arch must be one of {sorted(PYRAMID_ARCHS)} or a dict, got {arch!r}')
    known = {field.name for field in fields(PyramidArch)}
    if not {'embed_dims', 'depths'} <= set(arch) <= known:
        raise ValueError(
            'an arch dict has the keys embed_dims and depths, and may have '
            f'{sorted(known - {"embed_dims", "depths"})}, got {sorted(arch)}'
        )
    sizes = PyramidArch(**{**arch, 'depths': tuple(arch['depths'])})
    counts = [sizes.embed_dims, *sizes.depths, sizes.mlp_ratio]
    if len(counts) < 3 or not all(isinstance(count, int) and count > 0 for count in counts):
        raise ValueError(f'embed_dims, depths and mlp_ratio of an arch must be positive integers, got {arch}')
    for name, value, choices in (
        ('block', sizes.block, ('dwnet', 'pre-norm')),
        ('patches', sizes.patches, ('separate', 'overlapping')),
    ):
        if value not in choices:
            raise ValueError(f'{name} of an arch must be one of {choices}, got {value!r}')
    return sizes


@dataclass(frozen=True)
class IsotropicArch:
    """The sizes of an isotropic net.

    Args:
        embed_dims: channels.
        depth: blocks.
    """

    embed_dims: int
    depth: int


ISOTROPIC_ARCHS = {
    'deit-nano': IsotropicArch(128, 4),
    'deit-tiny': IsotropicArch(192, 12),
    'deit-small': IsotropicArch(384, 12),
    'deit-base': IsotropicArch(768, 12),
}


def isotropic_arch(arch: str | dict) -> IsotropicArch:
    """Return the sizes behind a name of the table, or those of a dict with `embed_dims` and `depth`.

    Raises:
        ValueError: an unknown name, or a dict with other keys or with sizes that are not positive integers.
    """
    if isinstance(arch, str) and arch in ISOTROPIC_ARCHS:
        return ISOTROPIC_ARCHS[arch]
    if not isinstance(arch, dict):
        raise ValueError(f'unknown arch {arch!r}: expected one of {sorted(ISOTROPIC_ARCHS)}, or a dict')
    if set(arch) != {'embed_dims', 'depth'}:
        raise ValueError(f'an arch dict has the keys embed_dims and depth, got {sorted(arch)}')
    if not all(isinstance(size, int) and size > 0 for size in arch.values()):
        raise ValueError(f'embed_dims and depth of an arch must be positive integers, got {arch}')
    return IsotropicArch(**arch)
