"""A checkpoint must fit the whole model that it is loaded into, not only its backbone.

mmengine loads what fits and warns about the rest. This project's tools ask here first.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..backbones.state import describe_misfit, shape_change

# where the parts of a model stand in its state dict that models of other tasks do not have
PARTS = {
    'segmentor': ('decode_head',),
    'detector': ('rpn_head', 'roi_head', 'bbox_head', 'mask_head'),
    'classifier': ('head',),
}


def kind_of(keys: Iterable[str]) -> str | None:
    """Whether keys of a state dict are of a 'segmentor', 'detector' or 'classifier'; None if they do not say."""
    first = {key.split('.')[0] for key in keys}
    return next((kind for kind, parts in PARTS.items() if first.intersection(parts)), None)


def check_fit(model: nn.Module, state_dict: dict[str, Tensor], transfer: bool = False) -> list[str]:
    """Load a state dict into a model and compare both sides.

    Args:
        model: is loaded into: a throwaway copy will do.
        state_dict: of the same kind of model.
        transfer: the classes may be others: layers outside backbone and neck may differ in their number of rows.

    Returns:
        With `transfer`, what those layers differ in; they are not loaded.

    Raises:
        ValueError: it is of a model for another task, or entries are missing, unknown, or of another shape; one
            line with both sides.
    """
    ours = model.state_dict()
    kind, wanted = kind_of(state_dict), kind_of(ours)
    if kind and wanted and kind != wanted:
        found = [part for part in PARTS[kind] if any(key.startswith(f'{part}.') for key in state_dict)]
        raise ValueError(
            f'it holds the weights of a {kind} ({", ".join(found)}), and {type(model).__name__} is a {wanted}: '
            f'expected weights of a {wanted} of the same config, or the config of that {kind}'
        )
    reshaped: list[str] = []
    try:
        left = model.load_state_dict(state_dict, strict=False)
    except RuntimeError:  # torch raises for shapes; here, because stock modules may convert entries as they load
        reshaped = [key for key in ours if key in state_dict and state_dict[key].shape != ours[key].shape]
        if not reshaped:
            raise
        rest = {key: value for key, value in state_dict.items() if key not in reshaped}
        left = model.load_state_dict(rest, strict=False)
    fresh = [key for key in reshaped if transfer and _differs_in_classes(key, state_dict[key], ours[key])]
    misfit = describe_misfit(
        missing=[
            key for key in left.missing_keys if key not in reshaped and not key.endswith('num_batches_tracked')
        ],
        extra=left.unexpected_keys,
        reshaped=[shape_change(key, state_dict[key], ours[key]) for key in reshaped if key not in fresh],
    )
    if misfit:
        raise ValueError(
            f'the checkpoint does not fit {type(model).__name__}: {misfit}; expected one of the same config, all '
            'of it (a backbone alone goes into model.backbone.init_cfg, as a Pretrained entry)'
        )
    return [shape_change(key, state_dict[key], ours[key]) for key in fresh]


def _differs_in_classes(key: str, theirs: Tensor, ours: Tensor) -> bool:
    """Whether only the rows differ. That of a layer inside a head changes the columns of the next one too."""
    return not key.startswith(('backbone.', 'neck.')) and ours.dim() > 0 and theirs.shape[1:] == ours.shape[1:]
